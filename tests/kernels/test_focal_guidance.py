"""Keyword weights, map transfer and anchors against maps that are written out in fp64."""

import math

import pytest
import torch
import torch.nn.functional as F

from semantic_video.kernels.focal_guidance import (
    COPIES,
    Source,
    anchor,
    anchored,
    cached,
    cached_joint,
    clip_region,
    pooled,
    text_mass,
    token_region,
    weigh,
)

COLUMNS = [1, 4]


def tensors(queries=9, keys=7, batch=2, heads=3, dim=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(batch, n, heads, dim, generator=generator, dtype=torch.float64) for n in (queries, keys, keys)
    )


def logits(q, k):
    return torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])


def by_map(weights, v):
    return torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)


def attend(q, k, v, mask=None):
    scores = logits(q, k)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return by_map(scores.softmax(-1), v)


def masks():
    additive = torch.randn(2, 1, 9, 7, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return [None, additive, additive > -1.0, additive[:1, :, :1]]


@pytest.mark.parametrize("mask", masks(), ids=["none", "additive", "boolean", "of keys"])
@pytest.mark.parametrize("weight", [2.0, 3.0, 2.5, 0.5, 1000.0])
@pytest.mark.parametrize("rows", [[0, 1], [1]])
def test_weights_are_added_logits(mask, weight, rows):
    q, k, v = tensors()
    keys = weigh(k, v, mask, COLUMNS, weight, rows)
    scores = logits(q, k)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    bias = torch.zeros(2, 1, 1, 7, dtype=torch.float64)
    bias[rows] = torch.zeros(7, dtype=torch.float64).index_fill(0, torch.tensor(COLUMNS), math.log(weight))
    torch.testing.assert_close(attend(q, keys.k, keys.v, keys.mask), by_map((scores + bias).softmax(-1), v))


def test_whole_weights_need_no_mask():
    q, k, v = tensors()
    keys = weigh(k, v, None, COLUMNS, 3.0, [0, 1])
    assert keys.mask is None
    assert keys.k.shape[1] == 7 + 2 * 2
    assert weigh(k, v, None, COLUMNS, 2.5, [0, 1]).mask.shape == (1, 1, 1, 7)
    assert weigh(k, v, None, COLUMNS, 3.0, [1]).mask.shape == (2, 1, 1, 7), "other rows must not hear the copies"
    assert weigh(k, v, None, COLUMNS, 1000.0, [0, 1]).mask is not None, "too many copies"
    assert weigh(k, v, None, COLUMNS, COPIES / 2 + 1, [0, 1]).mask is None
    assert weigh(k, v, None, COLUMNS, COPIES / 2 + 2, [0, 1]).mask is not None
    assert weigh(k, v, None, [4], 2.0, [0, 1]).mask is None


def test_row_mass_of_keywords():
    """Rows still sum to 1; keywords take w m / (1 + (w - 1) m), and what is not a keyword keeps its proportions."""
    q, k, _ = tensors()
    plain = logits(q, k).softmax(-1)
    eye = torch.eye(7, dtype=torch.float64)[None, :, None].expand(2, -1, 3, -1)
    keys = weigh(k, eye, None, COLUMNS, 3.0, [0, 1])
    heard = attend(q, keys.k, keys.v).unflatten(2, (3, 7)).transpose(1, 2)
    torch.testing.assert_close(heard.sum(-1), torch.ones(2, 3, 9, dtype=torch.float64))
    mass = plain[..., COLUMNS].sum(-1)
    torch.testing.assert_close(heard[..., COLUMNS].sum(-1), 3 * mass / (1 + 2 * mass))
    others = [i for i in range(7) if i not in COLUMNS]
    torch.testing.assert_close(
        heard[..., others] / heard[..., others].sum(-1, keepdim=True),
        plain[..., others] / plain[..., others].sum(-1, keepdim=True),
    )


@pytest.mark.parametrize("cache", [-0.5, 0.0, 0.3, 1.0])
def test_transfer_is_the_blended_map(cache):
    (q_w, k_w, v), (q_s, k_s, _) = tensors(), tensors(seed=1)
    weights = (1 - cache) * logits(q_w, k_w).softmax(-1) + cache * logits(q_s, k_s).softmax(-1)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 9, dtype=torch.float64))
    out, carried = attend(q_w, k_w, v), attend(q_s, k_s, v)
    torch.testing.assert_close(cached(out, carried, cache, [0, 1]), by_map(weights, v))
    one = cached(out, carried, cache, [1])
    assert torch.equal(one[0], out[0])
    torch.testing.assert_close(one[1], by_map(weights, v)[1])


@pytest.mark.parametrize("cache", [-1.0, 0.4, 1.0])
def test_a_block_that_is_its_own_source_is_unchanged(cache):
    q, k, v = tensors()
    out = attend(q, k, v)
    torch.testing.assert_close(cached(out, attend(q, k, v), cache, [0, 1]), out)
    joint = cached_joint(Source(q, k), v, Source(q, k), torch.rand(2, 9, 3, dtype=torch.float64), attend, cache)
    assert joint.abs().max() < 1e-12


@pytest.mark.parametrize("cache", [-0.5, 0.3])
def test_joint_transfer_moves_the_text_part_of_each_row_and_keeps_its_mass(cache):
    """Keys: 3 of text, then 9 of video. The source's text map, scaled to this block's own mass of text."""
    q, k, v = tensors(keys=12)
    source = Source(*tensors(keys=3, seed=1)[:2])
    plain = logits(q, k).softmax(-1)
    mass = plain[..., :3].sum(-1, keepdim=True)
    own, other = plain[..., :3] / mass, logits(source.q, source.k).softmax(-1)
    edited = torch.cat(((1 - cache) * mass * own + cache * mass * other, plain[..., 3:]), -1)
    torch.testing.assert_close(edited.sum(-1), torch.ones(2, 3, 9, dtype=torch.float64))
    measured = text_mass(q, k, [0, 1, 2], attend)
    torch.testing.assert_close(measured, mass.squeeze(-1).transpose(1, 2))
    got = attend(q, k, v) + cached_joint(Source(q, k[:, :3]), v[:, :3], source, measured, attend, cache)
    torch.testing.assert_close(got, by_map(edited, v))


def test_anchors_keep_the_length_of_values():
    _, _, v = tensors()
    u = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    got = anchored(v, COLUMNS, u, 0.2)
    others = [i for i in range(7) if i not in COLUMNS]
    assert torch.equal(got[:, others], v[:, others])
    for row in range(2):
        for column in COLUMNS:
            own = v[row, column].flatten()
            expected = own + 0.2 * own.norm() / u[row].norm() * u[row].flatten()
            torch.testing.assert_close(got[row, column].flatten(), expected, rtol=1e-6, atol=1e-6)


def test_the_anchor_is_the_mean_over_its_region():
    values = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(8))
    got = anchor(values, torch.tensor([0.0, 1.0, 0.0, 3.0]))
    torch.testing.assert_close(got, values[:, 1] / 4 + values[:, 3] * 3 / 4)
    with pytest.raises(ValueError, match="region is empty"):
        anchor(values, torch.zeros(4))


@pytest.mark.parametrize("shape", [(48, 80), (45, 80), (33, 17), (16, 16), (5, 7)])
@pytest.mark.parametrize("grid", [16, 24, 3])
def test_regions_on_clip_s_grid_are_means(shape, grid):
    """Against nearest enlargement until cells divide evenly, then plain means."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    big = mask.repeat_interleave(grid, 0).repeat_interleave(grid, 1)
    torch.testing.assert_close(clip_region(mask, grid, "squash"), F.avg_pool2d(big[None], shape)[0].flatten())
    short = min(shape)
    top, left = ((side - short) * grid // 2 for side in shape)
    square = big[top : top + short * grid, left : left + short * grid]
    if (shape[0] - short) * grid % 2 == 0 and (shape[1] - short) * grid % 2 == 0:
        expected = F.avg_pool2d(square[None], (short, short))[0].flatten()
        torch.testing.assert_close(clip_region(mask, grid, "center crop"), expected)


@pytest.mark.parametrize("tokens", [(30, 52), (4, 4), (16, 16)])
def test_squashed_regions_come_back_over_the_whole_picture(tokens):
    """A band of the picture's left quarter: on 16 x 16 patches, and back on any token grid, still the left quarter."""
    mask = torch.zeros(480, 832)
    mask[:, :208] = 1
    region = clip_region(mask, 16, "squash")
    torch.testing.assert_close(region.unflatten(0, (16, 16)), (torch.arange(16) < 4).float().expand(16, -1))
    back = token_region(region, 16, *tokens, "squash", 832 / 480)
    assert torch.allclose(back[:, : tokens[1] // 4], torch.ones(()))
    assert torch.allclose(back.mean(), torch.tensor(0.25))


def test_cropped_regions_leave_out_what_clip_has_not_seen():
    """832 x 416: CLIP sees the middle half of the width."""
    region = torch.ones(256)
    back = token_region(region, 16, 4, 8, "center crop", 2.0)
    assert torch.allclose(back[0], torch.tensor([0, 0, 1, 1, 1, 1, 0, 0.0]))
    tall = token_region(region, 16, 8, 4, "center crop", 0.5)
    assert torch.allclose(tall[:, 0], torch.tensor([0, 0, 1, 1, 1, 1, 0, 0.0]))
    mask = torch.zeros(416, 832)
    mask[:, :208] = 1  # the part that is cut off
    assert clip_region(mask, 16, "center crop").sum() == 0


def test_pooled_leaves_equal_grids_alone():
    x = torch.rand(5, 7)
    torch.testing.assert_close(pooled(x, 5, 7), x)
    assert pooled(x, 1, 1).item() == pytest.approx(x.mean().item(), rel=1e-6)


def test_short_anchors_and_faint_regions_are_scaled_too():
    """An anchor of length 1e-3 still gives its direction alone, and a region of weight 0.5 in all its mean."""
    _, _, v = tensors()
    u = 1e-4 * torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3))
    own = v[:, COLUMNS].double()
    unit = (u.double() / u.double().flatten(1).norm(dim=1)[:, None, None])[:, None]
    length = own.flatten(2).norm(dim=2)[..., None, None]
    got = anchored(v, COLUMNS, u, 0.2)
    torch.testing.assert_close(got[:, COLUMNS].double(), own + 0.2 * length * unit, rtol=1e-5, atol=1e-6)

    values = torch.randn(2, 4, 3, 4, generator=torch.Generator().manual_seed(4))
    got = anchor(values, torch.tensor([0.0, 0.125, 0.0, 0.375]))
    torch.testing.assert_close(got, 0.25 * values[:, 1] + 0.75 * values[:, 3])
