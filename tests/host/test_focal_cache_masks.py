"""What one block of Focal Guidance takes from another where the attention has a mask: whole maps, in fp64."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.host.call import Call
from semantic_video.host.layout import Layout
from semantic_video.kernels.focal_guidance import weigh
from semantic_video.patches.focal_cache import carried, carry_joint, carry_text, part
from semantic_video.patches.focal_columns import Columns, add_source, carry_columns
from semantic_video.tests.host import naive

TEXT, VIDEO, AFTER = 5, 8, 2  # joint: text, a reference token, video, in-context tokens
COLUMNS = [1, 3]
CACHE = 0.4
MASKS = {
    "none": None,
    "of keys": lambda queries, keys: seeded(1, 1, 1, keys, seed=7),
    "of rows": lambda queries, keys: seeded(2, 1, 1, keys, seed=8),
    "of queries": lambda queries, keys: seeded(2, 3, queries, keys, seed=9),
}
ROWS = [[1], [0, 1]]


def call_of(kind, mask, seed=0):
    joint = kind == "joint"
    queries = TEXT * joint + 1 + VIDEO + AFTER
    keys = queries if joint else TEXT
    q, k, v = (seeded(2, count, 3, 4, seed=seed + i) for i, count in enumerate((queries, keys, keys)))
    layout = Layout(2, 2, 2, before=1, after=AFTER)
    forward = SimpleNamespace(layout=layout)
    mask = mask and mask(queries, keys)
    return Call(q, k, v, mask, SimpleNamespace(kind=kind), forward, TEXT * joint + 1, AFTER, (0, 1), TEXT * joint + 1)


def logits(call):
    return naive.logits_of(call.q, call.k) + (0 if call.mask is None else call.mask.double())


def times(maps, v):
    return torch.einsum("bhqk,bkhd->bqhd", maps, v.double())


def dense(call):
    return naive.attention(call.q, call.k, call.v, call.mask).flatten(2)


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("weight", [1.0, 3.0, 2.5])
@pytest.mark.parametrize("kind", ["joint", "text"])
def test_whole_maps(kind, weight, mask, rows):
    """(1 - c) of the block's own and c of the source's; in joint attention for what text takes of a video token."""
    call, before = call_of(kind, MASKS[mask]), call_of(kind, None, seed=20)
    source = carried(before, rows)
    louder = partial(weigh, columns=COLUMNS, weight=weight, rows=rows)
    keys = louder(call.k, call.v, call.mask)
    guided = call.replace(k=keys.k, v=keys.v, mask=keys.mask) if weight != 1 else call
    out, add = dense(guided), carry_joint if kind == "joint" else carry_text
    kept = out.clone()
    got = add(call, guided, out, source, rows, louder if weight != 1 else None, CACHE, dense)
    assert torch.equal(out, kept)
    bias = torch.zeros(call.k.shape[1], dtype=torch.float64)
    bias[COLUMNS] = torch.tensor(weight, dtype=torch.float64).log()
    own = logits(call) + bias
    theirs = own - naive.logits_of(call.q, call.k) + naive.logits_of(before.q, before.k)
    maps = own.softmax(-1)
    mass = maps[..., :TEXT].sum(-1, keepdim=True)
    moved = maps.clone()
    moved[..., :TEXT] += CACHE * mass * (theirs[..., :TEXT].softmax(-1) - own[..., :TEXT].softmax(-1))
    expected = kept.clone().double()
    queries = slice(call.before, call.q.shape[1] - call.after) if kind == "joint" else slice(None)
    expected[rows, queries] = times(moved, call.v).flatten(2)[rows, queries]
    torch.testing.assert_close(got, expected.to(got), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("weight", [1.0, 3.0, 2.5])
@pytest.mark.parametrize("kind", ["joint", "text"])
def test_between_keywords(kind, weight, mask, rows):
    """Of two sources the mean; keys as the model has them there, weighed here."""
    call, sources = call_of(kind, MASKS[mask]), [call_of(kind, MASKS[mask], seed) for seed in (20, 40)]
    first = add_source(sources[0], rows, COLUMNS, None)
    both = add_source(sources[1], rows, COLUMNS, first)
    queries = slice(call.before, call.q.shape[1] - call.after) if kind == "joint" else slice(None)
    means = [logits(one).softmax(-1).mean(1)[rows][:, queries][..., COLUMNS] for one in sources]
    assert both is first and both.sources == 2
    torch.testing.assert_close(both.mean.double(), (means[0] + means[1]) / 2, rtol=1e-4, atol=1e-6)
    keys = weigh(call.k, call.v, call.mask, COLUMNS, weight, rows)
    guided = call.replace(k=keys.k, v=keys.v, mask=keys.mask)
    out = dense(guided)
    kept = out.clone()
    got = carry_columns(call, guided, out, both, rows, COLUMNS, CACHE)
    assert torch.equal(out, kept)
    bias = torch.zeros(call.k.shape[1], dtype=torch.float64)
    bias[COLUMNS] = torch.tensor(weight, dtype=torch.float64).log()
    maps = (logits(call) + bias).softmax(-1)[rows][:, :, queries]
    own = maps[..., COLUMNS]
    new = (1 - CACHE) * own + CACHE * ((means[0] + means[1]) / 2).unsqueeze(1)
    new = new * own.sum(-1, keepdim=True) / new.sum(-1, keepdim=True)
    expected = kept.clone().double()
    expected[rows, queries] += times(new - own, call.v[rows][:, COLUMNS]).flatten(2)
    torch.testing.assert_close(got, expected.to(got), rtol=1e-4, atol=1e-5)


def test_a_source_is_a_tensor_of_its_own():
    call = call_of("joint", None)
    source = carried(call, [1])
    assert torch.equal(source.q, call.q[[1], TEXT + 1 : -AFTER]) and torch.equal(source.k, call.k[[1], :TEXT])
    whole = carried(call_of("text", None), [0, 1])
    assert whole.q.shape == (2, 1 + VIDEO + AFTER, 3, 4) and whole.k.shape == (2, TEXT, 3, 4)
    assert Columns(torch.ones(1, 2, 3)).mean.tolist() == torch.ones(1, 2, 3).tolist()


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((1, 1, 1, 6), (1, 1, 1, 6)),
        ((2, 3, 1, 6), (1, 3, 1, 6)),
        ((1, 1, 9, 6), (1, 1, 4, 6)),
        ((2, 3, 9, 6), (1, 3, 4, 6)),
    ],
)
def test_parts_of_masks(shape, found):
    mask = seeded(*shape)
    got = part(mask, [1], slice(2, 6))
    assert got.shape == found and part(None, [1], slice(2, 6)) is None
    rows = mask[1:2] if shape[0] > 1 else mask
    assert torch.equal(got, rows[:, :, 2:6] if shape[2] > 1 else rows)
