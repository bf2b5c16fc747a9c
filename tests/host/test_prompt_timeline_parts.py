"""The parts of Prompt Timeline one by one: cuts, what a run is told, spans of tokens, the refiner."""

import logging
from math import inf
from types import SimpleNamespace

import pytest
import torch

from semantic_video.host.families import wan
from semantic_video.kernels.prompt_timeline import Span
from semantic_video.patches.prompt_timeline import (
    PromptTimeline,
    check_run,
    complement,
    cuts,
    frame_weights,
    refine,
    without,
)
from semantic_video.patches.timeline_text import Spoken

NINE = (29 + 33) / 2 / 16  # seconds: the middle of the last of nine latent frames at 16 fps


def spoken(*borders, tokens=(2, 3, 4), end=inf):
    spans = [Span(a, b) for a, b in zip((0.0, *borders), (*borders, end))]
    return tuple(Spoken(span, count) for span, count in zip(spans, tokens))


def told(timelines, frames=9, **config):
    """What a run with these timelines is told, level by level."""
    said = []
    run = SimpleNamespace(
        timelines=dict(enumerate(timelines)),
        total_frames=frames,
        say_once=lambda message, level: said.append((level, message)),
    )
    check_run(wan, PromptTimeline(**config), run)
    return said


@pytest.mark.parametrize(
    ("borders", "fps", "found"),
    [
        ((3 / 16,), 16.0, (1,)),  # the second frame's own middle: it is of the later span
        ((0.19,), 16.0, (2,)),
        ((0.02,), 16.0, ()),  # before the middle of the first frame, which is of the second span then
        ((0.1, 5.0), 16.0, (1, 21)),
        ((0.1, 0.11), 16.0, (1,)),
        ((1.0, 2.0), 8.0, (3, 5)),
    ],
)
def test_cuts(borders, fps, found):
    assert cuts(wan, spoken(*borders), fps) == found


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_strengths_at_the_limit(strength):
    assert PromptTimeline(strength=strength).strength == strength
    with pytest.raises(ValueError, match="^strength -0.01: must be from 0"):
        PromptTimeline(strength=-0.01)
    with pytest.raises(ValueError, match="^strength 1.01: must be from 0"):
        PromptTimeline(strength=1.01)


def test_a_run_without_timelines_is_told():
    message = (
        "Prompt Timeline: no conditioning of this run has a timeline, so nothing is parted. Connect the CONDITIONING "
        "that comes out of Prompt Timeline or Timeline Span."
    )
    assert told([]) == [(logging.WARNING, message)]


def test_a_timeline_that_ends_half_a_frame_early_is_refused():
    assert told([spoken(0.6, end=NINE - 0.5 / 16 + 0.001)]) == []
    end = f"{NINE - 0.5 / 16:g}"
    message = f"^span 0.6-{end}: is the last, but the video's 33 frames last 2.0625 s at 16 fps. .* as in '0.6-: ...'"
    with pytest.raises(ValueError, match=message):
        told([spoken(0.6, end=NINE - 0.5 / 16)])


def test_a_video_of_one_frame_lasts():
    [(_, message)] = told([spoken(0.6)], frames=1, fps=24.0)
    assert message.startswith("Prompt Timeline: span 0.6- has no latent frame")
    assert "whose 1 frame lasts 0.0416667 s at 24 fps" in message


def test_each_timeline_is_checked():
    with pytest.raises(ValueError, match="hand_over 0.7: longer than the shortest span"):
        told([spoken(0.8), spoken(0.6)], hand_over=0.7)
    late = (
        "Prompt Timeline: span 5- has no latent frame of this video, whose 33 frames last 2.0625 s at 16 fps: it "
        "comes too late or is too short."
    )
    short = late.replace("span 5-", "span 0.6-0.65")
    assert told([spoken(0.6), spoken(0.6, 5.0), spoken(0.6, 0.65)]) == [
        (logging.WARNING, late),
        (logging.WARNING, short),
    ]
    assert told([spoken(0.6, 2.05)], hand_over=0.5) == [], "a hand-over reaches the last frame"


@pytest.mark.parametrize("known", [0, 9, 40])
def test_weights_of_frames_by_their_number(known):
    """Also of a model that is called outside a sampler and knows no length."""
    run = SimpleNamespace(total_frames=known)
    config = PromptTimeline(hand_over=0.25)
    weights = frame_weights(wan, config, spoken(0.6), (8, 3, 0), run)
    torch.testing.assert_close(weights[:, 1], torch.tensor([1.0, 0.85, 0.0], dtype=torch.float64))
    torch.testing.assert_close(weights.sum(1), torch.ones(3, dtype=torch.float64))


def test_what_spans_leave():
    assert complement([slice(2, 4), slice(7, 9)], 12) == (slice(0, 2), slice(4, 7), slice(9, 12))
    assert complement([slice(0, 4), slice(4, 12)], 12) == ()
    assert complement([], 3) == (slice(0, 3),)
    assert without([slice(0, 4), slice(6, 12)], [slice(3, 7), slice(9, 10)]) == (
        slice(0, 3),
        slice(7, 9),
        slice(10, 12),
    )
    assert without([slice(0, 4)], [slice(5, 7)]) == (slice(0, 4),)
    assert without([slice(5, 9)], [slice(1, 2)]) == (slice(5, 9),)
    assert without([slice(5, 9)], [slice(5, 9)]) == ()


def test_the_refiner_runs_for_each_text_of_each_timeline():
    """Rows 0 and 2 have one timeline, row 1 none, row 3 another, row 4 one of a single span; a word is added."""
    one, other, single = spoken(0.6, tokens=(2, 3)), spoken(0.9, tokens=(1, 4)), spoken(tokens=(5,))
    forward = SimpleNamespace(timelines=[one, None, one, other, single])
    whole, asked = torch.zeros(5, 6, 2), []

    def alone(rows, tokens):
        asked.append((rows, tokens))
        return torch.full((len(rows), tokens.stop - tokens.start, 2), float(len(asked)))

    out = refine(forward, whole, alone)
    assert not whole.any(), "the host's own stays as it is"
    assert asked == [
        ([0, 2], slice(0, 2)),
        ([0, 2], slice(2, 5)),
        ([0, 2], slice(5, 6)),
        ([3], slice(0, 1)),
        ([3], slice(1, 5)),
        ([3], slice(5, 6)),
    ]
    rows = [[1, 1, 2, 2, 2, 3], [0] * 6, [1, 1, 2, 2, 2, 3], [4, 5, 5, 5, 5, 6], [0] * 6]
    assert out[..., 0].tolist() == rows and out[..., 1].tolist() == rows
    forward = SimpleNamespace(timelines=[None, single])
    assert refine(forward, whole, alone) is whole
