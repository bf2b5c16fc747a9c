"""Which rows of the batch look at the prompted image: under every guider, and beside packs that cut the batch."""

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from semantic_video.harness.sampling import Shot, conditioning, sample
from semantic_video.patches.ssg_adapter import Guide, apply
from semantic_video.tests.host.test_forward import (
    CONDS,
    NAG_CONTEXT,
    basic_guider,
    cfg_guider,
    dual_cfg_guider,
    dual_model_guider,
    perp_neg_guider,
    run,
    with_nag,
)
from semantic_video.tests.host.test_ssg_adapter import IMAGE, NEAR, in_fp64, written
from semantic_video.tests.kernels.test_ssg_adapter import naive_branch


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
