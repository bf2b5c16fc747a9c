"""Swin Renderer: self-attention of a long clip in temporal windows that shift by half a window on odd blocks.

    even blocks cut at  0, W, 2W, 3W, ...
    odd blocks cut at   0, W/2, 3W/2, 5W/2, ...

Cost is linear in the clip's length, and an even and an odd block together show a frame the 2W frames around it. Shifted
windows along time are published (SemanticGen, arXiv 2512.20619, section 3.3); which blocks are odd and how the ends are
cut is our choice: no cyclic roll and no mask, an end shorter than W/2 joins its neighbour, so any attention backend
serves. Rotating anchors follow LVSA (arXiv 2605.31057).
"""

from collections.abc import Callable
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
    anchors: tuple[tuple[int, ...], ...]  # for each window the anchors outside it


def window_groups(spans: list[Span], anchors: tuple[int, ...] = (), fold: bool = True) -> list[WindowGroup]:
    """Groups neighbouring spans with equally many frames and equally many anchors outside; `fold` False keeps each span
    alone."""
    outside = [tuple(a for a in anchors if not start <= a < end) for start, end in spans]
    sizes = [(end - start, len(out), 0 if fold else i) for i, ((start, end), out) in enumerate(zip(spans, outside))]
    groups = [[i for i, _ in group] for _, group in groupby(enumerate(sizes), key=lambda item: item[1])]
    return [WindowGroup(tuple(spans[i] for i in g), tuple(outside[i] for i in g)) for g in groups]


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
) -> Tensor:
    """Attention in which video queries see their own window, the anchors and all tokens that are not video.

    q: [batch, before + frames * area + after, heads, dim], frames in order, `area` tokens each; k, v: the same, or
    longer at the end. before, after: tokens in front of and behind the video (text, references). Their own queries see
    everything, and so does every window see them. mask: None or additive / boolean [batch | 1, heads | 1, queries | 1,
    keys]. attend: dense attention on such tensors, returning [batch, queries, heads * dim].
    Returns [batch, queries, heads * dim], equal to masked dense attention.
    """
    batch, tokens = q.shape[:2]
    video = slice(before, tokens - after)
    area = (tokens - before - after) // spans[-1][1]
    masked_queries = mask is not None and mask.shape[-2] > 1

    def tokens_of(x: Tensor, start: int, end: int) -> Tensor:
        return x[:, before + start * area : before + end * area]

    def keys_of(x: Tensor, group: WindowGroup) -> Tensor:
        """[batch, keys, ...] -> [batch * windows, keys seen by a window, ...]; a view where a window sees nothing but
        itself."""
        windows = len(group.spans)
        own = tokens_of(x, group.spans[0][0], group.spans[-1][1]).unflatten(1, (windows, -1))
        seen = [own]
        if x.shape[1] > tokens - before - after:
            others = torch.cat((x[:, :before], x[:, video.stop :]), dim=1)
            seen.append(others.unsqueeze(1).expand(-1, windows, *others.shape[1:]))
        if group.anchors[0]:
            frames = x[:, video].unflatten(1, (-1, area))
            seen.append(frames[:, torch.tensor(group.anchors, device=x.device)].flatten(2, 3))
        return (torch.cat(seen, dim=2) if len(seen) > 1 else own).flatten(0, 1)

    def mask_of(queries: slice, group: WindowGroup | None = None) -> Tensor | None:
        if mask is None:
            return None
        rows = mask[..., queries, :] if masked_queries else mask
        if group is None:
            return rows
        return keys_of(rows.expand(batch, -1, -1, -1).movedim(-1, 1), group).movedim(1, -1)

    out = []
    if before:
        out.append(attend(q[:, :before], k, v, mask_of(slice(before))))
    for group in window_groups(spans, anchors, fold=not masked_queries):
        start, end = group.spans[0][0], group.spans[-1][1]
        queries = tokens_of(q, start, end).unflatten(1, (len(group.spans), -1)).flatten(0, 1)
        rows = slice(before + start * area, before + end * area)
        out.append(
            attend(queries, keys_of(k, group), keys_of(v, group), mask_of(rows, group)).reshape(
                batch, (end - start) * area, -1
            )
        )
    if after:
        out.append(attend(q[:, video.stop :], k, v, mask_of(slice(video.stop, tokens))))
    return torch.cat(out, dim=1) if len(out) > 1 else out[0]
