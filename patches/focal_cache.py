"""The attention cache of Focal Guidance: what a source block leaves, and how a weak block's output takes it over."""

from functools import partial

from torch import Tensor

from ..host.editing import Call, attend
from ..host.memory import outlives_block
from ..kernels.focal_guidance import Source, cached, cached_joint, text_mass
from .prompt_words import text_keys, video_tokens


def carried(call: Call, rows: list[int]) -> Source:
    """q of the queries that may take this block's map, and k of the text, of positive rows, in tensors of their own."""
    queries = slice(None) if call.site.kind == "text" else video_tokens(call)
    with outlives_block():
        return Source(call.q[rows, queries].clone(), call.k[rows, : text_keys(call)].clone())


def carry_text(call, guided, out, source, rows, louder, cache, proceed) -> Tensor:
    """Cross-attention: a second attention with the source's q and k, and this block's values."""
    q, k = source.q, source.k
    if len(rows) < len(call.q):
        q, k = call.q.clone(), call.k.clone()
        q[rows], k[rows] = source.q, source.k
    other = call.replace(q=q, k=k, v=guided.v[:, : call.v.shape[1]])
    if louder:
        keys = louder(other.k, other.v, other.mask)
        other = other.replace(k=keys.k, v=keys.v, mask=keys.mask)
    return cached(out, proceed(other), cache, rows)


def carry_joint(call, guided, out, source, rows, louder, cache, proceed) -> Tensor:
    """Joint attention: the text part of video queries alone, scaled to the mass that this block gives to text."""
    text, queries = text_keys(call), video_tokens(call)
    extra = range(call.k.shape[1], guided.k.shape[1])  # copies of keywords are text as well
    mask = part(guided.mask, rows, queries)
    q = call.q[rows, queries]
    mass = text_mass(q, guided.k[rows], [*range(text), *extra], partial(attend, mask=mask))
    k, v, seen = call.k[rows, :text], guided.v[rows, :text], part(call.mask, rows, queries)
    seen = None if seen is None else seen[..., :text]
    every = list(range(len(rows)))
    own, theirs = (louder(x, v, seen, rows=every) for x in (k, source.k)) if louder else (None, None)
    if louder:
        k, v, seen, source = own.k, own.v, own.mask, Source(source.q, theirs.k)
    difference = cached_joint(Source(q, k), v, source, mass, partial(attend, mask=seen), cache)
    out = out.clone()
    out[rows, queries] += difference
    return out


def part(mask: Tensor | None, rows: list[int], queries: slice) -> Tensor | None:
    if mask is None:
        return None
    mask = mask[rows] if len(mask) > 1 else mask
    return mask[:, :, queries] if mask.shape[2] > 1 else mask
