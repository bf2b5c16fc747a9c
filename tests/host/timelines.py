"""Timelines for the toys, and what they mean written out."""

from math import inf

import torch

from semantic_video.harness.sampling import Shot, conditioning
from semantic_video.kernels.prompt_timeline import Span
from semantic_video.patches.timeline_text import joined, spoken_span
from semantic_video.tests.host import naive

FPS = 16.0
BORDERS = (0.6, 1.3)  # seconds; nine latent frames have their middles at 1/32, 3/16, 7/16, 11/16, ... seconds
OWNERS = [0, 0, 0, 1, 1, 1, 2, 2, 2]  # the span of each of them
WORDS = (6, 8, 4)


def timeline(shot: Shot, words=WORDS, borders=BORDERS, first_seed=30) -> list:
    spans = [Span(a, b) for a, b in zip((0.0, *borders), (*borders, inf))]
    out = None
    for number, (span, count) in enumerate(zip(spans, words)):
        out = joined(out, spoken_span(conditioning(shot, count, first_seed + number), span))
    return out


def columns(words=WORDS) -> list[slice]:
    ends = [sum(words[: i + 1]) for i in range(len(words))]
    return [slice(end - count, end) for end, count in zip(ends, words)]


def each_frames_own_text(q, k, v, owners, first=0, words=WORDS):
    """[batch, tokens, heads, dim]: the host's attention once per text alone, of which each frame takes its own.

    owners: the span of each frame; first: query that the first frame begins with, those outside see all texts.
    """
    out = naive.attention(q, k, v)
    alone = [naive.attention(q, k[:, one], v[:, one]) for one in columns(words)]
    area = 4  # of a toy's frame
    for frame, owner in enumerate(owners):
        rows = slice(first + frame * area, first + (frame + 1) * area)
        out[:, rows] = alone[owner][:, rows]
    return out


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
