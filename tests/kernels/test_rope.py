"""Turning on by RoPE: the same as having been placed elsewhere, for any pairing of channels."""

import pytest
import torch

from semantic_video.kernels.rope import time_shifts, turn_

INTERLEAVED = slice(0, 6, 2), slice(1, 6, 2)
HALVES = slice(0, 3), slice(3, 6)


def placed(x, places, freqs, first, second):
    """RoPE one number at a time. x: [batch, tokens, heads, dim]; places: of each token; freqs: [heads, pairs]."""
    out = x.clone()
    pairs = list(zip(range(*first.indices(x.shape[-1])), range(*second.indices(x.shape[-1]))))
    for token, place in enumerate(places):
        for head in range(x.shape[2]):
            for number, (a, b) in enumerate(pairs):
                angle = place * freqs[head, number]
                p, q = x[:, token, head, a], x[:, token, head, b]
                out[:, token, head, a] = p * angle.cos() - q * angle.sin()
                out[:, token, head, b] = p * angle.sin() + q * angle.cos()
    return out


@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize(("first", "second"), [INTERLEAVED, HALVES])
@pytest.mark.parametrize(("frames", "scale"), [(5, 0.3), (1, 0.5), (4, 1.0)])
def test_turned_on_is_placed_there(first, second, frames, scale, per_head):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, frames * 2, 3, 8, dtype=torch.float64, generator=generator)  # the last two channels are space's
    freqs = torch.rand(3, 3, dtype=torch.float64, generator=generator)
    freqs = freqs if per_head else freqs[:1].expand(3, 3)
    places = [float(t) for t in range(frames) for _ in range(2)]
    got = placed(x, places, freqs, first, second)
    turn_(got, time_shifts(frames, scale, freqs if per_head else freqs[0]), first, second)
    torch.testing.assert_close(got, placed(x, [scale * t for t in places], freqs, first, second))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_it_turns_a_view_in_place_and_computes_in_full(dtype):
    x = torch.randn(1, 3 + 4 * 2, 2, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    freqs = torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)
    wide, got = x.double(), x.clone()
    turn_(got[:, 3:], time_shifts(4, 0.5, freqs), *INTERLEAVED)
    turn_(wide[:, 3:], time_shifts(4, 0.5, freqs), *INTERLEAVED)
    assert got.dtype == dtype and torch.equal(got[:, :3], x[:, :3]) and torch.equal(got[..., 6:], x[..., 6:])
    torch.testing.assert_close(got, wide.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)
