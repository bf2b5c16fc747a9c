"""Attention between keywords alone, against maps that are written out in fp64."""

import pytest
import torch

from semantic_video.kernels.keyword_columns import column_difference, column_map, edited
from semantic_video.tests.kernels.test_focal_guidance import attend, by_map, logits, tensors

COLUMNS = [1, 4, 5]


def explicit(own, carried, cache):
    """The formula on whole maps [batch, heads, queries, keys], row by row."""
    out = own.clone()
    for b, h, q in torch.cartesian_prod(*(torch.arange(n) for n in own.shape[:3])).tolist():
        new = [max(0.0, (1 - cache) * float(own[b, h, q, c]) + cache * float(carried[b, q, c])) for c in COLUMNS]
        mass = float(own[b, h, q, COLUMNS].sum())
        if sum(new) > 0:
            out[b, h, q, COLUMNS] = torch.tensor([x * mass / sum(new) for x in new], dtype=torch.float64)
    return out


@pytest.mark.parametrize("cache", [-1.0, -0.4, 0.0, 0.3, 1.0])
def test_only_keywords_move_and_each_row_keeps_its_mass(cache):
    (q, k, v), (q_s, k_s, _) = tensors(), tensors(seed=1)
    maps, source = logits(q, k).softmax(-1), logits(q_s, k_s).softmax(-1)
    expected = explicit(maps, source.mean(1), cache)
    torch.testing.assert_close(expected.sum(-1), torch.ones(2, 3, 9, dtype=torch.float64))
    groups = [[column] for column in COLUMNS]
    own = column_map(q, k, groups, attend)
    torch.testing.assert_close(own, maps[..., COLUMNS].transpose(1, 2))
    carried = column_map(q_s, k_s, groups, attend).mean(2)
    moved = edited(own, carried, cache)
    torch.testing.assert_close(moved.double().sum(-1), own.sum(-1), rtol=1e-5, atol=1e-6)
    got = attend(q, k, v) + column_difference(own, moved, v[:, COLUMNS])
    torch.testing.assert_close(got, by_map(expected, v), rtol=1e-5, atol=1e-6)
    assert (cache == 0) == torch.allclose(got, attend(q, k, v), rtol=1e-4, atol=1e-5)


def test_more_columns_than_a_head_is_wide():
    q, k, _ = tensors(keys=11, dim=4)
    maps = logits(q, k).softmax(-1).transpose(1, 2)
    got = column_map(q, k, [[i] for i in range(9)], attend)
    torch.testing.assert_close(got, maps[..., :9])


def test_copies_of_a_key_are_one_column():
    q, k, _ = tensors()
    maps = logits(q, k).softmax(-1).transpose(1, 2)
    got = column_map(q, k, [[1, 5], [4]], attend)
    torch.testing.assert_close(got, torch.stack((maps[..., 1] + maps[..., 5], maps[..., 4]), dim=-1))


def test_one_keyword_has_nowhere_to_move():
    own = torch.rand(1, 5, 2, 1)
    torch.testing.assert_close(edited(own, torch.rand(1, 5, 1), 0.7), own)


def test_a_row_with_nothing_left_stays():
    own, carried = torch.tensor([0.2, 0.1]).view(1, 1, 1, 2), torch.tensor([0.9, 0.8]).view(1, 1, 2)
    torch.testing.assert_close(edited(own, carried, -1.0), own)
