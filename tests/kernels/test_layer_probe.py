"""Moran's I on grids of known value, the response against explicit logits, and the rules that make block lists."""

import math

import pytest
import torch

from semantic_video.kernels.layer_probe import (
    coherence,
    deviation,
    morans_i,
    ranks,
    scaled,
    text_response,
    weak_by_cause,
    weak_by_response,
)
from semantic_video.patches.blocks import parse_blocks, write_blocks


def naive_moran(grid):
    """The double sum, written out in fp64."""
    rows, columns = grid.shape
    z = grid.double() - grid.double().mean()
    numerator = weights = 0.0
    for r in range(rows):
        for c in range(columns):
            for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                if 0 <= r + dr < rows and 0 <= c + dc < columns:
                    numerator += float(z[r, c] * z[r + dr, c + dc])
                    weights += 1
    return rows * columns / weights * numerator / float(z.square().sum())


@pytest.mark.parametrize("shape", [(5, 7), (1, 6), (6, 1), (2, 2)])
def test_moran_is_the_double_sum(shape):
    maps = torch.randn(3, 2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.tensor([[naive_moran(grid) for grid in pair] for pair in maps], dtype=torch.float64)
    torch.testing.assert_close(morans_i(maps), expected, rtol=1e-12, atol=1e-12)


def test_moran_of_known_grids():
    y, x = torch.meshgrid(torch.arange(30.0), torch.arange(52.0), indexing="ij")
    blob = torch.exp(-((y - 15) ** 2 + (x - 26) ** 2) / 2 / 6**2)
    assert morans_i(blob) == pytest.approx(1.008, abs=5e-3)
    assert morans_i((-1.0) ** (x + y)) == pytest.approx(-1.0, abs=1e-6)
    noise = torch.randn(200, 30, 52, generator=torch.Generator().manual_seed(1))
    assert morans_i(noise).mean() == pytest.approx(-1 / (30 * 52 - 1), abs=3e-3)
    half = (x < 26).float()
    assert morans_i(half) == pytest.approx(naive_moran(half), abs=1e-5)


def test_moran_does_not_see_scale_and_flat_maps_are_zero():
    maps = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(morans_i(7 * maps + 3), morans_i(maps), rtol=1e-4, atol=1e-5)
    for value in (0.0, 0.1, -3e4):
        assert morans_i(torch.full((6, 5), value)) == 0.0
    assert morans_i(torch.ones(1, 1)) == 0.0
    assert deviation(7 * maps)[0] == pytest.approx(7 * float(maps[0].double().std(correction=0)), rel=1e-5)


def test_response_is_the_mean_logit_against_the_mean_word():
    generator = torch.Generator().manual_seed(3)
    q, k = (torch.randn(2, n, 3, 8, generator=generator) for n in (10, 9))
    words = [1, 2, 5]
    logits = torch.einsum("bphd,bwhd->bhwp", q.double(), k.double()) / math.sqrt(8)
    mean = logits.mean(1)[:, words]
    torch.testing.assert_close(
        text_response(q, k, words).double(), mean - mean.mean(1, keepdim=True), rtol=0, atol=1e-5
    )
    shifted = k + torch.randn(1, 1, 3, 8, generator=generator)  # a direction that all words share
    torch.testing.assert_close(text_response(q, shifted, words), text_response(q, k, words), rtol=0, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 2, 16])
def test_coherence_is_the_mean_over_words_and_frames(chunk):
    generator = torch.Generator().manual_seed(4)
    q, k = torch.randn(1, 2 * 3 * 4, 2, 6, generator=generator), torch.randn(1, 9, 2, 6, generator=generator)
    words = [0, 3, 8]
    logits = torch.einsum("phd,whd->wp", q[0].double(), k[0].double()) / 2 / math.sqrt(6)
    maps = (logits[words] - logits[words].mean(0)).unflatten(1, (2, 3, 4))
    moran = sum(naive_moran(grid) for word in maps for grid in word) / 6
    std = sum(float(grid.std(correction=0)) for word in maps for grid in word) / 6
    assert coherence(q, k, words, (2, 3, 4), chunk) == pytest.approx((moran, std), abs=1e-5)


def test_ranks_share_ties():
    assert ranks([3.0, 1.0, 2.0]) == [1.0, 0.0, 0.5]
    assert ranks([1.0, 1.0, 5.0]) == [0.25, 0.25, 1.0]
    assert ranks([4.0]) == [0.0]


def test_weak_by_response_takes_the_lowest_third_of_the_middle():
    moran = [0.0, 0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.5, 0.0]
    std = [0.0, 0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.5, 0.0]
    assert weak_by_response(moran, std) == ([2, 4, 6], [1, 3, 5])
    assert weak_by_response(moran, std, skip=0.0) == ([0, 2, 9], [1, 3, 5])
    assert weak_by_response([0.5], [0.5]) == ([], [])
    assert weak_by_response([0.5, 0.1], [0.5, 0.1], skip=0.0) == ([1], [0])
    assert weak_by_response([0.1, 0.5, 0.9], [0.9, 0.5, 0.1], skip=0.0)[0] == [0]  # equal mean ranks: the first


def test_weak_by_cause_measures_shares_of_the_change():
    assert weak_by_cause([0.06, 0.46, 0.04, 0.08, 0.10, 0.13]) == ([0, 2, 3, 4], [1])
    assert weak_by_cause([1.0] * 6) == ([0, 1], [3, 4, 5])
    assert weak_by_cause([1.0, 0.0]) == ([1], [0])
    assert weak_by_cause([0.0, 0.0, 0.0]) == ([0, 1, 2], [])


@pytest.mark.parametrize("seed", range(20))
def test_no_block_is_weak_and_responsive(seed):
    change = torch.rand(12, generator=torch.Generator().manual_seed(seed)).pow(4).tolist()
    weak, responsive = weak_by_cause(change, share=0.49)
    assert not set(weak) & set(responsive)
    assert sum(change[b] for b in weak) <= 0.49 * sum(change)
    assert sum(change[b] for b in responsive) >= 0.5 * sum(change)


def test_block_lists_are_read_back():
    assert write_blocks([4, 0, 2, 3]) == "0,2-4"
    assert write_blocks([]) == ""
    assert write_blocks([7]) == "7"
    assert parse_blocks(write_blocks([0, 1, 5, 9, 10]), 12) == {0, 1, 5, 9, 10}


def test_heights_of_bars():
    assert scaled([2.0, -2.0, 0.0]) == (0.5, [1.0, 0.0, 0.5])
    assert scaled([1.0, 4.0]) == (0.0, [0.25, 1.0])
    assert scaled([0.0, 0.0]) == (0.0, [0.0, 0.0])
    assert scaled([math.nan, 2.0]) == (0.0, [0.0, 1.0])
