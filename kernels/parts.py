"""Attention cut into parts: some queries that see some keys, without a mask of queries x keys, so that any backend
serves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """Some queries that see some keys.

    queries, keys: token indices as slices, in order. weight: of its output, [queries, 1], or None for 1. frames: those
    of the grid that the queries are, () where they are none of the video's.
    """

    queries: tuple[slice, ...]
    keys: tuple[slice, ...]
    weight: Tensor | None = None
    frames: tuple[int, ...] = ()


def attend_parts(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    parts: Sequence[Part],
    attend: Callable[[Part, Tensor, Tensor, Tensor, Tensor | None], Tensor],
) -> Tensor:
    """Attention in which each part's queries see its keys alone; of a query in several parts the outputs are added up
    by weight.

    q: [batch, queries, heads, dim]; k, v: [batch, keys, heads, dim]; mask: None or additive / boolean [batch | 1,
    heads | 1, queries | 1, keys]. attend: dense attention of a part, returning [batch, queries, heads * dim]. All
    queries must be in parts. Returns [batch, queries, heads * dim], equal to masked dense attention.
    """
    out = None
    for part in parts:
        seen = mask
        if mask is not None:
            seen = gathered(mask, part.keys, -1)
            seen = gathered(seen, part.queries, -2) if mask.shape[-2] > 1 else seen
        keys, values = (gathered(x, part.keys, 1) for x in (k, v))
        own = attend(part, gathered(q, part.queries, 1), keys, values, seen)
        if out is None:
            out = own.new_zeros(q.shape[0], q.shape[1], own.shape[-1])
        if part.weight is not None:
            own = own * part.weight.to(own)
        start = 0
        for queries in part.queries:
            piece = own[:, start : start + queries.stop - queries.start]
            out[:, queries] = piece if part.weight is None else out[:, queries] + piece
            start += piece.shape[1]
    return out


def gathered(x: Tensor, spans: Sequence[slice], axis: int) -> Tensor:
    """Parts of `x` along an axis, one behind the other; a view where there is but one."""
    pieces = [x.narrow(axis, span.start, span.stop - span.start) for span in spans]
    return torch.cat(pieces, axis) if len(pieces) != 1 else pieces[0]


def merged(spans: Sequence[slice]) -> tuple[slice, ...]:
    """Without the empty ones, neighbours made one; in order."""
    out: list[slice] = []
    for span in spans:
        if span.start == span.stop:
            continue
        if out and out[-1].stop == span.start:
            out[-1] = slice(out[-1].start, span.stop)
        else:
            out.append(span)
    return tuple(out)


def window_parts(
    frames: Sequence[int],
    windows: Sequence[tuple[int, int]],
    beside: Sequence[Sequence[int]],
    area: int,
    before: int,
    keys: int,
) -> list[Part]:
    """The parts of queries that are `frames` of a video: each sees its window's frames, those `beside` it, and all keys
    that are not video.

    windows: (first frame, one past the last), covering the video; area: tokens of a frame; before: keys in front of the
    video's; keys: in all.
    """
    video = slice(before, before + windows[-1][1] * area)
    parts = []
    for (start, end), others in zip(windows, beside):
        own = [index for index, frame in enumerate(frames) if start <= frame < end]
        if not own:
            continue
        seen = sorted({*range(start, end), *others})
        shown = [slice(before + frame * area, before + (frame + 1) * area) for frame in seen]
        queries = merged([slice(index * area, (index + 1) * area) for index in own])
        see = merged([slice(0, before), *shown, slice(video.stop, keys)])
        parts.append(Part(queries, see, frames=tuple(frames[index] for index in own)))
    return parts
