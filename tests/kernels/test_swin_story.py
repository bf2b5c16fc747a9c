"""Windows that follow a story, look back and share calls, against masked dense attention."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_video.kernels.swin_renderer import frames_beside, story_spans, window_groups, windowed_attention
from semantic_video.tests.kernels.test_swin_renderer import allowed, attend


def seen(frames, area, spans, anchors, look_back, before, after, extra_keys):
    mask = allowed(frames, area, spans, anchors, before, after, extra_keys)
    for start, end in spans:
        rows = slice(before + start * area, before + end * area)
        mask[rows, before + max(0, start - look_back) * area : before + start * area] = True
    return mask


@settings(deadline=None, max_examples=120)
@given(st.data())
def test_windows_of_any_lengths_that_look_back(data):
    frames, batch, heads, area = (data.draw(st.integers(1, n)) for n in (24, 2, 2, 3))
    before, after, extra_keys, look_back = (data.draw(st.integers(0, n)) for n in (3, 2, 2, 5))
    starts = tuple(sorted(data.draw(st.sets(st.integers(0, 30), max_size=5))))
    spans = story_spans(tuple(range(frames)), starts, data.draw(st.integers(1, 8)))
    anchors = tuple(sorted(data.draw(st.sets(st.integers(0, frames - 1), max_size=4))))
    size = before + frames * area + after
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    q, k, v = (
        torch.randn(batch, n, heads, 4, dtype=torch.float64, generator=generator)
        for n in (size, size + extra_keys, size + extra_keys)
    )
    mask = dense = seen(frames, area, spans, anchors, look_back, before, after, extra_keys)
    if data.draw(st.booleans()):
        mask = torch.rand(batch, 1, size, size + extra_keys, generator=generator) < 0.8
        mask[..., :size] |= torch.eye(size, dtype=torch.bool)  # no row without a key
        dense = mask & dense
    else:
        mask = None
    tokens_a_call = data.draw(st.integers(0, 60))
    out = windowed_attention(q, k, v, attend, spans, anchors, before, after, mask, look_back, tokens_a_call)
    torch.testing.assert_close(out, attend(q, k, v, dense), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("frames", "starts", "longest", "spans"),
    [
        (range(12), (), 21, [(0, 12)]),
        (range(12), (6,), 21, [(0, 6), (6, 12)]),
        (range(12), (6, 20), 21, [(0, 6), (6, 12)]),
        (range(12), (0, 6), 21, [(0, 6), (6, 12)]),
        (range(12), (7,), 4, [(0, 3), (3, 7), (7, 9), (9, 12)]),
        (range(24), (), 6, [(0, 6), (6, 12), (12, 18), (18, 24)]),
        (range(10), (), 4, [(0, 3), (3, 6), (6, 10)]),
        (range(30, 38), (6, 32), 21, [(0, 2), (2, 8)]),  # a context window
        ((5, *range(6, 12)), (6, 9), 21, [(0, 1), (1, 4), (4, 7)]),  # with the frame before it
        ((0, 2, 4, 6, 8), (3, 4), 21, [(0, 2), (2, 5)]),  # every other frame: a part of one frame falls out
        ((9, 10, 11, 0, 1), (6,), 21, [(0, 3), (3, 5)]),  # a window that goes on at the beginning
    ],
)
def test_cuts_of_a_story_by_hand(frames, starts, longest, spans):
    assert story_spans(tuple(frames), starts, longest) == spans


@given(st.integers(1, 60), st.sets(st.integers(1, 70), max_size=6), st.integers(1, 25))
def test_parts_are_covered_once_and_cut_evenly(frames, starts, longest):
    spans = story_spans(tuple(range(frames)), tuple(sorted(starts)), longest)
    assert [f for start, end in spans for f in range(start, end)] == list(range(frames))
    cuts = {start for start, _ in spans}
    assert {s for s in starts if s < frames} <= cuts
    inner = [(a, b) for a, b in spans if a not in starts and a > 0]
    assert all(end - start <= longest for start, end in spans)
    lengths = {end - start for start, end in spans}
    assert not inner or starts or max(lengths) - min(lengths) <= 1


def test_frames_beside_by_hand():
    assert frames_beside((0, 6), (0, 3, 9), 2) == (9,), "nothing stands before the first"
    assert frames_beside((6, 12), (0, 4, 9), 2) == (0, 4, 5), "an anchor is seen once"
    assert frames_beside((1, 4), (), 3) == (0,)


def test_calls_are_as_large_as_allowed():
    batches = []

    def spy(q, k, v, mask):
        batches.append(len(q))
        return attend(q, k, v, mask)

    q = torch.randn(1, 40 * 2, 1, 4)
    for tokens, calls in ((10**6, [5]), (16 * 2, [2, 2, 1]), (47, [2, 2, 1]), (16, [1] * 5), (None, [5]), (0, [1] * 5)):
        batches.clear()
        windowed_attention(q, q, q, spy, [(i, i + 8) for i in range(0, 40, 8)], tokens_a_call=tokens)
        assert batches == calls
    [group] = window_groups([(i, i + 8) for i in range(0, 40, 8)])
    assert [g.spans for g in group.split(2)] == [((0, 8), (8, 16)), ((16, 24), (24, 32)), ((32, 40),)]
