"""Which rows of the batch look at the prompted image: under every guider, and beside packs that cut the batch."""

import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_video_model import ConditioningSetAreaPercentageVideo

from nodes import ConditioningSetArea
from semantic_video.harness.sampling import Shot, conditioning, sample
from semantic_video.host import editing
from semantic_video.host.schedule import Interval
from semantic_video.patches import ssg_adapter
from semantic_video.patches.ssg_adapter import apply
from semantic_video.patches.ssg_guide import Guide
from semantic_video.tests.host.guiders import (
    CONDS,
    at,
    basic_guider,
    cfg_guider,
    dual_cfg_guider,
    dual_model_guider,
    perp_neg_guider,
    run,
)
from semantic_video.tests.host.nag import NAG_CONTEXT, with_nag
from semantic_video.tests.host.ssg_reference import IMAGE, NEAR, in_fp64, written
from semantic_video.tests.kernels.naive_ssg_branch import naive_branch


def outputs_by_name(model, make, words):
    """What the diffusion model gave at the first step, by the name of the conditioning."""
    texts = {
        (name, n): conditioning(Shot("wan-t2v"), n, seed)[0][0] for name, seed in CONDS.items() for n in {7, words}
    }
    seen = {}

    def probe(executor, x, timestep, context, *args, **kwargs):
        out = executor(x, timestep, context, *args, **kwargs)
        for text, row in zip(context, out):
            [(name, _)] = [key for key, known in texts.items() if torch.equal(known[0], text)]
            seen.setdefault(name, row)
        return out

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "probe", probe)
    run(make(model, words))
    return seen


@pytest.mark.parametrize("words", [7, 9], ids=["batched", "split"])
@pytest.mark.parametrize(
    ("make", "looking", "not_looking"),
    [
        (basic_guider, {"positive"}, set()),
        (cfg_guider, {"positive"}, {"negative"}),
        (dual_cfg_guider, {"positive", "middle"}, {"negative"}),
        (dual_model_guider, {"positive"}, {"negative"}),
        (perp_neg_guider, {"positive"}, {"negative", "empty"}),
    ],
)
def test_conditional_is_what_the_guider_does_not_call_negative(toys, adapters, make, looking, not_looking, words):
    model, adapter = toys("wan-t2v"), adapters()
    plain, only, both = (
        outputs_by_name(of, make, words)
        for of in (
            model,
            apply(model, adapter, Guide(IMAGE, passes="conditional")),
            apply(model, adapter, Guide(IMAGE)),
        )
    )
    assert set(plain) == looking | not_looking
    for name in plain:
        torch.testing.assert_close(only[name], (both if name in looking else plain)[name], **NEAR)
        assert not torch.allclose(plain[name], both[name], **NEAR)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_both_passes_beside_nag(toys, adapters, cfg):
    """Each attention to text that the other pack makes, with a part of the batch or with its own prompt, looks."""
    model, adapter, shot = toys("wan-t2v"), adapters(), Shot("wan-t2v", steps=1, cfg=cfg)
    module = in_fp64(adapter)

    def looking(q, k, v, heads, options):
        block = options["block_index"]
        y = written(*(x.unflatten(2, (heads, -1)) for x in (q, k, v)))
        if block in module.spec.blocks:
            rows = q.unflatten(2, (heads, -1)).double()
            y = y + 0.7 * torch.stack([naive_branch(module, block, row, IMAGE[0].double(), 2, 2) for row in rows])
        return y.to(q.dtype)

    beside = with_nag(model, NAG_CONTEXT)
    got = sample(apply(beside, adapter, Guide(IMAGE, strength=0.7)), shot)
    torch.testing.assert_close(got, sample(with_nag(model, NAG_CONTEXT, looking), shot), **NEAR)
    assert not torch.allclose(got, sample(beside, shot), **NEAR)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_conditional_beside_nag_is_refused(toys, adapters, cfg):
    patched = apply(with_nag(toys("wan-t2v"), NAG_CONTEXT), adapters(), Guide(IMAGE, passes="conditional"))
    steps = []
    with pytest.raises(RuntimeError, match=r"^SSG Adapter: another patch .* 'passes', 'both' works beside it"):
        sample(patched, Shot("wan-t2v", cfg=cfg), steps.append)
    assert not steps


def test_the_attentions_own_result_is_left_alone(toys, adapters):
    """A backend may hand out a buffer of its own: the branch must not be written into it."""
    kept = []

    def keeping(func, *args, **kwargs):
        out = func(*args, **kwargs)
        kept.append((out, out.clone()))
        return out

    model = toys("wan-t2v")
    model.model_options["transformer_options"]["optimized_attention_override"] = keeping
    plain = sample(model, Shot("wan-t2v", steps=1))
    kept.clear()
    looked = sample(apply(model, adapters(), Guide(IMAGE)), Shot("wan-t2v", steps=1))
    assert not torch.equal(looked, plain)
    assert kept
    assert all(torch.equal(now, then) for now, then in kept)


# ---- conditioning areas


def in_areas(model, areas, height=6, width=8):
    guider = basic_guider(model, 7)
    guider.set_conds(sum((at("positive", *area) for area in areas), []))
    return run(guider, height=height, width=width)


def made(monkeypatch):
    """{(frames, top, left): (prompt, weight)} of what the branch is told, filled as a run goes."""
    real, seen = ssg_adapter.prompt_and_weights, {}

    def watch(module, guide, call):
        crop = call.crop
        seen[crop.frames[0], crop.top, crop.left] = real(module, guide, call)
        return seen[crop.frames[0], crop.top, crop.left]

    monkeypatch.setattr(ssg_adapter, "prompt_and_weights", watch)
    return seen


def test_masks_and_places_are_those_of_the_area(toys, adapters, monkeypatch):
    """A video of 3 x 4 tokens of 2 x 2 cells; the naive crop is a slice of what the whole video is told."""
    model, seen = toys("wan-t2v"), made(monkeypatch)
    mask = torch.rand(9, 48, 64, generator=torch.Generator().manual_seed(3))
    patched = apply(model, adapters(), Guide(IMAGE + torch.arange(9).view(-1, 1, 1), mask, strength=0.7))
    run(basic_guider(patched, 7), height=6, width=8)
    [(whole, weights)] = seen.values()
    weights, places = weights.unflatten(1, (3, 4)), whole.queries.unflatten(0, (3, 4))
    seen.clear()
    late = (ConditioningSetAreaPercentageVideo, 0.5, 2 / 3, 4 / 9, 0.5, 1 / 3, 5 / 9)
    in_areas(patched, [(ConditioningSetArea, 32, 48, 0, 0), (ConditioningSetArea, 32, 48, 32, 0), late])
    parts = {
        (0, 0, 0): (slice(None), slice(None), slice(0, 2)),
        (0, 0, 4): (slice(None), slice(None), slice(2, 4)),
        (5, 2, 4): (slice(5, 9), slice(1, 3), slice(2, 4)),
    }
    assert set(seen) == set(parts)
    for key, (frames, rows, columns) in parts.items():
        prompt, weight = seen[key]
        torch.testing.assert_close(weight, weights[frames, rows, columns].flatten(1, 2))
        torch.testing.assert_close(prompt.queries, places[rows, columns].flatten(0, 1))
        torch.testing.assert_close(prompt.tokens, whole.tokens[frames])


def test_areas_in_one_batch_look_as_they_do_call_by_call(toys, adapters, monkeypatch):
    mask = torch.rand(1, 48, 64, generator=torch.Generator().manual_seed(4))
    patched = apply(toys("wan-t2v"), adapters(), Guide(IMAGE, mask))
    areas = [(ConditioningSetArea, 32, 48, x, 0) for x in (0, 32)]
    batched = in_areas(patched, areas)
    assert not torch.allclose(batched, in_areas(toys("wan-t2v"), areas), **NEAR)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, in_areas(patched, areas), **NEAR)


def test_a_mask_elsewhere_does_not_act(toys, adapters):
    """A mask on the right half, a conditioning on the left half."""
    model, mask = toys("wan-t2v"), torch.zeros(1, 48, 64)
    mask[:, :, 32:] = 1.0
    patched, left, right = (
        apply(model, adapters(), Guide(IMAGE, mask)),
        [(ConditioningSetArea, 32, 48, 0, 0)],
        [(ConditioningSetArea, 32, 48, 32, 0)],
    )
    assert torch.equal(in_areas(patched, left), in_areas(model, left))
    everywhere = apply(model, adapters(), Guide(IMAGE))
    torch.testing.assert_close(in_areas(patched, right), in_areas(everywhere, right), **NEAR)
    assert not torch.allclose(in_areas(patched, right), in_areas(model, right), **NEAR)


# ---- the weights that run are those of the model that runs


def zeroed(module):
    for parameter in module.parameters():
        parameter.zero_()


def test_a_copy_for_another_device_looks_with_its_own_weights(toys, adapters):
    adapter, shot = adapters(), Shot("wan-t2v", steps=1)
    patched = apply(toys("wan-t2v"), adapter, Guide(IMAGE))
    expected = sample(patched, shot)
    deep = patched.deepclone_multigpu(new_load_device=torch.device("cpu"))
    [copy] = deep.get_additional_models()
    assert copy.model is not adapter.model
    zeroed(adapter.model)
    assert torch.equal(sample(deep, shot), expected)
    assert torch.equal(sample(patched, shot), sample(toys("wan-t2v"), shot))


def test_adapters_of_two_intervals_are_both_attached(toys, adapters):
    first, second = adapters(), adapters()
    early, late = (Guide(IMAGE, interval=Interval(*part)) for part in ((0.0, 0.5), (0.5, 1.0)))
    both = apply(apply(toys("wan-t2v"), first, early), second, late)
    assert [patcher.model for patcher in both.get_additional_models()] == [first.model, second.model]
    whole = sample(apply(toys("wan-t2v"), first, Guide(IMAGE)), Shot("wan-t2v"))
    assert torch.equal(sample(both, Shot("wan-t2v")), whole)


def test_the_branch_is_exact_whatever_the_backend(toys, adapters, monkeypatch):
    """Sage gives NaN with few keys; the host's own hint keeps it away."""
    real, hints = editing.optimized_attention, []

    def watch(*args, **kwargs):
        hints.append(kwargs.get("low_precision_attention", True))
        return real(*args, **kwargs)

    monkeypatch.setattr(editing, "optimized_attention", watch)
    sample(apply(toys("wan-t2v"), adapters(), Guide(IMAGE)), Shot("wan-t2v", steps=1))
    assert hints
    assert not any(hints)
