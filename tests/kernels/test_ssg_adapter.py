"""The SSG Adapter's formula against a written-out one, its places, and what its files say."""

from dataclasses import replace

import pytest
import torch

from semantic_video.kernels.rope import apply_rope, patch_centres, rope_freqs
from semantic_video.kernels.ssg_adapter import (
    SSGAdapter,
    View,
    blend,
    crop_mask,
    dense,
    initialise,
    parameter_count,
    token_weights,
)
from semantic_video.kernels.ssg_spec import THETA, Spec
from semantic_video.tests.kernels.naive_ssg_branch import naive_branch

WAN = Spec("wan", width=48, heads=2, blocks=(0, 2), rank=4, clip_width=20, grid=(3, 4), token_width=10)
HUNYUAN = Spec("hunyuan", width=256, heads=2, blocks=(1,), rank=4, clip_width=20, grid=(3, 4), token_width=10)
HEIGHT, WIDTH, FRAMES = 5, 6, 2


def seeded(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(spec, seed=1):
    """An adapter in which every weight counts."""
    adapter = SSGAdapter(spec, dtype=torch.float64)
    initialise(adapter, seed)
    with torch.no_grad():
        for i, (name, parameter) in enumerate(adapter.named_parameters()):
            if name.endswith("value_up.weight"):
                parameter.copy_(seeded(*parameter.shape, seed=i))
            elif parameter.ndim == 1:
                parameter.add_(0.2 * seeded(*parameter.shape, seed=i))
    return adapter


@pytest.mark.parametrize("class_token", [0, 1])
@pytest.mark.parametrize(
    "spec",
    [WAN, HUNYUAN, replace(WAN, spatial="none"), replace(HUNYUAN, spatial="none")],
    ids=lambda s: f"{s.family}-{s.spatial}",
)
def test_the_branch_is_the_formula(spec, class_token):
    adapter, block = filled(spec), spec.blocks[-1]
    features, q = seeded(2, 12 + class_token, 20), seeded(2, FRAMES * HEIGHT * WIDTH, spec.heads, spec.dim, seed=1)
    prompt = adapter.prompt(features, HEIGHT, WIDTH)
    got = adapter.branch(block, q, *adapter.keys_values(block, prompt), prompt)
    expected = torch.stack([naive_branch(adapter, block, *pair, HEIGHT, WIDTH) for pair in zip(q, features)])
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spec", [WAN, HUNYUAN], ids=lambda s: s.family)
def test_only_relative_places_count(spec):
    """RoPE's property: turning both by the same places leaves their products."""
    grid = (7, 9)
    turn = rope_freqs(grid, grid, spec.axes, THETA[spec.family]).unflatten(0, grid)
    q, k = seeded(1, 1, 1, spec.dim, seed=2), seeded(1, 1, 1, spec.dim, seed=3)

    def product(a, b):
        return (apply_rope(q, turn[a][None]) * apply_rope(k, turn[b][None])).sum()

    torch.testing.assert_close(product((0, 1), (2, 3)), product((4, 5), (6, 7)))
    assert not torch.isclose(product((0, 1), (2, 3)), product((0, 1), (2, 4)))
    assert not torch.isclose(product((0, 1), (2, 3)), product((0, 1), (3, 3)))
    torch.testing.assert_close(apply_rope(q, turn[3, 4][None]).norm(), q.norm())


def test_places_fit_any_size():
    assert patch_centres(4, 4).tolist() == [0, 1, 2, 3]
    assert patch_centres(2, 4).tolist() == [0.5, 2.5]
    assert patch_centres(8, 4)[[0, 1]].mean() == 0
    for cells in (1, 5, 64):
        torch.testing.assert_close(patch_centres(cells, 7).mean(), torch.tensor(3.0, dtype=torch.float64))


def test_what_the_image_shows_there_is_found_there():
    """With keys that differ by place alone, every query attends most to the patch at its own place, at any latent
    size."""
    grid, (height, width) = (8, 8), (5, 11)
    axes = (8, 20, 20)
    k = apply_rope(torch.ones(1, 64, 1, 48, dtype=torch.float64), rope_freqs(grid, grid, axes, 10000.0))
    q = apply_rope(
        torch.ones(1, height * width, 1, 48, dtype=torch.float64), rope_freqs((height, width), grid, axes, 10000.0)
    )
    best = (q[0, :, 0] @ k[0, :, 0].T).argmax(1)
    for n, patch in enumerate(best.tolist()):
        row, column = ((n // width) + 0.5) * 8 / height, ((n % width) + 0.5) * 8 / width
        assert abs(patch // 8 + 0.5 - row) <= 0.75
        assert abs(patch % 8 + 0.5 - column) <= 0.75


@pytest.mark.parametrize("spec", [WAN, HUNYUAN], ids=lambda s: s.family)
def test_the_axes_are_the_models(spec):
    assert replace(WAN, width=1536, heads=12).axes == (44, 42, 42)
    assert replace(HUNYUAN, width=3072, heads=24).axes == replace(HUNYUAN, width=2048, heads=16).axes == (16, 56, 56)
    assert sum(spec.axes) == spec.dim


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_new_adapter_adds_exact_zeros_and_learns(dtype):
    adapter = SSGAdapter(WAN, dtype=dtype)
    initialise(adapter)
    prompt = adapter.prompt(seeded(1, 13, 20).to(dtype), HEIGHT, WIDTH)
    added = adapter.branch(2, seeded(1, 30, 2, 24).to(dtype), *adapter.keys_values(2, prompt), prompt)
    assert added.dtype == dtype
    assert torch.equal(added, torch.zeros_like(added))
    added.sum().backward()
    assert adapter.branches["2"].value_up.weight.grad.abs().sum() > 0
    again = SSGAdapter(WAN, dtype=dtype)
    initialise(again)
    assert all(torch.equal(a, b) for a, b in zip(adapter.state_dict().values(), again.state_dict().values()))


def test_gradients_reach_every_weight():
    adapter = filled(WAN)
    prompt = adapter.prompt(seeded(2, 13, 20), HEIGHT, WIDTH)
    sum(
        adapter.branch(b, seeded(2, 60, 2, 24), *adapter.keys_values(b, prompt), prompt).square().sum()
        for b in WAN.blocks
    ).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in adapter.parameters())


def test_size_is_as_counted_by_hand():
    spec = Spec("wan", 1536, 12, tuple(range(30)))
    branches = 30 * (2 * (1280 * 128 + 128 * 1536) + 128 + 1)
    assert parameter_count(spec) == branches + 2 * (1280 * 1280 + 1280) + 4 * 1280
    assert 24e6 < parameter_count(spec) < 26e6


def test_attention_of_ones_own_is_used():
    adapter, seen = filled(WAN), []

    def attend(q, k, v):
        seen.append((q.shape, k.shape, v.shape))
        return dense(q, k, v)

    prompt = adapter.prompt(seeded(1, 12, 20), HEIGHT, WIDTH)
    adapter.branch(0, seeded(1, 30, 2, 24), *adapter.keys_values(0, prompt), prompt, attend)
    assert seen == [((1, 30, 2, 24), (1, 12, 2, 24), (1, 12, 2, 24))]


def test_metadata_round_trip_and_refusals():
    for spec in (WAN, HUNYUAN, replace(WAN, blocks=(3,), spatial="none")):
        assert all(isinstance(value, str) for value in spec.metadata.values())
        assert Spec.read(spec.metadata) == spec
    whole = WAN.metadata
    for metadata, message in (
        ({}, "is no SSG Adapter: its metadata gives the format as None"),
        (whole | {"format": "lora"}, "format as lora"),
        (whole | {"version": "9"}, "version 9; this pack reads 1"),
        ({k: v for k, v in whole.items() if k not in ("rank", "grid")}, "lacks rank, grid"),
        (whole | {"rank": "many"}, "rank is 'many'"),
        (whole | {"blocks": ""}, "blocks is ''"),
        (whole | {"grid": "16"}, r"grid \(16,\)"),
        (whole | {"family": "mochi"}, "family 'mochi': must be one of wan, hunyuan, ltx, minimax"),
        (whole | {"spatial": "2d"}, "spatial '2d'"),
        (whole | {"heads": "5"}, "width 48: must divide into 5 heads"),
        (whole | {"rank": "0"}, "rank 0: must be from 1 to 1048576"),
        (whole | {"rank": "100000000"}, "rank 100000000: must be from 1 to 1048576"),
        (whole | {"rank": "9" * 5000}, "rank is '9{40}'"),
        (whole | {"grid": "16,2000"}, r"grid \(16, 2000\): must be .* 1 to 1024 each"),
        (whole | {"blocks": ",".join(map(str, range(20000)))}, r"blocks \(0, .* 20000 in all\): must be from 0 to 999"),
        (whole | {"blocks": "2,0"}, "in rising order"),
    ):
        with pytest.raises(ValueError, match=message):
            Spec.read(metadata)


def test_features_of_another_clip_are_refused():
    adapter = filled(WAN)
    adapter.check(seeded(1, 12, 20))
    adapter.check(seeded(3, 13, 20))
    for features, message in (
        (seeded(1, 12, 21), "trained with those of a CLIP of width 20"),
        (seeded(12, 20), "of shape"),
        (seeded(1, 14, 20), "14 tokens per image; this adapter was trained with 3 x 4 patches"),
        (seeded(1, 12, 20) / 0, "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            adapter.check(features)


def test_blend_keeps_an_end_frame():
    own, prompted = seeded(1, 8, 3), seeded(1, 4, 3, seed=1)
    assert torch.equal(blend(own, prompted, 0.0), own)
    assert torch.equal(blend(own, prompted, 1.0)[:, :4], prompted)
    assert torch.equal(blend(own, prompted, 0.5)[:, 4:], own[:, 4:])
    torch.testing.assert_close(blend(own, prompted, 0.5)[:, :4], (own[:, :4] + prompted) / 2)


def test_masks_become_means_over_tokens():
    mask = torch.zeros(2, 8, 12)
    mask[0, :4, :6] = 1.0
    mask[1, 0, 0] = 5.0
    weights = token_weights(mask, 2, 2).unflatten(1, (2, 2))[..., 0]
    assert weights.tolist() == [[[1, 0], [0, 0]], [[torch.tensor(1 / 24).item(), 0], [0, 0]]]
    assert token_weights(torch.ones(1, 1, 1), 5, 3).shape == (1, 15, 1)


def test_the_least_that_a_spec_may_be():
    least = dict(family="wan", width=2, heads=1, blocks=(0,), rank=1, clip_width=1, grid=(1, 1), token_width=1)
    assert Spec.read(Spec(**least).metadata) == Spec(**least)
    for name in ("width", "heads", "rank", "clip_width", "token_width"):
        with pytest.raises(ValueError, match=f"{name} 0: must be from 1 to"):
            Spec(**least | {name: 0})
    for blocks in ((), (-1,), (1, 0), (2, 2)):
        with pytest.raises(ValueError, match=r"blocks \(.*must be"):
            Spec(**least | {"blocks": blocks})
    for grid in ((1,), (1, 1, 1), (0, 1)):
        with pytest.raises(ValueError, match=r"grid \(.*must be"):
            Spec(**least | {"grid": grid})


def test_weights_of_masks_stay_between_0_and_1():
    mask = torch.tensor([[-1.0, 3.0, 0.25, 0.75]]).view(1, 1, 4)
    assert token_weights(mask, 1, 4).flatten().tolist() == [0.0, 1.0, 0.25, 0.75]
    assert token_weights(mask, 1, 2).flatten().tolist() == [0.5, 0.5]


@pytest.mark.parametrize("spec", [WAN, HUNYUAN, replace(WAN, spatial="none")], ids=lambda s: f"{s.family}-{s.spatial}")
def test_a_crop_of_the_picture_sees_what_the_whole_sees_there(spec):
    """Rows 1 to 3 and columns 2 to 4 of 5 x 6 tokens. HunyuanVideo turns a crop's queries from 0 on, Wan's are bare."""
    adapter, block, features = filled(spec), spec.blocks[-1], seeded(1, 13, 20)
    q, (rows, columns) = seeded(1, HEIGHT, WIDTH, spec.heads, spec.dim, seed=1), (slice(1, 4), slice(2, 5))

    def seen(q, *view):
        grid = q.shape[1:3]
        if spec.family == "hunyuan":
            q = apply_rope(q.flatten(1, 2), rope_freqs(grid, grid, spec.axes, THETA[spec.family])).unflatten(1, grid)
        prompt = adapter.prompt(features, *grid, *view)
        out = adapter.branch(block, q.flatten(1, 2), *adapter.keys_values(block, prompt), prompt)
        return out.unflatten(1, grid)

    expected = seen(q)[:, rows, columns]
    torch.testing.assert_close(seen(q[:, rows, columns], View(1, 2, HEIGHT, WIDTH)), expected, rtol=1e-9, atol=1e-9)
    if spec.spatial == "rope":
        assert not torch.allclose(seen(q[:, rows, columns]), expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(seen(q), seen(q, View(0, 0, HEIGHT, WIDTH)))


def test_a_crop_of_a_mask_is_the_mask_there():
    mask = torch.rand(2, 24, 40, generator=torch.Generator().manual_seed(1))
    cropped = crop_mask(mask, (6, 10), 1, 3, 4, 5)
    for frame in range(2):
        for row in range(4):
            for column in range(5):
                y, x = 4 * (row + 1), 4 * (column + 3)
                assert torch.isclose(cropped[frame, row, column], mask[frame, y : y + 4, x : x + 4].mean())
    assert cropped.shape == (2, 4, 5)
