"""Swin Renderer on sound that a model makes along in a stream of its own: attentions of which queries, keys or both are
of the sound, in the video's windows of time.

A token of the sound belongs to the latent frame in whose time it lies, and is seen, and sees, as that frame. To cut the
sound at all is our choice.
"""

import torch
from torch import Tensor

from .swin_renderer import Attend, Span


def sound_cuts(durations: list[int], tokens: int, before: int = 0) -> list[int]:
    """[frames + 1]: the first token of each latent frame, and one past the last. durations: of the latent frames, in
    any unit; they share `tokens`, in front of which stand `before` that are of no frame."""
    cuts, whole = [0], sum(durations)
    for duration in durations:
        cuts.append(cuts[-1] + duration)
    return [before + round(tokens * cut / whole) for cut in cuts]


def attention_by_frames(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attend: Attend,
    spans: list[Span],
    beside: list[tuple[int, ...]],
    of_queries: list[int],
    of_keys: list[int],
    mask: Tensor | None = None,
) -> Tensor:
    """Attention in which queries of frames of a span see keys of its frames, of those `beside` it, and of no frame.

    q: [batch, queries, heads, dim]; k, v: [batch, keys, heads, dim]; of_queries, of_keys: as of `sound_cuts`. Queries
    of no frame see all. A span that would see nothing sees all. mask: None or additive / boolean [batch | 1, heads | 1,
    queries | 1, keys]. attend: as of `windowed_attention`. Returns [batch, queries, heads * dim], equal to masked dense
    attention.
    """
    keys, (first, last) = k.shape[1], (of_queries[0], of_queries[-1])
    outside = [(0, of_keys[0]), (of_keys[-1], keys)]

    def part(rows: slice, ranges: list[tuple[int, int]]) -> Tensor:
        ranges = [(start, end) for start, end in ranges if end > start] or [(0, keys)]
        rows_mask = mask if mask is None or mask.shape[-2] == 1 else mask[..., rows, :]
        seen = None if mask is None else torch.cat([rows_mask[..., start:end] for start, end in ranges], -1)
        return attend(q[:, rows], *(torch.cat([x[:, start:end] for start, end in ranges], 1) for x in (k, v)), seen)

    parts = [part(slice(0, first), [])] if first else []
    for (start, end), frames in zip(spans, beside):
        rows = slice(of_queries[start], of_queries[end])
        if rows.stop > rows.start:
            ranges = [(of_keys[start], of_keys[end]), *((of_keys[frame], of_keys[frame + 1]) for frame in frames)]
            parts.append(part(rows, [*outside, *ranges]))
    if last < q.shape[1]:
        parts.append(part(slice(last, q.shape[1]), []))
    return torch.cat(parts, 1)
