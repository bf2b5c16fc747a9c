"""Streamed maps are explicit softmax, and no large tensor is ever made."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from semantic_video.kernels.attention_maps import normalised, spread_frames, text_map, word_maps


def tensors(batch=2, queries=23, keys=11, heads=3, dim=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(batch, n, heads, dim, generator=generator).to(dtype) for n in (queries, keys))


def explicit(q, k, columns, mask=None):
    logits = torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) / math.sqrt(q.shape[-1])
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    return logits.softmax(-1).mean(1)[..., columns]


@pytest.mark.parametrize("budget", [1, 30, 2**20])
def test_streamed_is_explicit(budget):
    q, k = tensors()
    torch.testing.assert_close(
        text_map(q, k, [0, 4, 10], budget=budget).double(), explicit(q, k, [0, 4, 10]), rtol=0, atol=1e-6
    )


def test_half_precision_is_computed_in_full():
    q, k = tensors(dtype=torch.bfloat16)
    torch.testing.assert_close(text_map(q, k, [3]).double(), explicit(q, k, [3]), rtol=0, atol=1e-6)


def test_large_logits_do_not_overflow():
    q, k = (100 * x for x in tensors())
    out = text_map(q, k, list(range(11)))
    torch.testing.assert_close(out.sum(-1), torch.ones(2, 23))
    torch.testing.assert_close(out.double(), explicit(q, k, list(range(11))), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1, 11), (2, 1, 1, 11), (2, 3, 23, 11), (1, 1, 23, 11)])
@pytest.mark.parametrize("boolean", [False, True])
def test_masks_of_all_shapes(shape, boolean):
    q, k = tensors()
    mask = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    mask = mask > -0.5 if boolean else mask
    got = text_map(q, k, [1, 2], mask, budget=50)
    torch.testing.assert_close(got.double(), explicit(q, k, [1, 2], mask), rtol=0, atol=1e-6)


class Largest(TorchDispatchMode):
    """The most elements that any tensor made inside has."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else (out,):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in self.given:
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return out


@pytest.mark.parametrize("keys", [64, 900])
def test_memory_is_bounded(keys):
    """Text (few keys) and joint (as many keys as queries): no more than the budget, one head's keys and the result."""
    q, k = tensors(batch=1, queries=900, keys=keys, heads=4, dim=16)
    budget = 5000
    with Largest() as seen:
        seen.given = {x.untyped_storage().data_ptr() for x in (q, k)}
        text_map(q, k, [0, 3, 5], budget=budget)
    bound = max(budget, keys * 16, 900 * 3, (budget // keys) * 16)
    assert 0 < seen.elements <= bound
    assert seen.elements < 900 * keys, "less than one head's map"


def test_words_add_up_their_tokens():
    columns = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(2))
    got = word_maps(columns, [[0], [1, 3]])
    assert got.shape == (2, 2, 5)
    torch.testing.assert_close(got[:, 1], columns[..., 1] + columns[..., 3])


def test_normalised_over_the_whole_video():
    maps = torch.tensor([[[1.0, 2.0]], [[3.0, 5.0]]])
    assert normalised(maps).flatten().tolist() == [0.0, 0.25, 0.5, 1.0]
    assert normalised(torch.full((2, 1, 2), 0.3)).abs().sum() == 0


def test_latent_frames_become_video_frames():
    maps = torch.arange(3.0)[:, None, None]
    assert spread_frames(maps, 9, [0, 1, 5, 9]).flatten().tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert spread_frames(maps, 5, [0, 1, 2, 5]).flatten().tolist() == [0, 1, 2, 2, 2]
    assert spread_frames(maps, 3, [0, 1, 5, 9]) is maps
    for frames in (1, 2, 8, 10):
        with pytest.raises(ValueError, match=f"^{frames} video frames? for 3 latent frames; these make 9$"):
            spread_frames(maps, frames, [0, 1, 5, 9])


@pytest.mark.parametrize("boolean", [False, True])
def test_masks_of_two_heads_and_two_queries(boolean):
    q, k = tensors(queries=2, heads=2)
    mask = torch.randn(1, 2, 2, 11, generator=torch.Generator().manual_seed(1))
    mask = mask > -0.5 if boolean else mask
    for budget in (1, 2**20):
        got = text_map(q, k, [1, 2], mask, budget)
        torch.testing.assert_close(got.double(), explicit(q, k, [1, 2], mask), rtol=0, atol=1e-6)


def test_a_budget_below_one_query_takes_one_at_a_time():
    q, k = tensors(batch=1, queries=4, keys=900, heads=1, dim=1)
    with Largest() as seen:
        seen.given = {x.untyped_storage().data_ptr() for x in (q, k)}
        text_map(q, k, [0, 3, 5], budget=1)
    assert seen.elements == 900
