"""The editing layer, for every family and attention it claims to know."""

import gc
import logging
import weakref
from functools import partial

import comfy.context_windows
import comfy.ldm.modules.attention as host_attention
import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT, TOYS
from semantic_video.host.editing import EDITORS, edit_attention
from semantic_video.host.forward import RUN
from semantic_video.host.schedule import Interval

ALL_SITES = ("self", "text", "image", "joint")


def passing(call, proceed):
    return proceed(call)


def doubling(call, proceed):
    return 2 * proceed(call)


def adding(call, proceed):
    return proceed(call) + 0.1


def editing(model, *edits, **options):
    """`model` with the edits applied in order, each under its own name."""
    for edit in edits:
        model = edit_attention(model, edit.__name__, edit, **{"sites": ALL_SITES} | options)
    return model


@pytest.mark.parametrize("name", TOYS)
def test_an_editor_that_changes_nothing_is_the_host(toys, name):
    model, shot = toys(name), Shot(name)
    seen = []

    def watch(call, proceed):
        out = proceed(call)
        seen.append((call.site.kind, call.site.block))
        assert out.shape == (call.q.shape[0], call.q.shape[1], call.q.shape[2] * call.q.shape[3])
        layout = call.forward.layout
        assert (layout.frames, layout.height * layout.width) == (9, 16 if name == "hunyuan-1.5" else 4)
        if call.site.kind in ("self", "joint"):
            assert (
                call.before + layout.frames * layout.height * layout.width + call.after
                == call.q.shape[1]
                == call.k.shape[1]
            )
        return out

    plain = sample(model, shot)
    assert torch.isfinite(plain).all()
    assert torch.equal(plain, sample(editing(model, watch), shot))
    family = {"wan": {"self", "text"}, "hun": {"joint"}}[name[:3]] | (
        {"image"} if "clip_vision" in TOYS[name].conds else set()
    )
    assert {kind for kind, _ in seen} == family
    config = TOYS[name].config
    assert {block for _, block in seen} == set(
        range(config["num_layers"] if name[:3] == "wan" else config["depth"] + config["depth_single_blocks"])
    )


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("wan-reference", 4, 0),
        ("wan-phantom", 0, 8),
        ("wan-in-context", 0, 2 + 12),
        ("hunyuan-i2v", 7 + 4, 0),
        ("hunyuan-1.5", 6 + 3 + 7, 0),
    ],
)
def test_extra_tokens_are_told_from_video(toys, name, before, after):
    seen = set()

    def watch(call, proceed):
        if call.site.kind != "text" and call.forward.rows[0] == 0:  # the positive prompt
            seen.add((call.before, call.after))
        return proceed(call)

    sample(editing(toys(name), watch), Shot(name, negative_words=11))
    assert seen == {(before, after)}


@pytest.mark.parametrize("words", [36, 5])
def test_sites_are_told_apart_where_lengths_coincide(toys, words):
    """9 x 2 x 2 = 36 video tokens beside 36 text tokens; 5 image tokens beside 5 text tokens."""
    order = []

    def watch(call, proceed):
        order.append(call.site.kind)
        return proceed(call)

    sample(editing(toys("wan-i2v-clip"), watch), Shot("wan-i2v-clip", words=words, negative_words=words, steps=1))
    assert order == ["self", "image", "text"] * 4


@pytest.mark.parametrize("name", STRAIGHT)
def test_edits_act_and_the_parent_stays(toys, name):
    model, shot = toys(name), Shot(name)
    before = sample(model, shot)
    assert not torch.allclose(before, sample(editing(model, doubling), shot))
    assert torch.equal(before, sample(model, shot))
    assert EDITORS not in model.model_options["transformer_options"]
    assert not model.wrappers.get(WrappersMP.DIFFUSION_MODEL)


@pytest.mark.parametrize("name", STRAIGHT)
def test_two_editors_chain_in_both_orders(toys, name):
    model, shot = toys(name), Shot(name)

    def doubling_then_adding(call, proceed):
        return 2 * proceed(call) + 0.1

    def adding_then_doubling(call, proceed):
        return 2 * (proceed(call) + 0.1)

    assert torch.equal(
        sample(editing(model, doubling, adding), shot), sample(editing(model, doubling_then_adding), shot)
    )
    assert torch.equal(
        sample(editing(model, adding, doubling), shot), sample(editing(model, adding_then_doubling), shot)
    )


def test_splitting_editors_run_innermost_whatever_the_order(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    one = edit_attention(editing(model, doubling), "adding", adding, sites=ALL_SITES, splits="windows")
    other = editing(edit_attention(model, "adding", adding, sites=ALL_SITES, splits="windows"), doubling)
    assert torch.equal(sample(one, shot), sample(other, shot))


def test_the_same_technique_twice_acts_once(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    twice = edit_attention(edit_attention(model, "x", adding, sites=ALL_SITES), "x", doubling, sites=ALL_SITES)
    assert torch.equal(sample(twice, shot), sample(editing(model, doubling), shot))
    assert len(twice.get_wrappers(WrappersMP.DIFFUSION_MODEL, "semantic_video")) == 1


def foreign(factor, log):
    def override(func, *args, **kwargs):
        log.append(factor)
        return func(*args, **kwargs) * factor

    return override


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


@pytest.mark.parametrize("name", STRAIGHT)
def test_batched_and_split_cfg_agree(toys, name, monkeypatch):
    model, shot = toys(name), Shot(name, words=7, negative_words=7)
    rows = []

    def positive_only(call, proceed):
        rows.append(call.forward.rows)
        weight = torch.tensor([1.5 if row == 0 else 1.0 for row in call.forward.rows]).view(-1, 1, 1)
        return proceed(call) * weight

    batched = sample(editing(model, positive_only), shot)
    assert {sorted(r) == [0, 1] for r in map(list, rows)} == {True}
    rows.clear()
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    split = sample(editing(model, positive_only), shot)
    assert set(rows) == {(0,), (1,)}
    torch.testing.assert_close(batched, split, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "rows"), [({"negative_words": 5}, {(0,), (1,)}), ({"cfg": 1.0}, {(0,)}), ({"batch": 2}, {(1, 1, 0, 0)})]
)
def test_rows_follow_the_host_s_grouping(toys, changes, rows):
    seen = set()

    def watch(call, proceed):
        seen.add(call.forward.rows)
        assert len(call.forward.rows) == call.q.shape[0]
        return proceed(call)

    model, shot = toys("wan-t2v"), Shot("wan-t2v", **changes)
    assert torch.equal(sample(model, shot), sample(editing(model, watch), shot))
    assert seen == rows


def windows(model, length=4, overlap=1, **options):
    model = model.clone()
    model.model_options["context_handler"] = comfy.context_windows.IndexListContextHandler(
        comfy.context_windows.get_matching_context_schedule("standard_static"),
        comfy.context_windows.get_matching_fuse_method("pyramid"),
        context_length=length,
        context_overlap=overlap,
        dim=2,
        **options,
    )
    comfy.context_windows.create_prepare_sampling_wrapper(model)
    return model


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", STRAIGHT)
def test_half_precision(toys, name, dtype):
    model, shot = toys(name, dtype=dtype), Shot(name)
    plain = sample(model, shot)
    assert torch.isfinite(plain).all()
    assert torch.equal(plain, sample(editing(model, passing), shot))


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


def test_intervals_are_noise_levels(toys):
    """Two halves of a schedule on two samplers (Wan 2.2) act where the whole schedule does."""
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=8)
    seen = []

    def watch(call, proceed):
        seen.append((call.forward.step, round(call.forward.sigma, 4)))
        return proceed(call)

    patched = editing(model, watch, interval=Interval(0.25, 0.75))
    sample(patched, shot)
    whole = sorted({sigma for _, sigma in seen}, reverse=True)
    assert [step for step, _ in sorted(set(seen))] == [2, 3, 4, 5]
    seen.clear()
    sample(patched, shot.but(last_step=4))
    sample(patched, shot.but(start_step=4))
    assert sorted({sigma for _, sigma in seen}, reverse=True) == whole
    assert sample(editing(model, doubling, interval=Interval(0.5, 0.5)), shot).equal(sample(model, shot))


def test_the_schedule_is_that_of_the_model_sampled(toys):
    """A shift node after ours moves the interval with it."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    seen = set()

    def watch(call, proceed):
        seen.add(call.forward.step)
        return proceed(call)

    patched = editing(toys("wan-t2v"), watch, interval=Interval(0.0, 0.5))
    sample(ModelSamplingSD3().patch(patched, shift=1.0)[0], Shot("wan-t2v", steps=8))
    assert seen == {0, 1, 2, 3}


def test_second_order_samplers_and_inactive_steps(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", sampler="heun", steps=4)
    steps = []

    def watch(call, proceed):
        steps.append(call.forward.step)
        return proceed(call)

    sample(editing(model, watch), shot)
    assert steps == sorted(steps)
    assert set(steps) <= {0, 1, 2, 3}
    override_seen = []

    def probe(executor, *args, **kwargs):
        override_seen.append("optimized_attention_override" in args[5])
        return executor(*args, **kwargs)

    late = editing(model, passing, interval=Interval(0.5, 1.0))
    late.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "probe", probe)
    sample(late, Shot("wan-t2v", steps=4))
    assert override_seen == [False, False, True, True], "an inactive step must be the host's own path"


@pytest.mark.skipif(
    not hasattr(host_attention, "AttentionTensorContainer"), reason="this host has no attention containers"
)
def test_attention_containers_of_newer_hosts(toys, monkeypatch):
    """Models that hand q, k, v over in containers still reach the editors."""
    import comfy.ldm.wan.model as wan

    plain = wan.optimized_attention

    def containing(q, k, v, *args, **kwargs):
        return plain(*map(host_attention.AttentionTensorContainer, (q, k, v)), *args, **kwargs)

    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    expected = sample(editing(model, doubling), shot)
    monkeypatch.setattr(wan, "optimized_attention", containing)
    assert torch.equal(expected, sample(editing(model, doubling), shot))


@pytest.mark.parametrize("by_head", [False, True])
@pytest.mark.parametrize("by_head_out", [False, True])
def test_every_layout_reaches_the_editor_alike(toys, by_head, by_head_out, monkeypatch):
    import comfy.ldm.wan.model as wan

    plain = wan.optimized_attention

    def relaid(q, k, v, heads, transformer_options, **kwargs):
        if by_head:
            q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        out = plain(q, k, v, heads, None, None, by_head, by_head_out, transformer_options=transformer_options, **kwargs)
        return out.transpose(1, 2).flatten(2) if by_head_out else out

    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    expected = sample(editing(model, doubling), shot)
    monkeypatch.setattr(wan, "optimized_attention", relaid)
    torch.testing.assert_close(expected, sample(editing(model, doubling), shot), rtol=1e-5, atol=1e-5)


def test_a_cancelled_run_leaves_nothing_behind(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    patched = editing(model, doubling)
    expected = sample(patched, shot)

    def cancel(*args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(patched, shot, callback=cancel)
    assert RUN not in patched.model_options["transformer_options"]
    assert torch.equal(expected, sample(patched, shot))


def test_nothing_outlives_a_run(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=1)
    runs = weakref.WeakSet()

    def watch(call, proceed):
        runs.add(call.forward)
        return proceed(call)

    def objects_kept(of):
        sample(of, shot)
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(50):
            sample(of, shot)
        gc.collect()
        return len(gc.get_objects()) - before

    patched = editing(model, watch)
    host, ours = objects_kept(model.clone()), objects_kept(patched)  # the host itself keeps a few for any clone
    assert len(runs) == 0
    assert ours <= host + 10, f"{ours} objects kept after 50 runs, {host} without the patch"
    assert set(patched.model_options) == set(model.model_options)


def test_clones_and_multigpu_clones_keep_the_patch(toys, monkeypatch):
    import comfy.model_management
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


def test_models_of_no_known_family_are_refused(toys):
    from comfy.ldm.hunyuan_video.model import HunyuanVideo
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.ldm.wan.model import SCAILWanModel
    from comfy.ops import disable_weight_init

    unet = UNetModel(
        image_size=8,
        in_channels=4,
        model_channels=32,
        out_channels=4,
        num_res_blocks=[1],
        num_heads=1,
        channel_mult=(1,),
        operations=disable_weight_init,
        use_spatial_transformer=True,
        context_dim=8,
        transformer_depth=[1],
        transformer_depth_output=[1, 1],
        transformer_depth_middle=-2,
    )
    # HunyuanImage
    image_dit = HunyuanVideo(
        **TOYS["hunyuan-t2v"].config | {"patch_size": [2, 2], "axes_dim": [64, 64]}, operations=disable_weight_init
    )
    pose = SCAILWanModel(
        **{k: v for k, v in TOYS["wan-t2v"].config.items() if k != "model_type"} | {"in_dim": 20},
        operations=disable_weight_init,
    )
    for module in (unet, image_dit, pose):
        model = toys("wan-t2v")
        model.model.diffusion_model = module
        with pytest.raises(ValueError, match=rf"model: {type(module).__name__} .*Connect one of: Wan.*HunyuanVideo"):
            editing(model, passing)


def test_a_wrapper_listed_twice_acts_once(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    patched = editing(model, doubling)
    expected = sample(patched, shot)
    wrapper = patched.get_wrappers(WrappersMP.DIFFUSION_MODEL, "semantic_video")[0]
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "a careless copy", wrapper)
    assert torch.equal(expected, sample(patched, shot))


def test_a_model_called_without_a_sampler_is_edited_too(toys):
    model = toys("wan-t2v")
    comfy.model_management.load_models_gpu([model])
    steps = []

    def watch(call, proceed):
        steps.append(call.forward.step)
        return 2 * proceed(call)

    def call(of):
        options = {**of.model_options["transformer_options"], "wrappers": of.wrappers}
        return of.model.diffusion_model(
            torch.ones(1, 16, 3, 4, 4), torch.ones(1), torch.ones(1, 5, 32), transformer_options=options
        )

    plain = call(model)
    assert not torch.allclose(plain, call(editing(model, watch)))
    assert set(steps) == {0}
    rows = []

    def note_rows(call, proceed):
        rows.append(call.forward.rows)
        return proceed(call)

    patched = editing(model, note_rows)
    for order in ([0, 1], [1, 0], [0], [1]):
        options = {
            **patched.model_options["transformer_options"],
            "wrappers": patched.wrappers,
            "cond_or_uncond": order,
        }
        patched.model.diffusion_model(
            torch.ones(4, 16, 3, 4, 4), torch.ones(4), torch.ones(4, 5, 32), transformer_options=options
        )
    assert list(dict.fromkeys(rows)) == [(0, 0, 1, 1), (1, 1, 0, 0), (0,) * 4, (1,) * 4]
    assert torch.equal(plain, call(editing(model, watch, interval=Interval(0.0, 0.5))))


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


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_masks_of_any_rank_reach_the_editor_with_four_axes(toys, axes, monkeypatch):
    """[queries, keys], [batch, queries, keys], [batch, heads, queries, keys]: a mask of its own for each batch row."""
    import comfy.ldm.wan.model as wan

    plain, seen = wan.optimized_attention, []

    def masked(q, k, v, heads, **kwargs):
        batch = 1 if axes == 2 else len(q)
        mask = torch.rand(batch, q.shape[1], k.shape[1], generator=torch.Generator().manual_seed(5)) > 0.5
        mask[..., 0] = True
        mask = torch.zeros(mask.shape).masked_fill(~mask, -1e4)
        mask = {2: lambda: mask[0], 3: lambda: mask, 4: lambda: mask[:, None].repeat(1, heads, 1, 1)}[axes]()
        return plain(q, k, v, heads=heads, mask=mask, **kwargs)

    def written(call, proceed):
        out = proceed(call)
        seen.append(call.mask.shape)
        q, k, v = (x.double().transpose(1, 2) for x in (call.q, call.k, call.v))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        own = ((scores + call.mask).softmax(-1) @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(out, own.to(out.dtype), rtol=1e-4, atol=1e-4)
        return proceed(call.replace(mask=call.mask.clone()))

    monkeypatch.setattr(wan, "optimized_attention", masked)
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=1)
    assert torch.equal(sample(editing(model, written), shot), sample(model, shot))
    assert {shape[:2] for shape in seen} == {{2: (1, 1), 3: (2, 1), 4: (2, 2)}[axes]}
