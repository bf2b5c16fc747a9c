"""Attention between the keywords' columns alone, the careful form of Focal Guidance's cache.

    C  = mean over sources and heads of A_s[:, columns]
    A' = max(0, (1 - c) A_w + c C)[:, columns],  rescaled in each row to the mass A_w has there
    out <- out + (A' - A_w) v_w[columns]

A_s: map of a source block; A_w, v_w: of a weak one, head by head. A keyword takes from other keywords only: the mass of
all else, padding included, stays, and with one keyword token nothing moves. The form is our choice; the paper
(arXiv 2601.07287) publishes none.
"""

import torch
from torch import Tensor

from .focal_guidance import Attend


def column_map(q: Tensor, k: Tensor, columns: list[list[int]], attend: Attend) -> Tensor:
    """How much each query gives to each of `columns`, [batch, queries, heads, columns], with no map ever made: an
    attention whose values say which column a key is, for as many columns at a time as a head is wide.

    q, k: [batch, tokens, heads, dim]; columns: of each the keys that are it, more than one where keys were copied.
    """
    heads, width = k.shape[2:]
    parts = []
    for first in range(0, len(columns), width):
        some = columns[first : first + width]
        which = torch.zeros_like(k)
        for place, keys in enumerate(some):
            which[:, keys, :, place] = 1.0
        parts.append(attend(q, k, which).unflatten(2, (heads, width))[..., : len(some)])
    return torch.cat(parts, dim=-1)


def edited(own: Tensor, carried: Tensor, cache: float) -> Tensor:
    """A' of the formula. own: [batch, queries, heads, columns]; carried: C, [batch, queries, columns]. A row that would
    have nothing left (cache below 0) stays as it is."""
    blended = torch.lerp(own.float(), carried.float().unsqueeze(2).expand_as(own), cache).clamp_min(0)
    mass, left = (x.sum(-1, keepdim=True) for x in (own.float(), blended))
    return torch.where(left > 0, blended * (mass / left.clamp_min(torch.finfo(torch.float32).tiny)), own.float())


def column_difference(own: Tensor, changed: Tensor, v: Tensor) -> Tensor:
    """What to add to the output, [batch, queries, heads * dim]. v: of the columns, [batch, columns, heads, dim]."""
    return torch.einsum("bqhc,bchd->bqhd", changed - own.float(), v.float()).flatten(2).to(v)
