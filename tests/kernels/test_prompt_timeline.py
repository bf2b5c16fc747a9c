"""Prompt Timeline against attention with the mask written out densely, and times worked out by hand."""

from math import inf

import pytest
import torch

from semantic_video.kernels.parts import Part, attend_parts, merged, window_parts
from semantic_video.kernels.prompt_timeline import (
    Span,
    check_spans,
    middles,
    parse_timeline,
    span_weights,
    video_parts,
)

WAN = [0, 1, 5, 9, 13, 17]  # first video frames of five latent frames, then 17 of them


def test_lines_become_spans():
    text = "all: a film\n\n# a comment\n0-2.5: a cat: it sits\n [2.5s - 4s: it jumps]\n 4-: it sleeps - well\n"
    assert parse_timeline(text) == [
        Span(0.0, 2.5, "a film, a cat: it sits"),
        Span(2.5, 4.0, "a film, it jumps"),
        Span(4.0, inf, "a film, it sleeps - well"),
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "holds no span of time"),
        ("all: a film", "holds no span of time"),
        ("0-1: a\na cat sits", r"line 2 \('a cat sits'\): has no times"),
        ("0-1: a\n1-2:  ", r"line 2 \('1-2:'\): no prompt"),
        ("nan-2: a", "line 1 .*has no times"),
        ("2-1: a", "line 1: 2-1: must begin at 0 seconds or later and end after that"),
        ("0-0: a", "line 1: 0-0: must begin"),
        ("-1-2: a", "line 1 .*has no times"),
        ("a" * 60, r"\('a{38}\.\.'\)"),
    ],
)
def test_bad_lines_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_timeline(text)


@pytest.mark.parametrize("start, end", [(float("nan"), 1.0), (inf, inf), (0.0, float("nan")), (-1.0, 1.0), (1.0, 1.0)])
def test_a_span_has_a_length(start, end):
    with pytest.raises(ValueError, match="must begin at 0 seconds or later"):
        Span(start, end)


@pytest.mark.parametrize(
    "times, fps, hand_over, message",
    [
        ([(0, 1), (1.1, 2)], 16, 0, "spans 0-1 and 1.1-2: nothing is said from 1 to 1.1 s"),
        ([(0, 1), (0.9, 2)], 16, 0, "spans 0-1 and 0.9-2: overlap"),
        ([(1, 2), (0, 1)], 16, 0, "span 1-2: nothing is said from 0 to 1 s"),
        ([(0, inf), (1, 2)], 16, 0, "spans 0- and 1-2: overlap"),
        ([(0, 1), (1, 2)], 0, 0, "fps 0: must be above 0"),
        ([(0, 1), (1, 2)], float("nan"), 0, "fps nan"),
        ([(0, 1), (1, 2)], 16, float("nan"), "hand_over nan"),
        ([(0, 1), (1, 2)], 16, -0.1, "hand_over -0.1"),
        ([(0, 1), (1, inf)], 16, 1.1, "hand_over 1.1: longer than the shortest span, 1 s"),
    ],
)
def test_spans_that_do_not_follow_each_other_are_named(times, fps, hand_over, message):
    with pytest.raises(ValueError, match=message):
        check_spans([Span(*time) for time in times], fps, hand_over)


def test_rounded_times_fit():
    check_spans([Span(0.02, 1.92), Span(1.9, 3.83), Span(3.85, inf)], 12, 0.5)  # half a frame is 0.042 s


def test_a_latent_frame_is_where_its_middle_is():
    """At 4 frames per second: the first is one frame of 0.25 s, each other one second."""
    assert middles(WAN, 4.0) == [0.125, 0.75, 1.75, 2.75, 3.75]
    weights = span_weights([Span(0, 0.75), Span(0.75, 2.7), Span(2.7, inf)], middles(WAN, 4.0), 0.0)
    assert weights.argmax(1).tolist() == [0, 1, 1, 2, 2]
    assert weights.sum(1).tolist() == [1.0] * 5 and set(weights.flatten().tolist()) == {0.0, 1.0}


def test_a_hand_over_is_a_line():
    """One second around 2.0: from 1.5 to 2.5."""
    weights = span_weights([Span(0, 2), Span(2, inf)], [1.4, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0], 1.0)
    torch.testing.assert_close(weights[:, 1], torch.tensor([0, 0, 0.25, 0.5, 0.75, 1, 1], dtype=torch.float64))
    torch.testing.assert_close(weights.sum(1), torch.ones(7, dtype=torch.float64))


def test_three_spans_hand_over_each_to_the_next():
    weights = span_weights([Span(0, 1), Span(1, 2), Span(2, 3)], [1.0, 1.5, 1.75], 1.0)
    expected = torch.tensor([[0.5, 0.5, 0], [0, 1, 0], [0, 0.75, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(weights, expected)


def dense(q, k, v, mask=None, seen=None):
    """[batch, tokens, heads, dim], seen: [queries, keys] True where it may look -> [batch, queries, heads * dim]."""
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    if mask is not None:
        logits = logits.masked_fill(~mask, -inf) if mask.dtype == torch.bool else logits + mask
    if seen is not None:
        logits = logits.masked_fill(~seen, -inf)
    return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v).flatten(2)


def attend(part, q, k, v, mask):
    return dense(q, k, v, mask)


def tensors(queries, keys, batch=2, heads=3, dim=4):
    generator = torch.Generator().manual_seed(0)
    shapes = ((batch, n, heads, dim) for n in (queries, keys, keys))
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


MASKS = {
    "none": lambda q, k: None,
    "keys": lambda q, k: torch.arange(k).remainder(5).gt(0).view(1, 1, 1, k),
    "additive": lambda q, k: torch.linspace(-2, 2, 2 * q * k, dtype=torch.float64).view(2, 1, q, k),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("hand_over", [0.0, 1.0])
def test_frames_see_their_span(hand_over, mask):
    """Five frames of two tokens, one reference token in front, against each span's dense attention."""
    spans = [Span(0, 1.5), Span(1.5, 3), Span(3, inf)]
    weights = span_weights(spans, middles(WAN, 4.0), hand_over)
    keys = [(slice(0, 4),), (slice(4, 7), slice(13, 14)), (slice(7, 13),)]
    q, k, v = tensors(11, 14)
    given = MASKS[mask](11, 14)
    parts = [*video_parts(weights, keys, 1, 2), Part((slice(0, 1),), (slice(0, 14),))]
    got = attend_parts(q, k, v, given, parts, attend)

    expected = torch.zeros_like(got)
    for column, slices in enumerate(keys):
        seen = torch.zeros(11, 14, dtype=torch.bool)
        for one in slices:
            seen[:, one] = True
        out = dense(q, k, v, given, seen)
        for frame in range(5):
            rows = slice(1 + 2 * frame, 3 + 2 * frame)
            expected[:, rows] += weights[frame, column] * out[:, rows]
    expected[:, :1] = dense(q, k, v, given)[:, :1]
    torch.testing.assert_close(got, expected)


def test_a_part_says_its_frames():
    """Of a window that begins with an earlier frame: frames of one span need not be neighbours."""
    weights = span_weights([Span(0, 1), Span(1, inf)], [0.5, 2.0, 0.5], 0.0)
    first, second = video_parts(weights, [(slice(0, 1),), (slice(1, 2),)], 0, 2)
    assert (first.frames, first.queries) == ((0, 2), (slice(0, 2), slice(4, 6)))
    assert (second.frames, second.queries, second.weight) == ((1,), (slice(2, 4),), None)


def test_a_span_without_frames_is_no_part():
    weights = span_weights([Span(0, 1), Span(1, 2), Span(2, inf)], [0.5, 2.5], 0.0)
    assert [part.frames for part in video_parts(weights, [(), (), ()], 0, 1)] == [(0,), (1,)]


def test_neighbouring_slices_become_one():
    assert merged([slice(0, 2), slice(2, 2), slice(2, 5), slice(6, 7)]) == (slice(0, 5), slice(6, 7))


@pytest.mark.parametrize("frames", [(0, 1, 2, 3, 4, 5, 6), (2, 3, 4), (6,), (0, 5, 6)])
def test_some_frames_in_windows(frames):
    """Seven frames of two tokens in windows of three, three and one, the second and third with one frame beside, behind
    two tokens that all see and before one."""
    windows, beside = [(0, 3), (3, 6), (6, 7)], [(), (2,), (0,)]
    q, k, v = tensors(2 * len(frames), 17)
    parts = window_parts(frames, windows, beside, 2, 2, 17)
    got = attend_parts(q, k, v, None, parts, attend)
    seen = torch.zeros(len(q[0]), 17, dtype=torch.bool)
    seen[:, :2] = seen[:, 16:] = True
    for index, frame in enumerate(frames):
        [(number, (start, end))] = [(i, w) for i, w in enumerate(windows) if w[0] <= frame < w[1]]
        for other in (*range(start, end), *beside[number]):
            seen[2 * index : 2 * index + 2, 2 + 2 * other : 4 + 2 * other] = True
    torch.testing.assert_close(got, dense(q, k, v, None, seen))
    assert [frame for part in parts for frame in part.frames] == list(frames)
