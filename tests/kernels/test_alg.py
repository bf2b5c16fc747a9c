"""The low-pass filter against triangle weights written out, and guidance of three branches against itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_video.kernels.alg import FACTORS, MIN_SIGMAS, factor_at, low_pass, three_branch


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def triangle(source: int, target: int) -> torch.Tensor:
    """Weights [target, source] of a bilinear resize whose triangle widens where it shrinks (antialiased)."""
    scale = source / target
    reach = max(scale, 1.0)
    weights = torch.zeros(target, source, dtype=torch.float64)
    for i in range(target):
        for j in range(source):
            weights[i, j] = max(0.0, 1 - abs((j + 0.5) - (i + 0.5) * scale) / reach)
    return weights / weights.sum(1, keepdim=True)


def naive(x, factor):
    for axis in (-2, -1):
        size = x.shape[axis]
        small = max(1, round(size * factor))
        matrix = triangle(small, size) @ triangle(size, small)
        x = torch.einsum("ij,...j->...i", matrix, x.movedim(axis, -1)).movedim(-1, axis)
    return x


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.05, 0.25, 0.4, 0.625, 0.9]), st.integers(0, 99))
def test_it_is_a_bilinear_resize_there_and_back_frame_by_frame(height, width, factor, seed):
    x = draw(2, 3, 4, height, width, seed=seed)
    got = low_pass(x, factor)
    torch.testing.assert_close(got, naive(x, factor), rtol=1e-9, atol=1e-9)
    alone = torch.stack([low_pass(x[:, :, f : f + 1], factor)[:, :, 0] for f in range(4)], dim=2)
    torch.testing.assert_close(got, alone, rtol=1e-12, atol=1e-12)


def test_flat_images_stay_and_a_chequerboard_goes():
    flat = torch.full((1, 20, 3, 8, 8), 0.7)
    torch.testing.assert_close(low_pass(flat, 0.4), flat)
    board = ((torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1)[None, None, None]
    assert low_pass(board, 0.4)[..., 4:12, 4:12].abs().max() < 0.05


def test_factor_one_and_strength_zero_hand_back_the_image():
    x = draw(1, 20, 2, 6, 6)
    assert low_pass(x, 1.0) is x
    assert low_pass(x, factor_at(0.4, 0.0)) is x
    assert factor_at(0.4, 1.0) == pytest.approx(0.4)
    assert factor_at(0.4, 0.5) == pytest.approx(0.7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_dtype(dtype):
    x = draw(1, 4, 2, 8, 8)
    got = low_pass(x.to(dtype), 0.4)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), low_pass(x, 0.4), rtol=2e-2, atol=2e-2)


@given(st.floats(0.0, 12.0), st.integers(0, 99))
def test_three_branches_are_one_more_cond(scale, seed):
    cond_blurred, uncond_blurred, uncond_sharp = (draw(1, 2, 3, seed=seed + i) for i in range(3))
    cond = three_branch(cond_blurred, uncond_blurred, uncond_sharp)
    published = uncond_sharp + scale * (cond_blurred - uncond_blurred)
    torch.testing.assert_close(uncond_sharp + scale * (cond - uncond_sharp), published, rtol=1e-9, atol=1e-9)


def test_published_steps_as_noise_levels():
    """step / (steps - 1) in [0, 0.20] (Wan, shift 5) and [0, 0.04] (HunyuanVideo, shift 7) of 50 steps."""
    assert FACTORS == {"wan": 0.4, "hunyuan": 0.625}
    for family, part, shift, last in (("wan", 0.20, 5.0, 9), ("hunyuan", 0.04, 7.0, 1)):
        official = [shift * s / (1 + (shift - 1) * s) for s in (1 - i / 50 for i in range(50))]
        published = [i for i in range(50) if i / 49 <= part]
        assert published == list(range(last + 1))
        assert [i for i, sigma in enumerate(official) if sigma > MIN_SIGMAS[family] + 1e-5] == published


def test_an_odd_number_of_lines():
    x = draw(1, 1, 1, 3, 5)
    torch.testing.assert_close(low_pass(x, 0.4), naive(x, 0.4), rtol=1e-9, atol=1e-9)
