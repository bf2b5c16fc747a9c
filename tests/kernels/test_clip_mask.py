"""The CLIP mask against the published code's values, and its geometry, without a host."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from semantic_video.kernels import clip_mask
from semantic_video.kernels.clip_mask import (
    Geometry,
    class_terms,
    heat_map,
    interpolation,
    merge,
    minmax,
    smooth_over_time,
    text_map,
    zscore,
)

GOLDEN = np.load(Path(__file__).resolve().parent.parent / "golden" / "clip_mask.npz")
SEED, CASE = int(GOLDEN["seed"]), "second_last"
SHAPES, SETTINGS = json.loads(str(GOLDEN["parameters"]))[CASE], json.loads(str(GOLDEN["settings"]))


def drawn(name, shape):
    return torch.from_numpy(
        np.random.default_rng([SEED, zlib.crc32(name.encode())]).standard_normal(shape, dtype=np.float32)
    )


def weight(name, shape):
    n = drawn(name, shape)
    if name.endswith("bias"):
        return 0.2 * n
    if n.ndim == 1 and name.endswith("weight"):
        return 1 + 0.2 * n
    if name.endswith("embedding"):
        return 0.3 * n
    return n * 1.5 / np.sqrt(64 if name == "proj" else np.prod(shape[1:]))


def golden(name):
    return torch.from_numpy(GOLDEN[f"{CASE}.{name}"])


@pytest.fixture(scope="module")
def maps():
    """Raw maps of the golden tower: an own naive forward, and the kernels where they come in."""
    w = {name: weight(name, tuple(shape)) for name, shape in SHAPES.items()}

    def norm(x, name):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    x = (
        torch.nn.functional.conv2d(drawn(f"{CASE}.image", (1, 3, 48, 48)), w["conv1.weight"], stride=8)
        .flatten(2)
        .transpose(1, 2)
    )
    x = norm(torch.cat((w["class_embedding"].view(1, 1, -1), x), dim=1) + w["positional_embedding"], "ln_pre")
    for n in range(5):
        block = f"transformer.resblocks.{n}"
        q, k, v = (
            norm(x, f"{block}.ln_1") @ w[f"{block}.attn.in_proj_weight"].T + w[f"{block}.attn.in_proj_bias"]
        ).chunk(3, dim=-1)
        split = [y.unflatten(-1, (4, 16)).transpose(1, 2) for y in (q, k, v)]
        out = torch.nn.functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        x = x + out @ w[f"{block}.attn.out_proj.weight"].T + w[f"{block}.attn.out_proj.bias"]
        hidden = torch.nn.functional.gelu(
            norm(x, f"{block}.ln_2") @ w[f"{block}.mlp.c_fc.weight"].T + w[f"{block}.mlp.c_fc.bias"]
        )
        x = x + hidden @ w[f"{block}.mlp.c_proj.weight"].T + w[f"{block}.mlp.c_proj.bias"]
        if n == 3:
            terms, patches = class_terms(q, k, v, heads=4) @ w[f"{block}.attn.out_proj.weight"].T, x[:, 1:]
    text = drawn(f"{CASE}.text", (1, 32))
    raw = [
        text_map(w["ln_post.weight"] * y @ w["proj"], text / text.norm()).unflatten(-1, (6, 6))
        for y in (terms, patches)
    ]
    assert (norm(x[:, 0], "ln_post") @ w["proj"] - golden("embedding")).abs().max() < 5e-5
    return raw


def test_raw_maps_are_the_published_ones(maps):
    for name, got in zip(("cls", "token"), maps):
        assert (zscore(got[0]) - zscore(golden(name))).abs().max() < 1e-4


@pytest.mark.parametrize(("kernel", "contrast"), SETTINGS)
def test_masks_are_the_published_ones(maps, kernel, contrast):
    error = (merge(*maps, contrast, kernel)[0] - golden(f"mask_k{kernel}_c{contrast}")).abs().max()
    assert error < 1e-4
    assert (merge(*maps, contrast, kernel, "product")[0] - golden(f"mask_k{kernel}_c{contrast}")).abs().max() > 1e-2


def test_the_known_mistakes_are_caught(maps, monkeypatch):
    def biased(x):
        return (x - x.mean((-2, -1), keepdim=True)) / x.std((-2, -1), keepdim=True, unbiased=False)

    def errors():
        return max(float((merge(*maps, c, k)[0] - golden(f"mask_k{k}_c{c}")).abs().max()) for k, c in SETTINGS)

    for name, wrong, least in (
        ("zscore", biased, 2e-3),
        ("mean_filter", lambda x, k: torch.nn.functional.avg_pool2d(x, k, 1, k // 2), 0.5),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(clip_mask, name, wrong)
            assert errors() > least
    assert errors() < 1e-4


def test_direct_patches_mark_what_negated_ones_leave_out():
    cls, token = torch.rand(1, 1, 6, 6), torch.rand(1, 1, 6, 6)
    direct, negated = (merge(cls, token, 5.0, 1, "patch map", patches) for patches in ("direct", "negated"))
    assert torch.allclose(direct, 1 - negated, atol=1e-6)
    assert direct.flatten().argmax() == token.flatten().argmax()


def test_constant_maps_divide_nothing_by_zero():
    flat, ramp = torch.ones(1, 2, 4, 4), torch.arange(32.0).view(1, 2, 4, 4)
    for fusion in clip_mask.Fusion.__args__:
        for pair in ((flat, flat), (flat, ramp), (ramp, flat)):
            assert torch.isfinite(merge(*pair, 5.0, 3, fusion)).all()
    one = torch.ones(1, 1, 1, 1)
    assert torch.isfinite(merge(one, one, 5.0, 3)).all()


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


def test_smoothing_over_time():
    mask = torch.zeros(9, 1, 2, 2)
    mask[4] = 1
    assert smooth_over_time(mask, 0.0) is mask
    smooth = smooth_over_time(mask, 1.0)
    assert 0 < smooth[3].max() < smooth[4].max() < 1
    torch.testing.assert_close(smooth_over_time(torch.ones(5, 1, 2, 2), 2.0), torch.ones(5, 1, 2, 2))


def test_heat_map_runs_from_blue_to_red():
    colours = heat_map(torch.zeros(1, 1, 3, 3), minmax(torch.tensor([[[0.0, 0.5, 1.0]]])))[0, 0]
    assert [int(c.argmax()) for c in colours] == [2, 1, 0]


def test_smoothing_is_a_gaussian_over_frames():
    mask = torch.rand(7, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for deviation in (0.5, 1.0, 3.0):
        expected = torch.zeros_like(mask)
        for frame in range(7):
            weights = [math.exp(-((other - frame) ** 2) / (2 * deviation**2)) for other in range(7)]
            expected[frame] = sum(w * m for w, m in zip(weights, mask)) / sum(weights)
        torch.testing.assert_close(smooth_over_time(mask, deviation), expected)
    two = torch.tensor([0.0, 1.0]).view(2, 1, 1)
    near, far = 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(0.5))
    torch.testing.assert_close(smooth_over_time(two, 1.0).flatten(), torch.tensor([far, near]))
    assert smooth_over_time(two[:1], 1.0) is not None and smooth_over_time(two, -1.0) is two


def test_heat_map_by_hand():
    frames = torch.full((1, 1, 3, 3), 0.4)
    colours = heat_map(frames, torch.tensor([[[0.0, 0.5, 1.0]]]))[0, 0]
    expected = torch.tensor([[0.0, 0.0, 0.5], [0.5, 1.0, 0.5], [0.5, 0.0, 0.0]])
    torch.testing.assert_close(colours, 0.2 + 0.5 * expected)


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


def test_the_parts_of_a_merge():
    """Each fusion from the two maps it is made of, computed step by step in double precision."""
    generator = torch.Generator().manual_seed(0)
    cls, token = (torch.rand(2, 3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2))

    def to_unit(x):
        return torch.stack([(one - one.min()) / (one.max() - one.min()) for one in x.flatten(0, 1)]).view_as(x)

    def filtered(x):
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
        return sum(padded[..., i : i + 5, j : j + 4] for i in range(3) for j in range(3)) / 9

    scores = torch.stack([(one - one.mean()) / one.std() for one in cls.flatten(0, 1)]).view_as(cls)
    p = filtered(1 / (1 + torch.exp(-4.0 * scores)))
    for patches, q in (("negated", filtered(1 - to_unit(token))), ("direct", filtered(to_unit(token)))):
        for fusion, mask in {
            "soft or": p + q - p * q,
            "product": p * q,
            "class map": p,
            "patch map": q,
        }.items():
            torch.testing.assert_close(merge(cls, token, 4.0, 3, fusion, patches), to_unit(mask))
    torch.testing.assert_close(merge(cls, token, 4.0, 3), merge(cls, token, 4.0, 3, "soft or", "negated"))


def test_constant_maps_are_zero():
    flat = torch.full((1, 1, 2, 3), 7.0)
    assert zscore(flat).eq(0).all() and minmax(flat).eq(0).all()
    single = torch.full((1, 1, 1, 1), 7.0)
    assert zscore(single).eq(0).all()


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


def test_smoothing_over_time_is_a_gaussian_of_so_many_frames():
    """Naively, frame by frame; weights of the frames that are there sum to one."""
    mask = torch.rand(7, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    for deviation in (0.7, 2.0):
        smooth = smooth_over_time(mask, deviation)
        for s in range(7):
            weights = [np.exp(-((s - t) ** 2) / (2 * deviation**2)) for t in range(7)]
            expected = sum(w * mask[t] for t, w in enumerate(weights)) / sum(weights)
            torch.testing.assert_close(smooth[s], expected, rtol=1e-5, atol=1e-6)


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
