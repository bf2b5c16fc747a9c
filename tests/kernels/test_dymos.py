"""The mask, the merge and the mix are one softmax with a bias."""

from math import exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_video.kernels.dymos import GAMMA, MIN_SIGMA, attend_lse, damped, frame_mask, from_whole, merge
from semantic_video.kernels.steps import shifted_sigma, step_sigma


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def logits_of(q, k):
    return torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5


def naive(q, k, v, frame, gamma, mask=None):
    """exp(l - gamma on frame 0), summed key by key."""
    logits = logits_of(q, k)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    weights = logits.exp()
    for key in range(k.shape[1]):
        if frame.start <= key < frame.stop:
            weights[..., key] *= exp(-gamma)
    return torch.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdim=True), v)


def naive_lse(q, k, v):
    logits = logits_of(q, k)
    return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v), logits.logsumexp(-1).transpose(1, 2)[..., None]


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.floats(-2.0, 2.0), st.integers(0, 99))
def test_mask_merge_and_mix_are_the_formula(area, others, gamma, seed):
    keys, frame = area + others, slice(0, area)
    q, k, v = draw(2, 6, 2, 4, seed=seed), draw(2, keys, 2, 4, seed=seed + 1), draw(2, keys, 2, 4, seed=seed + 2)
    expected = naive(q, k, v, frame, gamma)
    mask = frame_mask(keys, frame, torch.full((2, 1, 1, 1), gamma, dtype=torch.float64))
    torch.testing.assert_close(
        torch.einsum("bhqk,bkhd->bqhd", (logits_of(q, k) + mask).softmax(-1), v), expected, rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(damped(q, k, v, frame, gamma, naive_lse), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(damped(q, k, v, frame, gamma, attend_lse), expected, rtol=1e-9, atol=1e-12)
    mass = logits_of(q, k).softmax(-1)[..., frame].sum(-1).transpose(1, 2)[..., None]
    whole, first = naive_lse(q, k, v)[0], naive_lse(q, k[:, frame], v[:, frame])[0]
    torch.testing.assert_close(from_whole(whole, first, mass, gamma), expected, rtol=1e-8, atol=1e-10)


def test_each_row_has_its_own_gamma_and_frame_0_may_lie_anywhere():
    q, k, v, frame = draw(2, 6, 2, 4), draw(2, 9, 2, 4, seed=1), draw(2, 9, 2, 4, seed=2), slice(3, 5)
    gamma = torch.tensor([0.0, 0.6], dtype=torch.float64).view(2, 1, 1, 1)
    mask = frame_mask(9, frame, gamma)
    assert mask.shape == (2, 1, 1, 9)
    assert not mask[0].any()
    out = torch.einsum("bhqk,bkhd->bqhd", (logits_of(q, k) + mask).softmax(-1), v)
    torch.testing.assert_close(out[:1], naive(q[:1], k[:1], v[:1], frame, 0.0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(out[1:], naive(q[1:], k[1:], v[1:], frame, 0.6), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["additive per key", "additive per query", "boolean per key", "boolean per query"])
def test_the_attention_s_own_mask_stays(kind):
    q, k, v, frame = draw(2, 6, 2, 4), draw(2, 9, 2, 4, seed=1), draw(2, 9, 2, 4, seed=2), slice(0, 3)
    own = draw(1, 1, 6 if "query" in kind else 1, 9, seed=3)
    if "boolean" in kind:
        own = own < 0.5
        own[..., -1] = True
    mask = frame_mask(9, frame, torch.full((2, 1, 1, 1), 0.6, dtype=torch.float64), own)
    out = torch.einsum("bhqk,bkhd->bqhd", (logits_of(q, k) + mask).softmax(-1), v)
    torch.testing.assert_close(out, naive(q, k, v, frame, 0.6, own), rtol=1e-9, atol=1e-12)


def test_merge_of_far_apart_sums_is_one_of_the_two():
    a, b = draw(1, 2, 1, 3), draw(1, 2, 1, 3, seed=1)
    far = torch.full((1, 2, 1, 1), 2000.0, dtype=torch.float64)
    torch.testing.assert_close(merge(a, far, b, -far), a)
    torch.testing.assert_close(merge(a, -far, b, far), b)


def test_halves_merge_by_sums_in_full_precision():
    """Attentions in bf16 come with sums of exponentials in fp32."""
    a, b = draw(1, 2, 1, 3).bfloat16(), draw(1, 2, 1, 3, seed=1).bfloat16()
    lse_a, lse_b = draw(1, 2, 1, 1, seed=2).float(), draw(1, 2, 1, 1, seed=3).float()
    part = (lse_a.exp() / (lse_a.exp() + lse_b.exp())).double()
    got = merge(a, lse_a, b, lse_b)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), part * a.double() + (1 - part) * b.double(), rtol=2**-6, atol=2**-7)


def test_published_steps_as_noise_levels():
    """Steps 0 to 7 of 40 at shift 5: the eighth begins at 0.9524, the seventh at 0.9593."""
    assert GAMMA == 0.6
    assert pytest.approx(4.0 / 4.2) == MIN_SIGMA
    official = [5 * s / (1 + 4 * s) for s in (1 - i / 40 for i in range(40))]
    assert [i for i, sigma in enumerate(official) if sigma > MIN_SIGMA + 1e-5] == list(range(8))
    assert step_sigma(0, 40, 5.0) == 1.0
    assert step_sigma(40, 40, 5.0) == 0.0
    assert shifted_sigma(0.3, 1.0) == pytest.approx(0.7)
