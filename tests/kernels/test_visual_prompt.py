"""Painting a mask onto pictures, without a host."""

import pytest
import torch

from semantic_video.kernels.visual_prompt import crop, gaussian_blur, outline, paint, region


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
