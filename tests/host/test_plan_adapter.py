"""The Plan Adapter on real ComfyUI: the formula, where it acts, and what it leaves alone."""

import comfy.ldm.flux.layers
import comfy.model_management
import comfy.samplers
import pytest
import torch
from safetensors.torch import save_file

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT
from semantic_video.harness.toy_plans import toy_plan, write_toy_plan_adapter
from semantic_video.host.editing import edit_attention
from semantic_video.host.schedule import Interval
from semantic_video.kernels.plan_adapter import Place, PlanAdapter, initialise
from semantic_video.patches import plan_adapter
from semantic_video.patches.plan_adapter import PlanGuide, apply
from semantic_video.patches.plan_weights import load_plan_adapter
from semantic_video.patches.swin_renderer import SwinRenderer
from semantic_video.patches.swin_renderer import apply as swin
from semantic_video.tests.host.naive import attention as naive_attention
from semantic_video.tests.host.naive import in_wan
from semantic_video.tests.host.stacking import foreign, windows
from semantic_video.tests.kernels.test_plan_adapter import naive as naive_branch

BLOCKS = {"wan-t2v": (0, 2), "wan-i2v-clip": (0, 2), "hunyuan-t2v": (1, 3), "hunyuan-1.5": (0, 3)}
PLAN = toy_plan()
NEAR = {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture
def adapters(tmp_path):
    def load(name="wan-t2v", dtype=None, **changes):
        path = tmp_path / f"{name}.safetensors"
        write_toy_plan_adapter(path, name, **{"blocks": BLOCKS.get(name, (0, 2))} | changes)
        return load_plan_adapter(path, dtype)

    return load


def written(model, adapter, shot, monkeypatch, strength=0.7):
    """The sample of a model in whose attention the formula is written out, query by query in fp64; 5 latent frames."""
    module = PlanAdapter(adapter.model.spec, dtype=torch.float64)
    module.load_state_dict({key: value.double() for key, value in adapter.model.state_dict().items()})
    side = 2  # tokens
    plan = PLAN.tokens[None].double()
    place = Place(tuple(range(5)), 0, 0, side, side)

    def branch(block, q):
        rows = [naive_branch(module, block, row[None].double(), plan, place)[0] for row in q]
        return strength * torch.stack(rows)

    def in_hunyuan(q, k, v, pe, mask=None, transformer_options=None):
        q, k = comfy.ldm.flux.math.apply_rope(q, k, pe)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        y = naive_attention(q, k, v, mask).flatten(2)
        single = transformer_options["block_type"] == "single"
        block = transformer_options["block_index"] + single * len(model.model.diffusion_model.double_blocks)
        if block in module.spec.blocks:
            video = q.shape[1] - 5 * side * side
            y[:, video:] += branch(block, q[:, video:])
        return y.to(q.dtype)

    def in_wan_block(kind, q, k, v, options):
        y = naive_attention(q, k, v)
        if kind == "self" and options["block_index"] in module.spec.blocks:
            y = y + branch(options["block_index"], q).unflatten(2, (q.shape[2], -1))
        return y

    with monkeypatch.context() as patch:
        if shot.toy.startswith("hunyuan"):
            patch.setattr(comfy.ldm.flux.layers, "attention", in_hunyuan)
        else:
            in_wan(patch, in_wan_block)
        return sample(model, shot)


@pytest.mark.parametrize("name", STRAIGHT)
def test_it_is_the_formula(toys, adapters, name, monkeypatch):
    cells = 2 if name == "hunyuan-1.5" else 4
    model, adapter = toys(name), adapters(name)
    shot = Shot(name, frames=5, height=cells, width=cells, steps=1)
    with torch.no_grad():
        expected = written(model, adapter, shot, monkeypatch)
    got = sample(apply(model, adapter, PlanGuide(PLAN, 0.7)), shot)
    torch.testing.assert_close(got, expected, **NEAR)
    assert not torch.allclose(got, sample(model, shot), rtol=1e-2, atol=1e-2), "the branch must matter here"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", STRAIGHT)
def test_a_new_adapter_is_the_frozen_model_bit_for_bit(toys, adapters, tmp_path, name, dtype):
    spec = adapters(name).model.spec
    fresh = PlanAdapter(spec)
    initialise(fresh)
    save_file(fresh.state_dict(), tmp_path / "fresh.safetensors", spec.metadata)
    model, shot = toys(name, dtype=dtype), Shot(name, steps=2)
    patched = apply(model, load_plan_adapter(tmp_path / "fresh.safetensors"), PlanGuide(PLAN, 2.0))
    assert torch.equal(sample(model, shot), sample(patched, shot))


@pytest.mark.parametrize("name", STRAIGHT)
def test_strength_zero_is_the_model_and_the_parent_stays(toys, adapters, name):
    model, shot, adapter = toys(name), Shot(name, steps=2), adapters(name)
    before = sample(model, shot)
    assert apply(model, adapter, PlanGuide(PLAN, 0.0)) is model
    half, full = (sample(apply(model, adapter, PlanGuide(PLAN, s)), shot) for s in (0.5, 1.0))
    assert 0 < (half - before).norm() < (full - before).norm()
    assert torch.equal(before, sample(model, shot))
    assert torch.equal(before, sample(apply(model, adapter, PlanGuide(PLAN, interval=Interval(0.5, 0.5))), shot))
    assert not model.get_additional_models_with_key("plan_adapter")


@pytest.mark.parametrize(
    "name", ["wan-5b", "wan-vace", "wan-camera", "wan-reference", "wan-phantom", "wan-in-context", "hunyuan-i2v"]
)
def test_every_variant_whose_width_fits(toys, adapters, name, monkeypatch):
    model, shot, adapter, looks = toys(name), Shot(name, steps=1, negative_words=9), adapters(name), []
    plain, real = sample(model, shot), plan_adapter.branch_parts

    def watch(module, block, q, *rest):
        looks.append((block, q.shape[1]))
        return real(module, block, q, *rest)

    monkeypatch.setattr(plan_adapter, "branch_parts", watch)
    result = sample(apply(model, adapter, PlanGuide(PLAN)), shot)
    assert torch.isfinite(result).all()
    assert not torch.equal(plain, result)
    assert looks == [(0, 36), (2, 36)] * 2, "video queries only, once per block; not VACE's own blocks"


def positions_of(model, adapter, shot, monkeypatch):
    """The places of the groups of the first call of each part of the video, by its frames."""
    seen, real = {}, plan_adapter.groups

    def watch(spec, grid, first_frames, place):
        seen.setdefault(place.frames, (place, real(spec, grid, first_frames, place)))
        return seen[place.frames][1]

    with monkeypatch.context() as patch:
        patch.setattr(plan_adapter, "groups", watch)
        sample(apply(model, adapter, PlanGuide(PLAN)), shot)
    return seen


@pytest.mark.parametrize("causal", [True, False])
def test_context_windows_see_their_part(toys, adapters, causal, monkeypatch):
    model = windows(toys("wan-t2v"), causal_window_fix=causal)
    seen = positions_of(model, adapters(), Shot("wan-t2v", steps=1), monkeypatch)
    whole = positions_of(toys("wan-t2v"), adapters(), Shot("wan-t2v", steps=1), monkeypatch)[tuple(range(9))][1]
    starts = {f: group.start for group in whole for f in range(group.first, group.last)}
    assert len(seen) == 3
    for frames, (_, found) in seen.items():
        own = {frames[i]: group.start for group in found for i in range(group.first, group.last)}
        assert own == {frame: starts[frame] for frame in frames}


def test_places_follow_the_model_s_own_rope(toys, adapters, monkeypatch):
    model, shot = toys("wan-reference"), Shot("wan-reference", steps=1)
    [(place, _)] = positions_of(model, adapters(), shot, monkeypatch).values()
    assert place.origin == (1.0, 0.0, 0.0), "the reference is the first frame of the model's axis"
    turned = toys("wan-t2v").clone()
    turned.set_model_rope_options(2.0, 3.0, 1.0, 0.0, 0.25, 0.5)
    [(place, _)] = positions_of(turned, adapters(), Shot("wan-t2v", steps=1), monkeypatch).values()
    assert (place.origin, place.scale) == ((0.5, 0.0, 3.0), (0.25, 1.0, 2.0))
    [(place, _)] = positions_of(
        toys("hunyuan-i2v"), adapters("hunyuan-i2v"), Shot("hunyuan-i2v", steps=1), monkeypatch
    ).values()
    assert (place.origin, place.scale) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


# ---- beside others


@pytest.mark.parametrize("name", STRAIGHT)
def test_it_stacks_with_windows_in_both_orders(toys, adapters, name):
    model, shot, adapter = toys(name), Shot(name, steps=2), adapters(name)
    config, guide = SwinRenderer(window=4), PlanGuide(PLAN)
    result = sample(swin(apply(model, adapter, guide), config), shot)
    assert torch.equal(result, sample(apply(swin(model, config), adapter, guide), shot))
    for alone in (swin(model, config), apply(model, adapter, guide)):
        assert not torch.allclose(result, sample(alone, shot), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", STRAIGHT)
def test_windows_change_nothing_of_what_the_branch_adds(toys, adapters, name):
    """In block 0 of the first step the queries are the same with windows and without; so is what is added."""
    model, shot, adapter = toys(name), Shot(name, steps=1, cfg=1.0), adapters(name, blocks=(0,))
    found = []
    for base in (model, swin(model, SwinRenderer(window=4))):
        outs = []

        def watch(call, proceed, outs=outs):
            out = proceed(call)
            if call.site.block == 0:
                outs.append(out)
            return out

        inner = edit_attention(base, "inner", watch, sites=plan_adapter.SITES)
        sample(edit_attention(apply(inner, adapter, PlanGuide(PLAN)), "outer", watch, sites=plan_adapter.SITES), shot)
        found.append(outs[1] - outs[0])
    assert found[0].any()
    torch.testing.assert_close(*found, **NEAR)


@pytest.mark.parametrize("passes", ["both", "conditional"])
@pytest.mark.parametrize("name", STRAIGHT)
def test_batched_and_split_cfg_agree(toys, adapters, name, passes, monkeypatch):
    model, shot = toys(name), Shot(name, steps=2)
    patched = apply(model, adapters(name), PlanGuide(PLAN, passes=passes))
    batched = sample(patched, shot)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, sample(patched, shot), **NEAR)


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_a_foreign_override_in_both_orders_sees_only_the_model_s_attention(toys, adapters, name):
    model, shot, adapter = toys(name), Shot(name, steps=1), adapters(name)
    results, counts = [], []
    for order in ("before", "behind", "alone"):
        log = []
        patched = apply(model, adapter, PlanGuide(PLAN)) if order == "behind" else model.clone()
        patched.model_options["transformer_options"]["optimized_attention_override"] = foreign(1.5, log)
        results.append(sample(apply(patched, adapter, PlanGuide(PLAN)) if order == "before" else patched, shot))
        counts.append(len(log))
    assert torch.equal(results[0], results[1])
    assert not torch.allclose(results[0], results[2], rtol=1e-2, atol=1e-2)
    assert len(set(counts)) == 1


def test_the_host_loads_the_adapter(toys, adapters):
    adapter = adapters()
    sample(apply(toys("wan-t2v"), adapter, PlanGuide(PLAN)).clone(), Shot("wan-t2v", steps=1))
    loaded = [one.model.model for one in comfy.model_management.current_loaded_models if one.model is not None]
    assert any(module is adapter.model for module in loaded)
