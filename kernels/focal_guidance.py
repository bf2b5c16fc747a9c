"""Focal Guidance (after arXiv 2601.07287): keywords made louder, and attention maps carried to blocks that hear no
text.

    keyword weight   l_k <- l_k + log(w)                                     for each keyword column k
    attention cache  out <- (1 - c) Attn(q_w, k_w, v_w) + c Attn(q_s, k_s, v_w)
    joint attention  out <- out + c m (Attn(q_s, k_s^text, v_w^text) - Attn(q_w, k_w^text, v_w^text))
    anchor           v_k <- v_k + a |v_k| / |u| u,  u = sum_i r_i v_i^image / sum_i r_i

w: of a weak block, s: of a source; m: mass of the text in each query's row; r: region of the start image on CLIP's
grid. Weighing keeps row sums at 1: keywords take w m / (1 + (w - 1) m), m their former mass. The cache applies exactly
the map (1 - c) A_w + c A_s, head by head, which is never made. That keywords are tied to regions of the start image by
CLIP, and that maps are cached, is published; every formula and constant is our choice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# q, k, v [batch, tokens, heads, dim] -> [batch, queries, heads * dim]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Fit = Literal["squash", "center crop"]
COPIES = 512  # extra keys at most; more would cost more than a mask does


@dataclass(frozen=True)
class Keys:
    """Keys, values and mask of an attention, after weighing."""

    k: Tensor
    v: Tensor
    mask: Tensor | None


def weigh(k: Tensor, v: Tensor, mask: Tensor | None, columns: list[int], weight: float, rows: list[int]) -> Keys:
    """Adds log(weight) to the logits of `columns` in batch rows `rows`. k, v: [batch, keys, heads, dim].

    mask: None or additive / boolean [batch | 1, heads | 1, queries | 1, keys]. A whole weight in all rows becomes
    weight - 1 copies of the columns behind the last key, which is the same and lets attention without masks (Flash,
    Sage) serve; else the mask carries it.
    """
    copies = round(weight) - 1
    if len(rows) == len(k) and copies == weight - 1 and 0 < copies * len(columns) <= COPIES:
        index = columns * copies
        k, v = (torch.cat((x, x[:, index]), dim=1) for x in (k, v))
        return Keys(k, v, None if mask is None else torch.cat((mask, mask[..., index]), dim=-1))
    every = len(rows) == len(k)
    bias = k.new_zeros(1 if every else len(k), 1, 1, k.shape[1])
    for row in [0] if every else rows:
        bias[row, :, :, columns] = math.log(weight)
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=k.dtype, device=k.device).masked_fill_(~mask, -torch.inf)
    return Keys(k, v, bias if mask is None else mask + bias)


def cached(out: Tensor, carried: Tensor, cache: float, rows: list[int]) -> Tensor:
    """out: Attn(q_w, k_w, v_w); carried: Attn(q_s, k_s, v_w); both [batch, queries, heads * dim], blended in `rows`.

    cache below 0 moves away from the source's map.
    """
    if len(rows) == len(out):
        return torch.lerp(out, carried, cache)
    out = out.clone()
    out[rows] = torch.lerp(out[rows], carried[rows], cache)
    return out


@dataclass(frozen=True)
class Source:
    """What a responsive block leaves for weak ones: q [rows, video tokens, heads, dim], k [rows, text keys, heads,
    dim].
    """

    q: Tensor
    k: Tensor


def cached_joint(own: Source, v: Tensor, source: Source, mass: Tensor, attend: Attend, cache: float) -> Tensor:
    """What to add to the output of joint attention at the video queries, [rows, video tokens, heads * dim].

    own: q of the video and k of the text in this block; v: of the text in it; mass: `text_mass`, [rows, video tokens,
    heads].
    """
    difference = attend(source.q, source.k, v) - attend(own.q, own.k, v)
    return difference.unflatten(2, (v.shape[2], -1)).mul(mass.unsqueeze(-1) * cache).flatten(2)


def text_mass(q: Tensor, k: Tensor, text: list[int], attend: Attend) -> Tensor:
    """Sum of each query's row over the text keys, [rows, queries, heads]: one attention whose values say which keys
    are text.
    """
    indicator = torch.zeros_like(k)
    indicator[:, text] = 1.0
    return attend(q, k, indicator).unflatten(2, (k.shape[2], -1))[..., 0]


def anchored(v: Tensor, columns: list[int], anchor: Tensor, strength: float) -> Tensor:
    """v [rows, keys, heads, dim] with `anchor` [rows, heads, dim] added to `columns`, scaled to each value's own
    length over the full width.
    """
    own = v[:, columns].float()
    u = anchor.float().unsqueeze(1)
    scale = own.flatten(2).norm(dim=-1) / u.flatten(2).norm(dim=-1).clamp_min(1e-12)
    out = v.clone()
    out[:, columns] = (own + strength * scale[..., None, None] * u).to(v)
    return out


def anchor(values: Tensor, region: Tensor) -> Tensor:
    """Mean of image values [rows, patches, heads, dim] over a region [patches] of weights; [rows, heads, dim]. An
    empty region is refused.
    """
    if not region.sum() > 0:
        raise ValueError("the region is empty on CLIP's grid")
    return torch.einsum("bphd,p->bhd", values.float(), (region / region.sum()).to(values.device))


def clip_region(mask: Tensor, grid: int, fit: Fit) -> Tensor:
    """A region [height, width] of the picture as means over the patches of CLIP's grid x grid, [grid * grid].

    "squash": the whole picture lies in CLIP's square. "center crop": only its central square does.
    """
    height, width = mask.shape
    if fit == "center crop":
        short = min(height, width)
        top, left = (height - short) / 2, (width - short) / 2
        return pooled(mask, grid, grid, (top, left, top + short, left + short)).flatten()
    return pooled(mask, grid, grid).flatten()


def token_region(region: Tensor, grid: int, height: int, width: int, fit: Fit, aspect: float) -> Tensor:
    """The way back: a region [grid * grid] on CLIP's patches as means over height x width tokens of a video with
    aspect width / height.

    What "center crop" cut off is 0: CLIP has not seen it.
    """
    square = region.unflatten(0, (grid, grid))
    if fit == "squash":
        return pooled(square, height, width)
    tall, wide = grid * max(1.0, 1 / aspect), grid * max(1.0, aspect)
    top, left = (grid - tall) / 2, (grid - wide) / 2
    return pooled(square, height, width, (top, left, top + tall, left + wide))


def pooled(x: Tensor, height: int, width: int, box: tuple[float, float, float, float] | None = None) -> Tensor:
    """Means of x [rows, columns] over height x width equal cells of box (top, left, bottom, right in cells of x; it
    may leave x, where 0 is read).
    """
    top, left, bottom, right = box or (0.0, 0.0, *x.shape)
    rows, columns = overlaps(height, x.shape[0], top, bottom), overlaps(width, x.shape[1], left, right)
    return rows.to(x) @ x @ columns.T.to(x)


def overlaps(cells: int, count: int, start: float, end: float) -> Tensor:
    """[cells, count]: which part of each of `cells` equal pieces of start..end lies over each unit interval of
    0..count.
    """
    edges = torch.linspace(start, end, cells + 1, dtype=torch.float64)
    units = torch.arange(count, dtype=torch.float64)
    shared = torch.minimum(edges[1:, None], units + 1) - torch.maximum(edges[:-1, None], units)
    return shared.clamp_min(0) / ((end - start) / cells)
