"""Blocks that take a long video in pieces of time, one after the other, so that what a step holds beside its input and
output does not grow with the video.

In a block of Wan only the self-attention mixes tokens. A piece is a window of that attention; keys and values of the
frames that it sees beside its own come from the block's own input, so the result is the same but for rounding. The
host's block is called as it is, through "patches_replace", of which it is one more entry for one call of the model.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from .forward import Forward

OVERRIDE = "optimized_attention_override"
FEWEST_TOKENS = 8192  # of videos that are worth it: below, memory is no matter (our choice)


@dataclass(frozen=True)
class Piece:
    """Frames start .. end - 1, which pass through a block on their own, and the frames beside whose keys they see."""

    start: int
    end: int
    beside: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pieces:
    """of: the pieces of a block, by its number; fewer than two: it takes the video whole. place: puts queries or keys
    [batch, tokens, heads, dim] of the frames that are listed where they belong in time."""

    of: Callable[[int], list[Piece]]
    place: Callable[[Tensor, list[int]], Tensor]


class _Recorded(Exception):
    """Stops a block once its keys and values are known."""


Cross = Callable[[tuple[int, ...]], Callable]  # frames of a piece -> the override for its cross-attentions


def in_pieces(forward: Forward, options: dict, pieces: Pieces, cross: Cross) -> dict:
    """What "patches_replace" of `options` becomes. Blocks that another patch has replaced stay that patch's."""
    replaced = options.get("patches_replace", {})
    blocks = dict(replaced.get("dit", {}))
    for number in range(forward.family.blocks(forward.module)):
        blocks.setdefault(("double_block", number), _Block(forward, pieces, cross, number))
    return {**replaced, "dit": blocks}


def can_be_in_pieces(forward: Forward, options: dict) -> bool:
    """Whether nothing in `options` looks into blocks, and the video is long enough to be worth it."""
    layout = forward.layout
    watched = {"attn1_patch", "attn2_patch"} & options.get("patches", {}).keys()
    alone = layout.before == layout.after == 0
    return alone and not watched and layout.tokens >= FEWEST_TOKENS


class _Block:
    """A block of the host's, as an entry of "patches_replace"."""

    def __init__(self, forward: Forward, pieces: Pieces, cross: Cross, number: int):
        self.forward, self.pieces, self.cross, self.number = forward, pieces, cross, number

    def __call__(self, arguments: dict, extra: dict) -> dict:
        run, pieces = extra["original_block"], self.pieces.of(self.number)
        if len(pieces) < 2 or self.part(arguments, [0]) is None:
            return run(arguments)
        area = self.forward.layout.height * self.forward.layout.width
        often = Counter(frame for piece in pieces for frame in piece.beside)
        shared = sorted(frame for frame, count in often.items() if count > 1)
        kept = self.record(run, arguments, shared)
        out = torch.empty_like(arguments["img"])
        for piece in pieces:
            keys = kept | self.record(run, arguments, [frame for frame in piece.beside if frame not in kept])
            seen = [keys[frame] for frame in piece.beside]
            frames = list(range(piece.start, piece.end))
            part = self.with_override(self.part(arguments, frames), self.attention(frames, seen))
            out[:, piece.start * area : piece.end * area] = run(part)["img"]
        return {"img": out}

    def part(self, arguments: dict, frames: list[int]) -> dict | None:
        return self.forward.family.block_of_frames(arguments, self.forward.layout, frames)

    def with_override(self, arguments: dict, override: Callable) -> dict:
        return arguments | {"transformer_options": {**arguments["transformer_options"], OVERRIDE: override}}

    def record(self, run: Callable, arguments: dict, frames: list[int]) -> dict[int, tuple[Tensor, Tensor]]:
        """Keys and values of each frame, as the block makes them of its input."""
        found = {}

        def override(func, q, k, v, heads, *args, **kwargs):
            k = self.placed(k, frames, heads)
            found.update(zip(frames, zip(*(x.unflatten(1, (len(frames), -1)).unbind(1) for x in (k, v)))))
            raise _Recorded

        if frames:
            with suppress(_Recorded):
                run(self.with_override(self.part(arguments, frames), override))
        return found

    def attention(self, frames: list[int], seen: list[tuple[Tensor, Tensor]]) -> Callable:
        """An override for one piece: its first attention is the self-attention, the others look at words and images."""
        previous, first, cross = self.forward.options.get(OVERRIDE), True, self.cross(tuple(frames))

        def override(func, q, k, v, heads, *args, **kwargs):
            nonlocal first
            if not first:
                return cross(func, q, k, v, heads, *args, **kwargs)
            first, tokens = False, self.forward.layout.tokens
            self.forward.site(kwargs.get("transformer_options", {}), tokens, tokens, q.shape[-1] // heads)
            q, k = (self.placed(x, frames, heads) for x in (q, k))
            if seen:
                k, v = (torch.cat((own, *others), 1) for own, others in zip((k, v), zip(*seen)))
            attend = previous if previous else lambda func, *args, **kwargs: func(*args, **kwargs)
            return attend(func, q, k, v, heads, *args, **kwargs)

        return override

    def placed(self, x: Tensor, frames: list[int], heads: int) -> Tensor:
        """x: [batch, tokens, heads * dim], as Wan's attention has it."""
        return self.pieces.place(x.unflatten(2, (heads, -1)), frames).flatten(2)
