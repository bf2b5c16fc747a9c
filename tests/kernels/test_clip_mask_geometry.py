"""The CLIP mask's geometry: squash, center crop and letterbox, from the picture to patches and back."""

import numpy as np
import pytest
import torch

from semantic_video.kernels.clip_mask import (
    Geometry,
    interpolation,
)


@pytest.mark.parametrize(("height", "width"), [(90, 160), (160, 90), (64, 64), (1, 1), (7, 300)])
@pytest.mark.parametrize("fit", ["squash", "letterbox"])
def test_what_is_seen_at_a_place_is_found_at_that_place(height, width, fit):
    """A bright spot of the picture, through the square, its patches and back."""
    geometry = Geometry(height, width, 64, fit)
    frames = torch.zeros(1, height, width, 3)
    top, left = height // 4, 5 * width // 8
    frames[:, top : top + height // 4 + 1, left : left + width // 8 + 1] = 1
    square = geometry.square(frames)
    assert square.shape == (1, 3, 64, 64)
    # without the bars
    bright = torch.nn.functional.avg_pool2d((square - geometry.square(torch.zeros_like(frames)))[:, :1], 8).flatten(1)
    back = geometry.picture(geometry.patches(bright, 8), 8)
    assert back.shape == (1, height, width)
    if min(height, width) > 8:
        ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        for image, axis, side in ((ys, 0, height), (xs, 1, width)):
            there = [(image * m).sum() / m.sum() for m in (frames[0, ..., 0], back[0])]
            assert abs(there[0] - there[1]) / side < 0.04, axis  # a patch of the letterbox is 0.22 of its short side


def test_interpolation_is_pillow_s():
    from PIL import Image

    grid = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    for size in (48, 5):
        rows = interpolation(size, (0, 6), 0.0, 6.0).float()
        expected = np.asarray(Image.fromarray(grid.numpy()).resize((size, size), Image.Resampling.BICUBIC))
        torch.testing.assert_close(rows @ grid @ rows.T, torch.from_numpy(expected.copy()), rtol=1e-4, atol=1e-5)


def test_center_crop_is_as_published_misaligned():
    geometry = Geometry(8, 16, 8, "center crop")
    frames = torch.zeros(1, 8, 16, 3)
    frames[:, :, :4] = 1
    assert geometry.square(frames).max() == 0, "what is cropped away is not seen"
    assert geometry.picture(torch.rand(1, 4, 4), 2).shape == (1, 8, 16)


def test_letterbox_keeps_patches_that_it_fills_in_part():
    """A picture of 30 x 64 lies in rows 17 to 47 of 64: of patches of 8 these touch numbers 2 to 5, two of them in
    part."""
    geometry, maps = Geometry(30, 64, 64, "letterbox"), torch.arange(64.0)
    assert geometry.box == (17, 0, 47, 64)
    assert torch.equal(geometry.patches(maps, 8), maps.view(8, 8)[2:6])
    upright = Geometry(64, 30, 64, "letterbox")
    assert upright.box == (0, 17, 64, 47)
    assert torch.equal(upright.patches(maps, 8), maps.view(8, 8)[:, 2:6])
    assert Geometry(1, 1000, 64, "letterbox").box == (31, 0, 32, 64), "at least a pixel"
    for fit in ("squash", "center crop"):
        assert Geometry(30, 64, 64, fit).box == (0, 0, 64, 64)


def test_the_square_of_each_fit():
    frames = torch.rand(2, 32, 64, 3, generator=torch.Generator().manual_seed(0))
    channels_first = frames.permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(channels_first, size=(32, 32), mode="bicubic", antialias=True)
    torch.testing.assert_close(Geometry(32, 64, 32).square(frames), resized.clamp(0, 1))
    cropped = Geometry(32, 64, 32, "center crop").square(frames)
    torch.testing.assert_close(cropped, channels_first[..., 16:48])
    upright = Geometry(64, 32, 32, "center crop").square(frames.movedim(1, 2))
    torch.testing.assert_close(upright, channels_first.movedim(2, 3)[:, :, 16:48])
    boxed = Geometry(32, 64, 64, "letterbox").square(frames)
    torch.testing.assert_close(boxed[:, :, 16:48], channels_first)
    assert boxed[:, :, :16].eq(0.5).all() and boxed[:, :, 48:].eq(0.5).all()
    upright = Geometry(64, 32, 64, "letterbox").square(frames.movedim(1, 2))
    torch.testing.assert_close(upright[..., 16:48], channels_first.movedim(2, 3))
    assert upright[..., :16].eq(0.5).all() and upright[..., 48:].eq(0.5).all()


def test_masks_lie_where_the_letterbox_put_the_picture():
    """A picture whose box begins and ends inside patches: its pixels read the patches at their own places."""
    geometry = Geometry(60, 128, 64, "letterbox")  # 60 rows over 17 .. 47 of the square: half a row each
    rows = torch.tensor([0.2, 0.4, 0.6, 0.8]).view(1, 4, 1).expand(1, 4, 8)  # of patches 2 to 5, a ramp
    mask = geometry.picture(rows, 8)[0]
    centres = (17 + 0.5 * (torch.arange(60) + 0.5)) / 8 - 2.5  # in patches, from the first one's centre
    inner = (centres > 1) & (centres < 2)  # where bicubic reads a ramp as it is
    assert int(inner.sum()) == 16
    torch.testing.assert_close(mask[inner][:, 64], (0.2 + 0.2 * centres)[inner], rtol=1e-4, atol=1e-4)
    columns = torch.linspace(0.1, 0.8, 8).expand(1, 4, 8)
    centres = 0.5 * (torch.arange(128) + 0.5) / 8 - 0.5
    inner = (centres > 1) & (centres < 6)
    torch.testing.assert_close(
        geometry.picture(columns, 8)[0, 30][inner], (0.1 + 0.1 * centres)[inner], rtol=1e-4, atol=1e-4
    )


def test_what_bicubic_overshoots_is_cut_off():
    step = torch.zeros(1, 8, 8, 3)
    step[:, :, 4:] = 1
    raw = torch.nn.functional.interpolate(step.movedim(-1, 1), size=(32, 32), mode="bicubic", antialias=True)
    assert raw.min() < -0.01 and raw.max() > 1.01
    torch.testing.assert_close(Geometry(8, 8, 32).square(step), raw.clamp(0, 1))
    found = Geometry(32, 32, 32).picture(step[..., 0], 4)
    assert found.min() == 0 and found.max() == 1
    torch.testing.assert_close(found[0, 0, 20:], torch.ones(12))
    assert found[0, 0, :12].eq(0).all()


@pytest.mark.parametrize(
    ("height", "width", "box", "rows", "columns"),
    [
        (32, 64, (16, 0, 48, 64), (2, 6), (0, 8)),
        (40, 64, (12, 0, 52, 64), (1, 7), (0, 8)),  # half of rows 1 and 6 is picture
        (64, 9, (0, 27, 64, 36), (0, 8), (3, 5)),
        (64, 60, (0, 2, 64, 62), (0, 8), (0, 8)),
    ],
)
def test_a_letterbox_keeps_every_patch_that_touches_the_picture(height, width, box, rows, columns):
    geometry = Geometry(height, width, 64, "letterbox")
    assert geometry.box == box
    grid = torch.arange(64.0).view(1, 64)
    expected = grid.view(1, 8, 8)[:, rows[0] : rows[1], columns[0] : columns[1]]
    assert torch.equal(geometry.patches(grid, 8), expected)
