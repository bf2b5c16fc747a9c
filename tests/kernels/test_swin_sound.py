"""Sound in the video's windows: equal to dense attention with the mask written out, token by token."""

import pytest
import torch

from semantic_video.kernels.swin_renderer import frames_beside, window_spans
from semantic_video.kernels.swin_sound import attention_by_frames, sound_cuts

HEADS, DIM = 2, 4


def seeded(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attend(q, k, v, mask):
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k) * DIM**-0.5
    logits = logits if mask is None else logits + mask
    return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v).flatten(2)


def test_tokens_belong_to_the_frame_in_whose_time_they_lie():
    """25 of sound a second, 25 video frames a second: one to the first latent frame, eight to the others."""
    assert sound_cuts([1, 8, 8, 8], 25) == [0, 1, 9, 17, 25]
    assert sound_cuts([1, 8, 8, 8], 25, before=3) == [3, 4, 12, 20, 28]
    assert sound_cuts([1, 8, 8], 34) == [0, 2, 18, 34], "50 a second"
    assert sound_cuts([8, 8], 3) == [0, 2, 3]


def frame_of(token, cuts):
    """None where it is of no frame."""
    return next((frame for frame in range(len(cuts) - 1) if cuts[frame] <= token < cuts[frame + 1]), None)


@pytest.mark.parametrize(("of_queries", "queries"), [([0, 1, 3, 5, 7], 7), ([2, 3, 5, 7, 9], 9), ([0, 2, 4, 6, 8], 11)])
@pytest.mark.parametrize(("of_keys", "keys"), [([0, 1, 3, 5, 7], 7), ([2, 4, 6, 8, 10], 13)])
@pytest.mark.parametrize(("anchors", "back"), [((), 0), ((0,), 0), ((1,), 1)])
@pytest.mark.parametrize("masked", [None, 1, 0])
def test_it_is_masked_attention(of_queries, queries, of_keys, keys, anchors, back, masked):
    """Four frames in windows of two; tokens in front and behind are of none. masked: queries of an additive mask."""
    q, k, v = (seeded(2, count, HEADS, DIM, seed=i) for i, count in enumerate((queries, keys, keys)))
    own = None if masked is None else seeded(1, 1, masked or queries, keys, seed=5)
    for shifted in (False, True):
        spans = window_spans(4, 2, shifted)
        beside = [frames_beside(span, anchors, back) for span in spans]
        allowed = torch.ones(queries, keys, dtype=torch.bool)
        for i in range(queries):
            for j in range(keys):
                mine, other = frame_of(i, of_queries), frame_of(j, of_keys)
                if mine is not None and other is not None:
                    at = next(n for n, (start, end) in enumerate(spans) if start <= mine < end)
                    allowed[i, j] = spans[at][0] <= other < spans[at][1] or other in beside[at]
        mask = torch.zeros(1, 1, queries, keys, dtype=torch.float64).masked_fill(~allowed, -torch.inf)
        expected = attend(q, k, v, mask if own is None else mask + own)
        found = attention_by_frames(q, k, v, attend, spans, beside, of_queries, of_keys, own)
        torch.testing.assert_close(found, expected)
        assert not torch.allclose(found, attend(q, k, v, own))


def test_a_window_without_any_sound_hears_all():
    q, k, v = (seeded(1, count, HEADS, DIM, seed=i) for i, count in enumerate((4, 1, 1)))
    found = attention_by_frames(q, k, v, attend, [(0, 2), (2, 4)], [(), ()], [0, 1, 2, 3, 4], [0, 1, 1, 1, 1])
    torch.testing.assert_close(found, attend(q, k, v, None))
