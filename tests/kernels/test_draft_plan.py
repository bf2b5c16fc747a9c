"""Draft Plan's resizing and edits against plain loops, without a host."""

import pytest
import torch

from semantic_video.kernels.draft_plan import (
    crop_size,
    frame_positions,
    grown_sigma,
    growth,
    held,
    joined,
    kept,
    removed,
    resized,
    retimed,
    span_retimed,
)


def video(frames=5, height=4, width=6, channels=3, seed=0):
    return torch.rand(frames, height, width, channels, generator=torch.Generator().manual_seed(seed))


def numbered(*values):
    """A frame of 1 x 1 x 1 for each value."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)


def values(frames):
    return [round(float(x), 6) for x in frames.flatten()]


def naive_retimed(draft, length, in_between):
    """Frame by frame in fp64."""
    out = []
    for i in range(length):
        at = i * (len(draft) - 1) / (length - 1) if length > 1 else 0.0
        if in_between == "nearest":
            out.append(draft[int(at + 0.5)].double())
            continue
        left = int(at)
        right = min(left + 1, len(draft) - 1)
        out.append((1 - (at - left)) * draft[left].double() + (at - left) * draft[right].double())
    return torch.stack(out)


@pytest.mark.parametrize("in_between", ["blend", "nearest"])
@pytest.mark.parametrize("frames, length", [(5, 17), (6, 93), (21, 93), (17, 5), (1, 9), (7, 1), (2, 3)])
def test_retiming_frame_by_frame(frames, length, in_between):
    draft = video(frames)
    out = retimed(draft, length, in_between)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), naive_retimed(draft, length, in_between), rtol=0, atol=1e-6)


def test_first_lies_on_first_and_last_on_last():
    assert frame_positions(21, 93)[[0, -1]].tolist() == [0.0, 20.0]
    assert frame_positions(6, 24)[1] == 5 / 23  # as latent positions are compressed into the trained span
    draft = video(21)
    assert torch.equal(retimed(draft, 93)[[0, -1]], draft[[0, -1]])


@pytest.mark.parametrize("in_between", ["blend", "nearest"])
def test_the_same_length_is_the_same_video(in_between):
    draft = video(33)
    assert torch.equal(retimed(draft, 33, in_between), draft)


@pytest.mark.parametrize("in_between", ["blend", "nearest"])
def test_a_part_is_that_part_of_the_whole(in_between):
    draft = video(9)
    whole = retimed(draft, 37, in_between)
    assert torch.equal(retimed(draft, 37, in_between, 12, 29), whole[12:29])


def test_nearest_takes_the_later_of_two_as_near():
    assert values(retimed(numbered(0, 1, 2), 5, "nearest")) == [0, 1, 1, 2, 2]


def test_half_precision_is_taken():
    draft = video(3).half()
    torch.testing.assert_close(retimed(draft, 5)[1], (draft[0].float() + draft[1].float()) / 2)


def naive_larger(frame, height, width):
    """Bilinear, pixel by pixel, centres on centres; no antialiasing, which enlarging does not need."""
    out = torch.zeros(height, width, frame.shape[-1], dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            sy = min(max((y + 0.5) * frame.shape[0] / height - 0.5, 0), frame.shape[0] - 1)
            sx = min(max((x + 0.5) * frame.shape[1] / width - 0.5, 0), frame.shape[1] - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, frame.shape[0] - 1), min(x0 + 1, frame.shape[1] - 1)
            top = frame[y0, x0].double() * (1 - sx + x0) + frame[y0, x1].double() * (sx - x0)
            low = frame[y1, x0].double() * (1 - sx + x0) + frame[y1, x1].double() * (sx - x0)
            out[y, x] = top * (1 - sy + y0) + low * (sy - y0)
    return out


@pytest.mark.parametrize("size", [(8, 12), (6, 9), (4, 6)])
def test_enlarging_pixel_by_pixel(size):
    draft = video(2)
    expected = torch.stack([naive_larger(frame, *size) for frame in draft])
    torch.testing.assert_close(resized(draft, *size).double(), expected, rtol=0, atol=1e-6)


def test_shrinking_does_not_alias():
    """Stripes finer than the new pixels become the grey that they are."""
    stripes = torch.tensor([0.0, 1.0]).repeat(32).view(1, 1, 64, 1).expand(1, 64, 64, 3)
    small = resized(stripes, 16, 16)
    assert (small[:, :, 1:-1] - 0.5).abs().max() < 0.02


def test_crop_keeps_the_middle_and_stretch_all():
    columns = torch.arange(12.0).view(1, 1, 12, 1).expand(1, 4, 12, 3)
    assert torch.equal(resized(columns, 4, 4), columns[:, :, 4:8])
    rows = torch.arange(10.0).view(1, 10, 1, 1).expand(1, 10, 5, 3)
    assert torch.equal(resized(rows, 4, 5), rows[:, 3:7])
    squeezed = resized(columns, 4, 4, "stretch")
    assert squeezed.shape == (1, 4, 4, 3)
    torch.testing.assert_close(squeezed.mean(), columns.mean(), rtol=0, atol=0.05)


def test_crop_sizes():
    assert crop_size(480, 832, 480, 832) == (480, 832)
    assert crop_size(320, 576, 480, 832) == (320, 555)  # 576 x 480 / 832 = 332 does not fit into 320
    assert crop_size(720, 1280, 480, 480) == (720, 720)
    assert crop_size(1, 1000, 16, 16) == (1, 1)


def test_growth_is_per_side():
    assert growth(240, 416, 480, 832) == 2.0
    assert growth(480, 832, 480, 832) == growth(1080, 1920, 480, 832) == 1.0
    assert growth(480, 832, 960, 960) == 2.0  # of the cropped 480 x 480
    assert growth(16, 64, 64, 64, "stretch") == 2.0  # 4 one way, 1 the other


def test_sigma_of_a_grown_frame():
    """Signal to noise of what both sizes show, (1 - sigma) / sigma, falls by r: r x r pixels average r-fold."""
    for sigma in (0.5, 0.9, 0.955):
        for r in (1.0, 1.5, 2.0):
            higher = grown_sigma(sigma, r)
            assert r * (1 - higher) / higher == pytest.approx((1 - sigma) / sigma, rel=1e-12)
    assert grown_sigma(0.9, 2.0) == pytest.approx(18 / 19)
    assert grown_sigma(1.0, 3.0) == 1.0


def test_cuts():
    draft = numbered(0, 1, 2, 3, 4, 5)
    assert values(kept(draft, 1, 4)) == [1, 2, 3]
    assert values(removed(draft, 1, 4)) == [0, 4, 5]
    assert values(removed(draft, 0, 2)) == [2, 3, 4, 5]


def test_holding_a_frame():
    draft = numbered(0, 1, 2)
    assert values(held(draft, 1, 3)) == [0, 1, 1, 1, 2]
    assert values(held(draft, 2, 2)) == [0, 1, 2, 2]
    assert values(held(draft, 0, 1)) == [0, 1, 2]


def test_a_span_takes_another_time():
    draft = numbered(9, 0, 2, 4, 9)
    assert values(span_retimed(draft, 1, 4, 5)) == [9, 0, 1, 2, 3, 4, 9]
    assert values(span_retimed(draft, 1, 4, 2)) == [9, 0, 4, 9]
    assert values(span_retimed(draft, 0, 5, 5, "nearest")) == [9, 0, 2, 4, 9]


def test_joins():
    first, then = numbered(0, 0, 0), numbered(4, 4)
    assert values(joined(first, then)) == [0, 0, 0, 4, 4]
    assert values(joined(first, then, 1)) == [0, 0, 2, 4]
    assert values(joined(numbered(0, 0, 0, 0), numbered(4, 4, 4, 8), 3)) == [0, 1, 2, 3, 8]
