"""Swin Renderer: self-attention of a long clip in temporal windows that shift by half a window on odd blocks.

    even blocks cut at  0, W, 2W, 3W, ...
    odd blocks cut at   0, W/2, 3W/2, 5W/2, ...

Cost is linear in the clip's length, and an even and an odd block together show a frame the 2W frames around it. Shifted
windows along time are published (SemanticGen, arXiv 2512.20619, section 3.3); which blocks are odd and how the ends are
cut is our choice: no cyclic roll and no mask, an end shorter than W/2 joins its neighbour, so any attention backend
serves. Rotating anchors follow LVSA (arXiv 2605.31057). Windows cut at the spans of a story, and the frames before each
that it looks back on, are our choice.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Literal

import torch
from torch import Tensor

Span = tuple[int, int]  # first frame, one past the last
Anchors = Literal["none", "first frame", "rotating"]
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]  # q, k, v, mask -> [batch, queries, channels]


def window_spans(frames: int, window: int, shifted: bool) -> list[Span]:
    """Cuts `frames` latent frames into consecutive spans of `window` frames; `shifted` starts with half a window.

    Every frame lies in exactly one span. An end shorter than window / 2 joins its neighbour.
    """
    cuts = [0, *range(window // 2 if shifted else window, frames, window), frames]
    if len(cuts) > 2 and cuts[-1] - cuts[-2] < window / 2:
        del cuts[-2]
    return list(zip(cuts, cuts[1:]))


def story_spans(frames: tuple[int, ...], starts: tuple[int, ...], longest: int) -> list[Span]:
    """Cuts where a part of a story begins. frames: index in the whole video of each latent frame seen; starts: first
    latent frames of the parts, rising. Parts of more than `longest` frames are cut further into equal ones."""
    parts = [bisect_right(starts, frame) for frame in frames]
    cuts = [0, *(i for i in range(1, len(parts)) if parts[i] != parts[i - 1]), len(parts)]
    spans = []
    for start, end in zip(cuts, cuts[1:]):
        pieces = ceil((end - start) / longest)
        inner = [start + (end - start) * i // pieces for i in range(pieces + 1)]
        spans += zip(inner, inner[1:])
    return spans


def anchor_frames(frames: int, anchors: Anchors, interval: int = 1, step: int = 0) -> tuple[int, ...]:
    """Frames that every window sees beside its own. "rotating": every `interval`-th frame, moving on by one frame each
    denoising step."""
    if anchors == "none":
        return ()
    if anchors == "first frame":
        return (0,)
    return tuple(range(step % interval, frames, interval))


def anchor_interval(frames: int, window: int, budget: int) -> int:
    """The densest anchor interval for which a window and its anchors span at most `budget` latent frames. Needs budget
    > window."""
    return ceil(frames / (budget - window))


def automatic_window(trained: int, anchors: Anchors, budget: int, frames: int, interval: int = 0, step: int = 2) -> int:
    """A window that suits a model trained on `trained` latent frames; a multiple of `step`, which is even, so that it
    can shift (our choice).

    none: the trained length, or up to a step above. first frame: what `budget` leaves beside that frame. rotating: half
    the budget, or less where anchors in a video of `frames`, `interval` apart (0: not chosen yet), need more. At least
    one step; of a budget that a step fills, 2.
    """
    step = step if budget > step else 2
    if anchors == "none":
        return step * ceil(trained / step)
    if anchors == "first frame":
        return max(step, (budget - 1) // step * step)
    half = step * ceil(budget / (2 * step))
    if not interval:
        return half
    return max(step, min(half, (budget - ceil(frames / interval)) // step * step))


@dataclass(frozen=True)
class WindowGroup:
    """Neighbouring windows of one size, so that they fold into the batch of one attention call."""

    spans: tuple[Span, ...]
    beside: tuple[tuple[int, ...], ...]  # for each window the frames outside it that it sees: anchors, look-back

    @property
    def start(self) -> int:
        return self.spans[0][0]

    @property
    def end(self) -> int:
        return self.spans[-1][1]

    def split(self, most: int) -> Iterator["WindowGroup"]:
        """Groups of at most `most` windows, at least one."""
        most = max(1, most)
        for i in range(0, len(self.spans), most):
            yield WindowGroup(self.spans[i : i + most], self.beside[i : i + most])


def frames_beside(span: Span, anchors: tuple[int, ...] = (), look_back: int = 0) -> tuple[int, ...]:
    """Frames outside a window that it sees: the anchors, and `look_back` frames before its first one."""
    start, end = span
    back = range(max(0, start - look_back), start)
    return tuple(sorted({a for a in anchors if not start <= a < end} | set(back)))


def window_groups(
    spans: list[Span], anchors: tuple[int, ...] = (), fold: bool = True, look_back: int = 0
) -> list[WindowGroup]:
    """Groups neighbouring spans with equally many frames, and equally many beside; `fold` False keeps each span
    alone."""
    beside = [frames_beside(span, anchors, look_back) for span in spans]
    sizes = [(end - start, len(out), 0 if fold else i) for i, ((start, end), out) in enumerate(zip(spans, beside))]
    groups = [[i for i, _ in group] for _, group in groupby(enumerate(sizes), key=lambda item: item[1])]
    return [WindowGroup(tuple(spans[i] for i in g), tuple(beside[i] for i in g)) for g in groups]


def windowed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attend: Attend,
    spans: list[Span],
    anchors: tuple[int, ...] = (),
    before: int = 0,
    after: int = 0,
    mask: Tensor | None = None,
    look_back: int = 0,
    tokens_a_call: int | None = None,
) -> Tensor:
    """Attention in which video queries see their own window, `look_back` frames before it, the anchors and all tokens
    that are not video.

    q: [batch, before + frames * area + after, heads, dim], frames in order, `area` tokens each; k, v: the same, or
    longer at the end. before, after: tokens in front of and behind the video (text, references). Their own queries see
    everything, and so does every window see them. mask: None or additive / boolean [batch | 1, heads | 1, queries | 1,
    keys]. attend: dense attention on such tensors, returning [batch, queries, heads * dim]. tokens_a_call: equal
    windows share a call as long as they have so many queries together, so that what a call needs does not grow with the
    video; None: all that are equal.
    Returns [batch, queries, heads * dim], equal to masked dense attention.
    """
    batch, tokens = q.shape[:2]
    video = slice(before, tokens - after)
    area = (tokens - before - after) // spans[-1][1]
    masked_queries = mask is not None and mask.shape[-2] > 1

    def rows_of(group: WindowGroup) -> slice:
        return slice(before + group.start * area, before + group.end * area)

    def keys_of(x: Tensor, group: WindowGroup) -> Tensor:
        """[batch, keys, ...] -> [batch * windows, keys seen by a window, ...]; a view where a window sees nothing but
        itself."""
        windows = len(group.spans)
        own = x[:, rows_of(group)].unflatten(1, (windows, -1))
        seen = [own]
        if x.shape[1] > tokens - before - after:
            others = torch.cat((x[:, :before], x[:, video.stop :]), dim=1)
            seen.append(others.unsqueeze(1).expand(-1, windows, *others.shape[1:]))
        if group.beside[0]:
            frames = x[:, video].unflatten(1, (-1, area))
            seen.append(frames[:, torch.tensor(group.beside, device=x.device)].flatten(2, 3))
        return (torch.cat(seen, dim=2) if len(seen) > 1 else own).flatten(0, 1)

    def mask_of(queries: slice, group: WindowGroup | None = None) -> Tensor | None:
        if mask is None:
            return None
        rows = mask[..., queries, :] if masked_queries else mask
        if group is None:
            return rows
        return keys_of(rows.expand(batch, -1, -1, -1).movedim(-1, 1), group).movedim(1, -1)

    def parts() -> Iterator[tuple[slice, Tensor]]:
        if before:
            yield slice(before), attend(q[:, :before], k, v, mask_of(slice(before)))
        for whole in window_groups(spans, anchors, not masked_queries, look_back):
            first, last = whole.spans[0]
            most = len(whole.spans) if tokens_a_call is None else tokens_a_call // ((last - first) * area)
            for group in whole.split(most):
                rows = rows_of(group)
                queries = q[:, rows].unflatten(1, (len(group.spans), -1)).flatten(0, 1)
                out = attend(queries, keys_of(k, group), keys_of(v, group), mask_of(rows, group))
                yield rows, out.reshape(batch, rows.stop - rows.start, -1)
        if after:
            yield slice(video.stop, tokens), attend(q[:, video.stop :], k, v, mask_of(slice(video.stop, tokens)))

    out = None
    for rows, part in parts():
        if part.shape[1] == tokens:
            return part
        if out is None:
            out = part.new_empty(batch, tokens, part.shape[-1])
        out[:, rows] = part
    return out
