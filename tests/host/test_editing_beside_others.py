"""The editing layer beside other packs, the host's context windows, LoRAs, compilation and copies of a model."""

import logging
from functools import partial

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT
from semantic_video.host.editing import EDITORS
from semantic_video.host.schedule import Interval
from semantic_video.tests.host.edits import doubling, editing, passing
from semantic_video.tests.host.stacking import foreign, windows


@pytest.mark.parametrize("name", STRAIGHT)
@pytest.mark.parametrize("foreign_first", [True, False])
def test_a_foreign_override_set_before_or_after_is_kept(toys, name, foreign_first):
    model, shot, log = toys(name), Shot(name), []
    alone = model.clone()
    alone.model_options["transformer_options"]["optimized_attention_override"] = foreign(1.5, log)
    expected = sample(alone, shot)
    assert not torch.allclose(expected, sample(model, shot))
    calls = len(log)
    both = editing(alone, passing) if foreign_first else editing(model, passing)
    both.model_options["transformer_options"]["optimized_attention_override"] = foreign(1.5, log)
    assert torch.equal(expected, sample(both, shot))
    assert len(log) == 2 * calls


def test_a_foreign_wrapper_that_takes_the_slot_at_call_time_is_kept(toys):
    model, shot, log = toys("wan-t2v"), Shot("wan-t2v"), []

    def wrapper(executor, *args, **kwargs):
        options = args[5]
        previous = options.get("optimized_attention_override")
        own = foreign(1.5, log)

        def override(func, *a, **k):
            return own(partial(previous, func) if previous else func, *a, **k)

        return executor(*args[:5], {**options, "optimized_attention_override": override}, **kwargs)

    outside, inside = model.clone(), editing(model, doubling)
    outside.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "other pack", wrapper)
    inside.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "other pack", wrapper)
    assert torch.equal(sample(editing(outside, doubling), shot), sample(inside, shot))


@pytest.mark.parametrize("name", ["wan-t2v", "wan-i2v-clip", "hunyuan-t2v"])
@pytest.mark.parametrize("causal", [True, False])
def test_context_windows(toys, name, causal):
    model, shot, seen = windows(toys(name), causal_window_fix=causal), Shot(name), set()

    def watch(call, proceed):
        assert len(call.forward.frames) == call.forward.layout.frames
        seen.add(call.forward.frames)
        return proceed(call)

    assert torch.equal(sample(model, shot), sample(editing(model, watch), shot))
    assert (
        seen == {(0, 1, 2, 3), (2, 3, 4, 5, 6), (4, 5, 6, 7, 8)}
        if causal
        else {(0, 1, 2, 3), (3, 4, 5, 6), (5, 6, 7, 8)}
    )


def test_fp8_weights_and_loras(toys):
    """Weights in fp8, a LoRA before and one after the patch: the same picture as without the patch."""
    model, shot = toys("wan-t2v", dtype=torch.float8_e4m3fn), Shot("wan-t2v")

    def with_lora(of, key):
        of = of.clone()
        weight = of.model.state_dict()[key]
        of.add_patches({key: ("diff", (0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)),))})
        return of

    first, second = "diffusion_model.blocks.0.self_attn.q.weight", "diffusion_model.blocks.1.cross_attn.v.weight"
    plain = sample(with_lora(with_lora(model, first), second), shot)
    assert torch.isfinite(plain).all()
    assert not torch.equal(plain, sample(model, shot))
    assert torch.equal(plain, sample(with_lora(editing(with_lora(model, first), passing), second), shot))


def test_compiled_models_run_the_same(toys):
    """Dynamo may break its graph at the override, but must run it."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model, shot = editing(toys("wan-t2v"), doubling), Shot("wan-t2v", steps=2)
    expected = sample(model, shot)
    compiled = model.clone()
    set_torch_compile_wrapper(compiled, backend="eager")
    torch.testing.assert_close(sample(compiled, shot), expected, rtol=1e-3, atol=1e-4)


def test_clones_and_multigpu_clones_keep_the_patch(toys, monkeypatch):
    import comfy.multigpu

    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    patched = editing(model, doubling)
    expected = sample(patched, shot)
    assert torch.equal(expected, sample(patched.clone().clone(), shot))
    deep = patched.deepclone_multigpu(new_load_device=torch.device("cpu"))
    assert deep.model is not patched.model
    assert torch.equal(expected, sample(deep, shot))
    monkeypatch.setattr(
        comfy.model_management,
        "get_all_torch_devices",
        lambda exclude_current=False: [torch.device("cpu"), torch.device("cpu:0")],
    )
    many = comfy.multigpu.create_multigpu_deepclones(patched, 2)
    assert len(many.get_additional_models_with_key("multigpu")) == 1
    assert EDITORS in many.get_additional_models_with_key("multigpu")[0].model_options["transformer_options"]


def test_a_wrapper_listed_twice_acts_once(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    patched = editing(model, doubling)
    expected = sample(patched, shot)
    wrapper = patched.get_wrappers(WrappersMP.DIFFUSION_MODEL, "semantic_video")[0]
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "a careless copy", wrapper)
    assert torch.equal(expected, sample(patched, shot))


def test_a_model_class_swapped_by_another_pack_runs_unpatched_and_says_so(toys, caplog):
    from semantic_video.host import families

    patched, shot = editing(toys("wan-t2v"), doubling), Shot("wan-t2v")
    plain = sample(toys("wan-t2v"), shot)
    patched.model.diffusion_model.__class__ = type(
        "Foreign", (type(patched.model.diffusion_model),), {"__module__": "other_pack"}
    )
    assert not torch.equal(plain, sample(patched, shot)), "a subclass is still known"
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(families, "host_class", lambda module: "ReWanModel")
        assert torch.equal(plain, sample(patched, shot))
    assert "doubling did nothing: no self or text or image or joint attention" in caplog.text


def test_a_patch_that_never_acted_says_so_once(toys, caplog):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")

    def replaced(args, extra):
        return {"img": args["img"]}

    silent = editing(model, passing)
    for block in range(4):
        silent.set_model_patch_replace(replaced, "dit", "double_block", block)
    with caplog.at_level(logging.WARNING):
        sample(silent, shot)
    assert len(caplog.messages) == 1
    assert "passing did nothing" in caplog.text and "Another patch replaces" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        sample(editing(model, passing, interval=Interval(0.9, 0.95)), shot)
        sample(editing(model, passing), shot)
    assert len(caplog.messages) == 1
    assert "start and end leave out all steps" in caplog.text
