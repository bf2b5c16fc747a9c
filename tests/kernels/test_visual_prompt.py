"""Painting a mask onto pictures, without a host."""

import math

import pytest
import torch
import torch.nn.functional as F

from semantic_video.kernels.visual_prompt import crop, gaussian_blur, outline, paint, region, stretched


@pytest.fixture
def scene():
    image = torch.rand(2, 16, 24, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 16, 24)
    mask[:, 4:12, 6:18] = 1
    return image, mask


def test_the_published_formula(scene):
    image, _ = scene
    mask = torch.rand(2, 16, 24, generator=torch.Generator().manual_seed(1))
    m = mask[..., None]
    torch.testing.assert_close(paint(image, mask, "darken"), m * image)
    torch.testing.assert_close(paint(image, mask, "grey", grey=200 / 255), m * image + (1 - m) * 200 / 255)


@pytest.mark.parametrize("style", ["darken", "grey", "blur"])
def test_what_matters_stays_and_strength_is_monotone(scene, style):
    image, mask = scene
    full = paint(image, mask, style)
    assert torch.equal(full[:, 4:12, 6:18], image[:, 4:12, 6:18])
    assert paint(image, mask, style, strength=0.0) is image
    torch.testing.assert_close(paint(image, mask, style, strength=0.25), image + 0.25 * (full - image))


def test_feather_softens_the_edge(scene):
    image, mask = scene
    hard, soft = (paint(torch.ones_like(image), mask, "darken", feather=f)[0, 8, :, 0] for f in (0.0, 2.0))
    assert hard.diff().abs().max() == 1
    assert soft.diff().abs().max() < 0.5


def test_blur_keeps_the_mean_and_handles_any_size():
    x = torch.rand(1, 3, 20, 20)
    assert gaussian_blur(x, 0.0) is x
    assert abs(gaussian_blur(x, 3.0).mean() - x.mean()) < 0.05
    torch.testing.assert_close(gaussian_blur(torch.full((1, 1, 1, 1), 0.3), 16.0), torch.full((1, 1, 1, 1), 0.3))


@pytest.mark.parametrize("deviation", [2.0, 16.0, 40.0])
def test_blur_is_a_gaussian(deviation):
    x = torch.zeros(1, 1, 1, 400)
    x[..., 200:] = 1
    position = torch.arange(400) + 0.5 - 200
    expected = 0.5 + 0.5 * torch.erf(position / deviation / 2**0.5)
    got = gaussian_blur(x.expand(1, 1, 400, 400).clone(), deviation)[0, 0, 200]
    assert (got - expected).abs().max() < 0.02


def test_outline_is_drawn_around_the_object_and_nowhere_else(scene):
    image, mask = scene
    drawn = paint(image, mask, "outline", colour=(0.0, 1.0, 0.0), width=2)
    changed = (drawn != image).any(-1)[0]
    assert changed[3:13, 5:19].sum() == changed.sum()
    assert not changed[6:10, 8:16].any()
    assert (drawn[0, 4, 10] == torch.tensor([0.0, 1.0, 0.0])).all()
    assert outline(torch.ones(1, 8, 8), 0.5, 4).sum() == 0


def test_crop_to_the_region_of_all_frames(scene):
    image, mask = scene
    mask[1] = 0
    mask[1, 2:6, 10:20] = 1
    assert region(mask, 0.5) == (2, 6, 12, 20)
    assert region(mask, 0.5, margin=10.0) == (0, 0, 16, 24)
    assert region(torch.zeros(1, 4, 4), 0.5) is None
    assert crop(image, (2, 6, 12, 20)).shape == (2, 10, 14, 3)
    assert crop(image, (2, 6, 12, 20), 0.5).shape == (2, 13, 19, 3)
    assert torch.equal(crop(image, (2, 6, 12, 20), 0.0), image)


@pytest.mark.parametrize("deviation", [0.3, 1.0, 2.5])
def test_small_blurs_are_the_sum_written_out(deviation):
    x = torch.rand(1, 2, 6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reach = int(3 * deviation + 0.5)
    weights = {n: math.exp(-(n**2) / (2 * deviation**2)) for n in range(-reach, reach + 1)}
    expected = torch.zeros_like(x)
    for row in range(6):
        for column in range(9):
            for down, a in weights.items():
                for right, b in weights.items():
                    there = x[..., min(max(row + down, 0), 5), min(max(column + right, 0), 8)]
                    expected[..., row, column] += a * b * there
    torch.testing.assert_close(gaussian_blur(x, deviation), expected / sum(weights.values()) ** 2)


def test_wide_blurs_go_over_a_smaller_picture():
    x = torch.rand(1, 1, 30, 40, generator=torch.Generator().manual_seed(0))
    small = F.interpolate(x, size=(15, 20), mode="area")
    back = F.interpolate(gaussian_blur(small, 6.5), size=(30, 40), mode="bilinear")
    torch.testing.assert_close(gaussian_blur(x, 13.0), back)
    narrow = torch.rand(1, 1, 4, 40, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(gaussian_blur(narrow, 13.0)[..., 0, 0], narrow[..., 0, 0]), (
        "too low to shrink, blurred whole"
    )
    assert gaussian_blur(x, 0.16) is x, "a radius of half a pixel is none"
    assert gaussian_blur(x, 0.17) is not x


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_an_outline_counted_pixel_by_pixel(width):
    """1 within width // 2 pixels outside the object and (width + 1) // 2 inside, by the larger of the two distances."""
    mask = torch.zeros(1, 20, 24)
    mask[:, 6:14, 8:16] = 0.9
    drawn = torch.zeros(20, 24)
    for row in range(20):
        for column in range(24):
            outside = max(6 - row, row - 13, 8 - column, column - 15)  # below 1 inside
            drawn[row, column] = float(1 - (width + 1) // 2 <= outside <= width // 2)
    assert torch.equal(outline(mask, 0.5, width)[0], drawn)
    assert outline(mask, 0.9, width).sum() == 0, "what only reaches the threshold is not above it"


def test_outlines_take_colour_by_strength(scene):
    image, mask = scene
    line = outline(mask, 0.5, 4)[..., None]
    colour = torch.tensor([0.2, 1.0, 0.6])
    for strength in (0.25, 1.0):
        got = paint(image, mask, "outline", strength, colour=(0.2, 1.0, 0.6), width=4)
        torch.testing.assert_close(got, image * (1 - strength * line) + strength * line * colour)
    soft = gaussian_blur(line.movedim(-1, 1), 1.5).movedim(1, -1)
    got = paint(image, mask, "outline", 0.5, feather=1.5, colour=(0.2, 1.0, 0.6), width=4)
    torch.testing.assert_close(got, image + 0.5 * soft * (colour - image))
    red = paint(image, mask, "outline")
    torch.testing.assert_close(red, image * (1 - line) + line * torch.tensor([1.0, 0.0, 0.0]))


def test_styles_by_hand(scene):
    image, mask = scene
    keep = gaussian_blur(mask[:, None], 1.5).movedim(1, -1)
    blurred = gaussian_blur(image.movedim(-1, 1), 3.0).movedim(1, -1)
    got = paint(image, mask, "blur", 0.5, feather=1.5, blur=3.0)
    torch.testing.assert_close(got, image + 0.5 * (1 - keep) * (blurred - image))
    grey = paint(image, mask, "grey")
    assert grey[:, :4].eq(0.5).all(), "grey is half, unless told otherwise"
    assert paint(image, mask, "darken")[:, :4].eq(0).all()
    default = paint(image, mask, "blur")
    torch.testing.assert_close(default, paint(image, mask, "blur", 1.0, 0.0, blur=16.0))


def test_regions_and_crops_by_hand():
    mask = torch.zeros(2, 30, 40)
    mask[0, 10:18, 12:22] = 0.6
    mask[1, 12:20, 14:24] = 0.6
    assert region(mask, 0.5) == (10, 12, 20, 24)
    assert region(mask, 0.6) is None
    assert region(mask, 0.5, 0.2) == (8, 10, 22, 26)  # 0.2 of 10 and of 12, rounded
    assert region(mask, 0.5, 1.1) == (0, 0, 30, 37)
    image = torch.rand(1, 30, 40, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(crop(image, (10, 12, 20, 24)), image[:, 10:20, 12:24])
    assert torch.equal(crop(image, (10, 12, 20, 24), 0.5), image[:, 5:25, 6:32])


def test_masks_of_other_sizes_are_stretched():
    mask = torch.rand(2, 8, 6, generator=torch.Generator().manual_seed(0))
    assert stretched(mask, 8, 6) is mask
    torch.testing.assert_close(
        stretched(mask, 4, 6), F.interpolate(mask[:, None], size=(4, 6), mode="bilinear", antialias=True)[:, 0]
    )
    ramp = torch.arange(8.0).view(1, 8, 1).expand(1, 8, 8)
    assert stretched(ramp, 4, 8)[0, 1:3, 0].tolist() == pytest.approx([2.5, 4.5], abs=1e-5)


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_outline_blends_its_colour_by_strength(scene, strength):
    image, mask = scene
    ink = torch.tensor([0.2, 1.0, 0.4])
    drawn = paint(image, mask, "outline", strength=strength, colour=(0.2, 1.0, 0.4), width=2)
    on = torch.zeros(16, 24, dtype=torch.bool)
    on[3:13, 5:19] = True
    on[5:11, 7:17] = False  # a line of 2 pixels, half outside and half inside rows 4 to 12 and columns 6 to 18
    torch.testing.assert_close(drawn[:, on], image[:, on] + strength * (ink - image[:, on]))
    assert torch.equal(drawn[:, ~on], image[:, ~on])
