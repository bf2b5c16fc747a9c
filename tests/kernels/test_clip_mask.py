"""The CLIP mask against the published code's values; merging, smoothing over time and the heat map, without a host."""

import math

import numpy as np
import pytest
import torch

from semantic_video.kernels import clip_mask
from semantic_video.kernels.clip_mask import (
    class_terms,
    heat_map,
    merge,
    minmax,
    smooth_over_time,
    text_map,
    zscore,
)
from semantic_video.tests.kernels.clip_golden import CASE, SETTINGS, SHAPES, drawn, golden, weight


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


def test_smoothing_over_time_is_a_gaussian_of_so_many_frames():
    """Naively, frame by frame; weights of the frames that are there sum to one."""
    mask = torch.rand(7, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    for deviation in (0.7, 2.0):
        smooth = smooth_over_time(mask, deviation)
        for s in range(7):
            weights = [np.exp(-((s - t) ** 2) / (2 * deviation**2)) for t in range(7)]
            expected = sum(w * mask[t] for t, w in enumerate(weights)) / sum(weights)
            torch.testing.assert_close(smooth[s], expected, rtol=1e-5, atol=1e-6)
