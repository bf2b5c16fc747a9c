"""Plans checked, cut, held, re-timed and resized against loops, without a host."""

import math
import re
from dataclasses import replace

import pytest
import torch

from semantic_video.kernels.semantic_plan import (
    SemanticPlan,
    check,
    cut,
    hold,
    play,
    require_alike,
    require_covers,
    require_encoder,
    resampled,
    resize,
    retime,
    sampled_frames,
)


def plan(time=6, rows=2, columns=3, dims=4, fps=2.0, encoder="toy", seed=0):
    tokens = torch.randn(time, rows, columns, dims, generator=torch.Generator().manual_seed(seed))
    return SemanticPlan(tokens, fps, encoder)


def test_seconds_and_what_is_no_plan():
    assert plan(6, fps=2.0).seconds == 3.0
    check(plan())
    check(plan(fps=0.8))
    for tokens in (torch.zeros(0, 2, 3, 4), torch.zeros(6, 2, 3, 0), torch.zeros(6, 2, 3)):
        with pytest.raises(
            ValueError, match=rf"^mine: tokens of shape {re.escape(str(tuple(tokens.shape)))}; a plan is"
        ):
            check(replace(plan(), tokens=tokens), "mine")
    for bad in (math.nan, math.inf):
        broken = plan()
        broken.tokens[3, 1, 2, 0] = bad
        with pytest.raises(ValueError, match=r"^plan: holds NaN or infinite values\. Encode it again"):
            check(broken)
    for fps in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"^plan: {fps} token frames a second; must be above 0"):
            check(plan(fps=fps))


def test_plans_of_another_kind_do_not_mix():
    require_alike(plan(), plan(9, seed=1))
    with pytest.raises(ValueError, match=r"^other: made by 'b', expected 'toy'.*same tower and compressor"):
        require_alike(plan(), plan(encoder="b"))
    with pytest.raises(ValueError, match=r"^other: 5 dimensions, expected 4"):
        require_alike(plan(), plan(dims=5))
    with pytest.raises(ValueError, match=r"^other: 1\.5 token frames a second, expected 2\. Set fps of Edit Plan to 2"):
        require_alike(plan(), plan(fps=1.5))
    with pytest.raises(ValueError, match=r"^other: 3 x 2 tokens a frame, expected 2 x 3\. Set rows and columns"):
        require_alike(plan(), plan(rows=3, columns=2))
    with pytest.raises(ValueError, match=r"^plan: 4 dimensions, expected 8"):
        require_encoder(plan(), "toy", 8)


@pytest.mark.parametrize(("seconds", "fits"), [(2.5, True), (3.5, True), (2.4, False), (3.6, False), (30.0, False)])
def test_a_plan_covers_a_video_to_a_token_frame(seconds, fits):
    if fits:
        require_covers(plan(), seconds)
        return
    longer = "longer" if seconds < 3 else "shorter"
    with pytest.raises(ValueError, match=rf"^plan: 3 seconds, {longer} than the video's {seconds:g}\. Cut, hold"):
        require_covers(plan(), seconds)
    require_covers(plan(), seconds, tolerance=abs(seconds - 3))


def test_cut_takes_whole_token_frames():
    p = plan()
    assert cut(p) is p
    assert cut(p, 0.0, 3.0) is p
    for start, end, first, last in ((0, 1.5, 0, 3), (1.0, 0.0, 2, 6), (0.7, 2.3, 1, 5), (1.0, 3.4, 2, 6)):
        got = cut(p, start, end)
        assert torch.equal(got.tokens, p.tokens[first:last])
        assert (got.fps, got.encoder) == (p.fps, p.encoder)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (2.0, 1.0, "start 2, end 1: must rise, and start inside the plan's 3 seconds"),
        (3.0, 0.0, "start 3, end 3: must rise"),
        (-1.0, 0.0, "start -1, end 3: must rise"),
        (4.0, 9.0, "start 4, end 9: must rise, and start inside the plan's 3"),
        (1.0, 3.6, r"end 3\.6: the plan has 3 seconds\. Lower it"),
        (1.0, 1.2, r"start 1, end 1\.2: shorter than a token frame of 0\.5 seconds"),
        (2.9, 3.0, r"start 2\.9, end 3: shorter than a token frame"),
        (math.nan, 0.0, "start nan, end 3: must rise"),
    ],
)
def test_spans_that_cannot_be(start, end, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        cut(plan(), start, end)


def test_hold_repeats_the_last_token_frame():
    p = plan()
    assert hold(p, 0.2) is p
    assert torch.equal(hold(p, 0.5).tokens, torch.cat([p.tokens, p.tokens[5:]]))
    got = hold(p, 1.2).tokens
    assert torch.equal(got, torch.stack([*p.tokens, p.tokens[5], p.tokens[5]]))


def naive_resampled(values, count):
    """Of one channel: the mean of what each new frame covers when there are fewer; else linear between middles."""
    time = len(values)
    out = []
    for i in range(count):
        if count < time:
            first, last = math.floor(i * time / count), math.ceil((i + 1) * time / count)
            out.append(sum(values[first:last]) / (last - first))
            continue
        place = min(max((i + 0.5) * time / count - 0.5, 0), time - 1)
        low = min(math.floor(place), time - 1)
        high = min(low + 1, time - 1)
        out.append(values[low] + (place - low) * (values[high] - values[low]))
    return out


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 12, 31])
def test_resampling_in_time(count):
    p = plan().tokens
    got = resampled(p, count)
    assert got.shape == (count, 2, 3, 4)
    for place in ((0, 0, 0), (1, 2, 3), (0, 1, 2)):
        expected = naive_resampled([float(v) for v in p[(slice(None), *place)]], count)
        torch.testing.assert_close(got[(slice(None), *place)], torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_retime_keeps_the_seconds_and_play_keeps_the_rate():
    p = plan()
    assert retime(p, 2.0) is p
    assert play(p, 1.0) is p
    faster = retime(p, 4.0)
    assert (faster.fps, faster.seconds, faster.tokens.shape[0]) == (4.0, 3.0, 12)
    assert torch.equal(faster.tokens, resampled(p.tokens, 12))
    slow = play(p, 0.5)
    assert (slow.fps, slow.seconds) == (2.0, 6.0)
    assert torch.equal(slow.tokens, resampled(p.tokens, 12))
    assert play(p, 100.0).tokens.shape[0] == 1
    assert retime(p, 0.01).tokens.shape[0] == 1


def test_resize_in_space():
    p = plan(rows=2, columns=4)
    assert resize(p, 2, 4) is p
    constant = replace(p, tokens=torch.full_like(p.tokens, 0.3))
    torch.testing.assert_close(resize(constant, 5, 7).tokens, torch.full((6, 5, 7, 4), 0.3))
    doubled = resize(p, 2, 8).tokens
    for j in range(8):
        place = min(max((j + 0.5) / 2 - 0.5, 0), 3)
        low = min(int(place), 2)
        expected = p.tokens[:, :, low] + (place - low) * (p.tokens[:, :, low + 1] - p.tokens[:, :, low])
        torch.testing.assert_close(doubled[:, :, j], expected)
    torch.testing.assert_close(resize(p, 1, 2).tokens[:, 0, 1], p.tokens[:, :, 2:].mean((1, 2)))


def test_frames_are_taken_from_the_middle_of_their_share():
    assert sampled_frames(16, 8.0, 2.0) == [2, 6, 10, 14]
    assert sampled_frames(16, 8.0, 2.0, each=2) == [1, 3, 5, 7, 9, 11, 13, 15]
    assert sampled_frames(4, 8.0, 8.0) == [0, 1, 2, 3]
    assert sampled_frames(4, 1.0, 0.5) == [1, 3]
    assert sampled_frames(1, 24.0, 1.0, each=2) == [0, 0], "a short video is one token frame"
    assert sampled_frames(93, 16.0, 1.5) == [int((i + 0.5) / 1.5 * 16) for i in range(9)]
    assert sampled_frames(93, 16.0, 4.0)[-1] == 90


@pytest.mark.parametrize(
    ("fps", "plan_fps", "each", "message"),
    [
        (0.0, 1.0, 1, "fps 0: must be above 0"),
        (math.nan, 1.0, 1, "fps nan: must be above 0"),
        (16.0, 0.0, 1, "plan_fps 0: must be above 0 and at most 16"),
        (16.0, 9.0, 2, "plan_fps 9: must be above 0 and at most 8: the video has 16 .* looks at 2. Lower it"),
        (16.0, math.inf, 1, "plan_fps inf: must be above 0 and at most 16"),
    ],
)
def test_rates_that_cannot_be(fps, plan_fps, each, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        sampled_frames(93, fps, plan_fps, each)
