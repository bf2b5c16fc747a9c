"""Prompt Timeline: prompts for spans of time, read from text, and which text each latent frame sees.

A latent frame belongs to the span in which the middle of its video frames lies (our choice). Its queries attend to the
text of that span alone: out = softmax(q k_s^T / sqrt(d)) v_s, with k_s, v_s the span's own keys and values. Around a
border b, over `hand_over` seconds, both neighbours' outputs are blended:

    out = (1 - w) out_s + w out_s+1        w = clamp((t - b) / hand_over + 1/2, 0, 1)

No paper; Prompt Relay (arXiv 2604.10030) adds a Gaussian penalty instead, which needs a mask of frames x text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

import torch
from torch import Tensor

from .parts import Part, merged

TIMES = re.compile(r"(\d+\.?\d*|\.\d+)\s*s?\s*-\s*(?:(\d+\.?\d*|\.\d+)\s*s?)?\s*:(.*)", re.DOTALL)
EVERYWHERE = re.compile(r"all\s*:(.*)", re.IGNORECASE | re.DOTALL)
SYNTAX = "Write lines such as '0-2.5: a cat sits', in seconds; the last may leave its end open, as in '2.5-: it jumps'"


@dataclass(frozen=True)
class Span:
    """start, end: seconds; end is infinite where it is left open. text: the prompt, "" where it is not known."""

    start: float
    end: float
    text: str = ""

    def __post_init__(self):
        if not (isfinite(self.start) and 0 <= self.start < self.end):
            raise ValueError(f"{self}: must begin at 0 seconds or later and end after that.")

    def __str__(self) -> str:
        return f"{self.start:g}-{self.end:g}" if isfinite(self.end) else f"{self.start:g}-"


def parse_timeline(text: str) -> list[Span]:
    """Spans of lines "start-end: prompt", in seconds; brackets around a line and an s behind a number are allowed.
    Lines "all: ..." are put in front of every prompt; empty ones and those that begin with # are left out.

    Raises ValueError, naming the line.
    """
    spans, everywhere = [], []
    for number, written in enumerate(text.splitlines(), start=1):
        line = written.strip()
        if line.startswith("[") and line.endswith("]"):
            line = line[1:-1].strip()
        if not line or line.startswith("#"):
            continue
        if said := EVERYWHERE.fullmatch(line):
            everywhere.append(said[1].strip())
            continue
        match = TIMES.fullmatch(line)
        if match is None:
            raise ValueError(f"text, line {number} ('{shortened(line)}'): has no times in front. {SYNTAX}.")
        if not match[3].strip():
            raise ValueError(f"text, line {number} ('{shortened(line)}'): no prompt. Write what happens then.")
        try:
            spans.append(Span(float(match[1]), float(match[2]) if match[2] else inf, match[3].strip()))
        except ValueError as error:
            raise ValueError(f"text, line {number}: {error}") from None
    if not spans:
        raise ValueError(f"text: holds no span of time. {SYNTAX}.")
    return [Span(span.start, span.end, ", ".join(filter(None, (*everywhere, span.text)))) for span in spans]


def shortened(text: str, length: int = 40) -> str:
    return text if len(text) <= length else text[: length - 2] + ".."


def check_spans(spans: Sequence[Span], fps: float, hand_over: float) -> None:
    """Raises ValueError, naming spans, for such as do not follow each other from 0 seconds on. Differences below half a
    video frame are rounding (our choice)."""
    if not (isfinite(fps) and fps > 0):
        raise ValueError(f"fps {fps}: must be above 0, the frames per second at which the video is saved.")
    if not (isfinite(hand_over) and hand_over >= 0):
        raise ValueError(f"hand_over {hand_over}: must be 0 (hard cuts) or more seconds.")
    tolerance = 0.5 / fps
    if spans[0].start > tolerance:
        raise ValueError(f"span {spans[0]}: nothing is said from 0 to {spans[0].start:g} s. Let it begin at 0.")
    for earlier, later in zip(spans, spans[1:]):
        if later.start > earlier.end + tolerance:
            raise ValueError(
                f"spans {earlier} and {later}: nothing is said from {earlier.end:g} to {later.start:g} s. Let one "
                "begin where the other ends, or add a span between."
            )
        if later.start < earlier.end - tolerance:
            raise ValueError(
                f"spans {earlier} and {later}: overlap, or stand in the wrong order. Let each begin where the one "
                "before it ends; hand_over blends at the border."
            )
    shortest = min(span.end - span.start for span in spans)
    if len(spans) > 1 and hand_over > shortest + tolerance:
        raise ValueError(f"hand_over {hand_over:g}: longer than the shortest span, {shortest:g} s. Make it shorter.")


def middles(first_frames: Sequence[int], fps: float) -> list[float]:
    """In seconds the middle of each latent frame. first_frames: its first video frame, for each, then their total."""
    return [(first + following) / 2 / fps for first, following in zip(first_frames, first_frames[1:])]


def span_weights(spans: Sequence[Span], times: Sequence[float], hand_over: float) -> Tensor:
    """[times, spans]: how much of each span's text is seen then; rows add up to 1. hand_over: no longer than a span."""
    weights = torch.zeros(len(times), len(spans), dtype=torch.float64)
    for row, time in enumerate(times):
        later = [min(1.0, max(0.0, _share(time - span.start, hand_over))) for span in spans[1:]]
        begun = [1.0, *later]
        for column, (own, following) in enumerate(zip(begun, [*later, 0.0])):
            weights[row, column] = own - following
    return weights


def _share(since: float, hand_over: float) -> float:
    return since / hand_over + 0.5 if hand_over else float(since >= 0)


def video_parts(weights: Tensor, keys: Sequence[tuple[slice, ...]], before: int, area: int) -> list[Part]:
    """The queries of the video, span by span.

    weights: [frames, spans] of the frames that the grid shows; keys: for each span those that it sees. before: queries
    in front of the grid; area: tokens of a frame.
    """
    parts = []
    for span, seen in enumerate(keys):
        of_frames = weights[:, span]
        frames = of_frames.nonzero().flatten().tolist()
        if not frames:
            continue
        queries = merged([slice(before + f * area, before + (f + 1) * area) for f in frames])
        shared = bool((of_frames[frames] < 1).any())
        weight = of_frames[frames].repeat_interleave(area).unsqueeze(1) if shared else None
        parts.append(Part(queries, seen, weight, tuple(frames)))
    return parts
