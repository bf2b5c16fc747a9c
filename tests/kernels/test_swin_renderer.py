"""Folded windows are masked dense attention, and cover what they should."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_video.kernels.swin_renderer import (
    anchor_frames,
    anchor_interval,
    automatic_window,
    window_groups,
    window_spans,
    windowed_attention,
)

even_windows = st.integers(1, 8).map(lambda n: 2 * n)
frame_counts = st.integers(1, 40)


def attend(q, k, v, mask):
    """Dense attention on [batch, tokens, heads, dim], the naive way."""
    weights = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        weights = weights.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else weights + mask
    return torch.einsum("bhqk,bkhd->bqhd", weights.softmax(-1), v).flatten(2)


def allowed(frames, area, spans, anchors, before, after, extra_keys=0):
    """[queries, keys] boolean: the meaning of windows, written out."""
    size = before + frames * area + after
    mask = torch.zeros(size, size + extra_keys, dtype=torch.bool)
    for start, end in spans:
        rows = slice(before + start * area, before + end * area)
        mask[rows, rows] = True
        for anchor in anchors:
            mask[rows, before + anchor * area : before + (anchor + 1) * area] = True
    mask[:, :before] = True
    mask[:, before + frames * area :] = True
    mask[:before] = True
    mask[before + frames * area :] = True
    return mask


@given(frame_counts, st.integers(1, 9), st.booleans())
def test_each_frame_is_covered_once(frames, window, shifted):
    spans = window_spans(frames, window, shifted)
    assert [f for start, end in spans for f in range(start, end)] == list(range(frames))
    assert all(end - start <= 1.5 * window for start, end in spans)
    if len(spans) > 1:
        assert all(end - start >= window / 2 - 0.5 for start, end in spans)


@given(frame_counts, even_windows)
def test_parities_cut_half_a_window_apart(frames, window):
    even, odd = ({start for start, _ in window_spans(frames, window, shifted)} - {0} for shifted in (False, True))
    assert all(cut % window == 0 for cut in even)
    assert all(cut % window == window // 2 for cut in odd)


@given(st.integers(2, 6).map(lambda n: 2 * n), st.integers(4, 9))
def test_two_blocks_reach_two_windows(window, windows):
    frames = window * windows

    def adjacency(shifted):
        return allowed(frames, 1, window_spans(frames, window, shifted), (), 0, 0).double()

    reach = (adjacency(False) @ adjacency(True)) > 0
    for frame in range(window, frames - window):  # clear of the ends
        seen = reach[frame].nonzero().flatten()
        assert len(seen) == 2 * window and seen.min() <= frame - window // 2 and seen.max() >= frame + window // 2


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 99))
def test_rotating_anchors_visit_every_frame(frames, interval, step):
    visited = [f for s in range(step, step + interval) for f in anchor_frames(frames, "rotating", interval, s)]
    assert sorted(visited) == list(range(frames))


def test_anchors_by_hand():
    assert anchor_frames(9, "none", 3, 1) == ()
    assert anchor_frames(9, "first frame", 3, 1) == (0,)
    assert anchor_frames(9, "rotating", 3, 4) == (1, 4, 7)
    assert anchor_frames(4, "rotating") == (0, 1, 2, 3), "every frame, unless told otherwise"


@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 13))
def test_anchor_interval_keeps_the_budget(frames, window, spare):
    interval = anchor_interval(frames, window, window + spare)
    assert len(anchor_frames(frames, "rotating", interval)) <= spare
    assert interval == 1 or -(-frames // (interval - 1)) > spare, "not the densest"


@pytest.mark.parametrize(
    ("trained", "anchors", "budget", "frames", "interval", "window"),
    [
        (21, "none", 21, 99, 0, 22),
        (32, "none", 8, 99, 3, 32),
        (21, "first frame", 21, 99, 5, 20),
        (21, "first frame", 3, 99, 0, 2),
        (33, "first frame", 34, 99, 0, 32),
        (21, "rotating", 21, 99, 0, 12),
        (33, "rotating", 33, 99, 0, 18),
        (21, "rotating", 8, 99, 0, 4),
        (21, "rotating", 21, 99, 11, 12),  # 9 anchors leave 12
        (21, "rotating", 21, 99, 10, 10),  # 10 leave 11
        (21, "rotating", 21, 99, 20, 12),  # 5 leave 16
        (21, "rotating", 21, 99, 1, 2),
    ],
)
def test_automatic_window(trained, anchors, budget, frames, interval, window):
    assert automatic_window(trained, anchors, budget, frames, interval) == window


@given(st.integers(3, 60), st.integers(1, 300), st.integers(0, 40), st.sampled_from(["first frame", "rotating"]))
def test_automatic_windows_leave_room_for_anchors(budget, frames, interval, anchors):
    window = automatic_window(21, anchors, budget, frames, interval)
    assert window % 2 == 0 and 2 <= window < budget
    if window > 2 and anchors == "rotating" and interval:
        assert window + len(anchor_frames(frames, anchors, interval)) <= budget


def test_equal_windows_fold_into_one_call():
    assert [len(g.spans) for g in window_groups(window_spans(40, 8, False))] == [5]
    assert [len(g.spans) for g in window_groups(window_spans(40, 8, True))] == [1, 4, 1]
    assert [len(g.spans) for g in window_groups(window_spans(40, 8, False), anchors=(0,))] == [1, 4]
    assert [len(g.spans) for g in window_groups(window_spans(40, 8, False), anchors=tuple(range(3, 40, 4)))] == [5]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_windows_equal_masked_dense_attention(data):
    frames, window, shifted = data.draw(frame_counts), data.draw(even_windows), data.draw(st.booleans())
    batch, heads, area = (data.draw(st.integers(1, n)) for n in (3, 2, 3))
    before, after, extra_keys = (data.draw(st.integers(0, n)) for n in (3, 2, 2))
    anchors = anchor_frames(
        frames,
        data.draw(st.sampled_from(["none", "first frame", "rotating"])),
        data.draw(st.integers(1, 7)),
        data.draw(st.integers(0, 9)),
    )
    host_mask = data.draw(st.sampled_from(["none", "additive per key", "additive per head", "boolean per query"]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    size = before + frames * area + after
    q, k, v = (
        torch.randn(batch, n, heads, 4, dtype=torch.float64, generator=generator)
        for n in (size, size + extra_keys, size + extra_keys)
    )
    spans = window_spans(frames, window, shifted)
    dense_mask = allowed(frames, area, spans, anchors, before, after, extra_keys)
    mask = None
    if host_mask == "additive per key":
        mask = torch.randn(1, 1, 1, size + extra_keys, dtype=torch.float64, generator=generator)
        dense_mask = torch.where(dense_mask, mask, -torch.inf)
    elif host_mask == "additive per head":
        mask = torch.randn(batch, heads, 1, size + extra_keys, dtype=torch.float64, generator=generator)
        dense_mask = torch.where(dense_mask, mask, -torch.inf)
    elif host_mask == "boolean per query":
        mask = torch.rand(batch, 1, size, size + extra_keys, generator=generator) < 0.8
        mask[..., :size] |= torch.eye(size, dtype=torch.bool)  # no row without a key
        dense_mask = mask & dense_mask

    out = windowed_attention(q, k, v, attend, spans, anchors, before, after, mask)
    torch.testing.assert_close(out, attend(q, k, v, dense_mask), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("frames", [41, 16])
def test_plain_windows_hand_views_to_the_backend(frames):
    """No copy of q, k, v where nothing but the window is seen: memory stays that of dense attention."""
    q, k, v = torch.randn(3, 1, frames * 4, 2, 8).unbind()
    storages = {x.untyped_storage().data_ptr() for x in (q, k, v)}

    def spy(*tensors):
        assert {x.untyped_storage().data_ptr() for x in tensors[:3]} <= storages
        return attend(*tensors)

    windowed_attention(q, k, v, spy, window_spans(frames, 8, True))


def test_two_queries_with_masks_of_their_own():
    """Two tokens in all, one a frame: the smallest mask that has a row for each."""
    q = torch.randn(1, 2, 1, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[[[0.0, -1.0], [2.0, 0.0]]]])
    out = windowed_attention(q, q, q, attend, [(0, 2)], mask=mask)
    torch.testing.assert_close(out, attend(q, q, q, mask))


def test_equal_windows_are_one_call_of_the_backend():
    batches = []

    def spy(q, k, v, mask):
        batches.append(len(q))
        return attend(q, k, v, mask)

    q = torch.randn(2, 40, 1, 4)
    windowed_attention(q, q, q, spy, window_spans(40, 8, False), mask=torch.zeros(1, 1, 1, 40))
    assert batches == [2 * 5]
    windowed_attention(q, q, q, spy, window_spans(40, 8, False), mask=torch.zeros(1, 1, 40, 40))
    assert batches[1:] == [2] * 5, "masks that differ from query to query keep windows apart"


@pytest.mark.parametrize(
    ("frames", "window", "shifted", "cuts"),
    [
        (9, 4, False, [4]),  # one frame is less than half a window: it joins
        (10, 4, False, [4, 8]),
        (5, 4, False, []),
        (5, 4, True, [2]),
        (7, 4, True, [2]),
        (8, 4, True, [2, 6]),
        (14, 6, False, [6]),  # two of six join
        (15, 6, False, [6, 12]),
        (8, 6, False, []),
    ],
)
def test_cuts_by_hand(frames, window, shifted, cuts):
    assert [start for start, _ in window_spans(frames, window, shifted)] == [0, *cuts]
