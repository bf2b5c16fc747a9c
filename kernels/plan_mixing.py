"""Two plans made one: joined in time, blended, or spans of one swapped for another's.

    z = (1 - w) a + w b        w: per token frame, and per place where a mask says so

All our choice.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .semantic_plan import SemanticPlan, require_alike, span, whole


def join(a: SemanticPlan, b: SemanticPlan, fade: float = 0.0) -> SemanticPlan:
    """`b` after `a`; over `fade` seconds, rounded to token frames, the end of `a` goes over into the start of `b`, so
    that the sum is shorter by as much. Raises ValueError for plans that are not alike or shorter than the fade."""
    require_alike(a, b, "other")
    shared = whole(fade * a.fps)
    shortest = min(a.tokens.shape[0], b.tokens.shape[0])
    if shared > shortest:
        raise ValueError(
            f"fade {fade:g}: longer than the shorter plan's {shortest / a.fps:g} seconds. Lower it, or hold that plan."
        )
    keep = a.tokens.shape[0] - shared
    weight = ((torch.arange(shared) + 1) / (shared + 1)).to(a.tokens).view(-1, 1, 1, 1)
    between = torch.lerp(a.tokens[keep:], b.tokens[:shared], weight)
    return replace(a, tokens=torch.cat([a.tokens[:keep], between, b.tokens[shared:]]))


def span_weights(plan: SemanticPlan, start: float, end: float, fade: float = 0.0) -> Tensor:
    """[time]: 1 in the token frames of `start` to `end` seconds, 0 outside; over `fade` seconds before and after, in
    whole token frames, on the way between. Raises ValueError as `span`."""
    first, last = span(plan, start, end)
    ramp = whole(fade * plan.fps)
    frame = torch.arange(plan.tokens.shape[0])
    outside = torch.maximum(first - frame, frame - (last - 1)).clamp(min=0)
    return (1 - outside / (ramp + 1)).clamp(min=0)


def place_weights(mask: Tensor, time: int, rows: int, columns: int) -> Tensor:
    """[time or 1, rows, columns] means over each token of masks [n, height, width], 0..1; n masks are spread over the
    plan's time, each frame taking the one at its middle."""
    cells = F.interpolate(mask[:, None].float().clamp(0, 1), size=(rows, columns), mode="area")[:, 0]
    if len(cells) == 1:
        return cells
    nearest = ((torch.arange(time) + 0.5) * len(cells) / time).long()
    return cells[nearest]


def blend(
    a: SemanticPlan,
    b: SemanticPlan,
    amount: float = 0.5,
    start: float = 0.0,
    end: float = 0.0,
    fade: float = 0.0,
    mask: Tensor | None = None,
) -> SemanticPlan:
    """`a` moved towards `b` by `amount` from `start` to `end` seconds (0: its end), where `mask` [n, height, width] is
    1. amount 0 returns `a`; 1 swaps. `b` may be shorter or longer, as long as it has what is taken from it.

    Raises ValueError for plans that are not alike, spans as `span` refuses them, and a `b` that ends before.
    """
    require_alike(a, b, "other")
    weight = span_weights(a, start, end, fade)
    if amount == 0:
        return a
    time, rows, columns = a.tokens.shape[:3]
    needed = int(weight.nonzero().max()) + 1
    if b.tokens.shape[0] < needed:
        raise ValueError(
            f"other: {b.seconds:g} seconds, but its first {needed / a.fps:g} are asked for. Make it longer with Edit "
            "Plan, or lower end."
        )
    weight = amount * weight[:needed].view(-1, 1, 1, 1)
    if mask is not None:
        places = place_weights(mask, time, rows, columns)
        weight = weight * (places if len(places) == 1 else places[:needed])[..., None]
    head = a.tokens[:needed]
    mixed = torch.lerp(head, b.tokens[:needed], weight.to(head).expand_as(head))
    return replace(a, tokens=torch.cat([mixed, a.tokens[needed:]]))
