"""The texts of a timeline in one CONDITIONING: their tokens one behind the other, and which span they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..host.timeline import SPANS
from ..kernels.prompt_timeline import Span

GLYPHS = "conditioning_byt5small"  # words in quotes, of HunyuanVideo 1.5
TAGS = "minimax_token_tags"  # of MiniMax H3: 1 for a word, 0 for a part of a picture
SET_LATER = ("area", "mask", "start_percent", "end_percent", "hooks", "control", "gligen")


@dataclass(frozen=True)
class Spoken:
    """A span and how much text it has. tokens: of its prompt; glyphs: of its quoted words."""

    span: Span
    tokens: int
    glyphs: int = 0


def spoken_span(conditioning: list, span: Span) -> list:
    """CONDITIONING of one prompt as a timeline of one span. Raises ValueError for what is no text of one prompt."""
    if len(conditioning) != 1:
        raise ValueError(
            f"conditioning: span {span} holds {len(conditioning)} prompts (Conditioning Combine, or a schedule of "
            "hooks). Give one, straight from its encoder."
        )
    [[text, extras]] = conditioning
    if not isinstance(text, Tensor) or text.ndim != 3 or 0 in text.shape:
        shape = tuple(text.shape) if isinstance(text, Tensor) else text
        raise ValueError(f"conditioning: span {span} holds no text ({shape}). Connect what a CLIP Text Encode gives.")
    if not torch.isfinite(text).all():
        raise ValueError(f"conditioning: span {span} contains NaN or infinite values. Check the node that made it.")
    if early := [name for name in SET_LATER if name in extras]:
        raise ValueError(
            f"conditioning: span {span} has {', '.join(early)}, which would be set for all spans. Set it behind the "
            "timeline."
        )
    if SPANS in extras:
        raise ValueError(f"conditioning: span {span} is a timeline already. Connect it to 'timeline' instead.")
    glyphs = extras[GLYPHS].shape[1] if GLYPHS in extras else 0
    return [[text, extras | {SPANS: (Spoken(span, text.shape[1], glyphs),)}]]


def joined(timeline: list | None, later: list) -> list:
    """The timeline, and behind it another. Of anything that is no text the first one's stands.

    The pooled vector, which has no place in time, is the mean of all spans' (our choice).
    """
    if timeline is None:
        return later
    spoken, following = timeline_of(timeline), timeline_of(later)
    [[text, extras]], [[more, more_extras]] = timeline, later
    if text.shape[::2] != more.shape[::2]:
        raise ValueError(
            f"conditioning: span {following[0].span} has features of shape {tuple(more.shape)}, the timeline "
            f"{tuple(text.shape)}. Encode all spans with the same CLIP."
        )
    out = more_extras | extras | {SPANS: (*spoken, *following)}
    if "pooled_output" in extras and "pooled_output" in more_extras:
        a, b = extras["pooled_output"], more_extras["pooled_output"]
        if a is not None and b is not None:
            share = len(following) / (len(spoken) + len(following))
            out["pooled_output"] = torch.lerp(a.float(), b.float().to(a.device), share).to(a)
    masks = [e.get("attention_mask") for e in (extras, more_extras)]
    if any(mask is not None for mask in masks):
        given = next(mask for mask in masks if mask is not None)
        whole = [given.new_ones(len(given), x.shape[1]) if m is None else m for m, x in zip(masks, (text, more))]
        out["attention_mask"] = torch.cat(whole, 1)
    if TAGS in extras and TAGS in more_extras:
        out[TAGS] = torch.cat((extras[TAGS], more_extras[TAGS]), -1)
    glyphs = [e[GLYPHS] for e in (extras, more_extras) if GLYPHS in e]
    if glyphs:
        out[GLYPHS] = torch.cat(glyphs, 1)
    return [[torch.cat((text, more.to(text)), 1), out]]


def encoded(clip, spans: Sequence[Span]) -> list:
    """CONDITIONING of a timeline whose texts CLIP encodes one by one, each as it would alone."""
    timeline = None
    for span in spans:
        timeline = joined(timeline, spoken_span(clip.encode_from_tokens_scheduled(clip.tokenize(span.text)), span))
    return timeline


def timeline_of(conditioning: list) -> tuple[Spoken, ...]:
    """Raises ValueError where there is none."""
    found = [extras[SPANS] for _, extras in conditioning if SPANS in extras]
    if not found:
        raise ValueError(
            "timeline: this conditioning has no spans of time. Connect what Prompt Timeline or Timeline Span gives."
        )
    return found[0]


def columns_of(spoken: Sequence[Spoken], image: int, quoted: int, text: int) -> list[tuple[slice, ...]]:
    """The text keys of each span among [image tokens][quoted words of all spans][prompts of all spans][anything added].

    image, quoted: how many of the former two there are; text: keys of text in all. Raises RuntimeError where the
    prompts' tokens are not all there.
    """
    place, start = image, image + quoted
    expected = sum(one.tokens for one in spoken)
    if text - start < expected or 0 < quoted < sum(one.glyphs for one in spoken):
        raise RuntimeError(
            f"Prompt Timeline: the model sees {text - start} text tokens, but the timeline's spans have {expected}. A "
            "node behind the timeline has cut or replaced its text; remove it."
        )
    columns = []
    for one in spoken:
        words = (slice(place, place + one.glyphs),) if quoted else ()
        columns.append((*words, slice(start, start + one.tokens)))
        place, start = place + one.glyphs, start + one.tokens
    return columns
