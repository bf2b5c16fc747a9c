"""What a story's video shows, span by span, from its pixels alone."""

from itertools import pairwise

import torch
from torch import Tensor

from .guards import dynamic_degree, loop_score, seam_strength, speckle
from .oracle import Track, observe, score
from .scene import ThingFacts, facts_of
from .story import Story

LEEWAY = 1.5 / 64  # of the frame, beside what it moves anyway: from here on an object has jumped
BESIDE = 6  # steps on either side of a border that tell how fast it moves


def story_scores(frames: Tensor, story: Story) -> dict[str, float]:
    """Scores of one video [time, side, side, 3], 0..1, that should tell `story`:

    event        share of events that happen in their span, as said there; "event 1" and so on each by itself
    story        1 if all do: in order and, since no event comes twice, once
    elsewhere    share of spans in which the event of another span is seen instead
    object       mean over spans of the oracle's
    background   the same
    same object  1 if every span shows the one shape, and each begins with the colour with which that before ended
    join         share of borders at which the object goes on where it was
    speckle, seam, dynamic degree, loop: guards; speckle and seam at the borders of the spans

    ValueError if the video is not as long as the story.
    """
    if len(frames) != story.frames:
        raise ValueError(f"the video has {len(frames)} frames, the story {story.frames}; give the workflow that length")
    reports = [observe(frames[start:end]) for start, end in story.spans]
    facts = [facts_of(scene) for scene in story.scenes]
    judged = [score(report, said) for report, said in zip(reports, facts)]
    events = [one.get("motion", one.get("attribute", 0.0)) for one in judged]
    tracks = [_subject(report.tracks, said.things[0]) for report, said in zip(reports, facts)]
    does = [(said.things[0].motion, said.things[0].heading, said.things[0].to_colour) for said in facts]
    seen = [(track.motion, track.heading, track.to_colour) if track else None for track in tracks]
    wrong = [one for i, one in enumerate(seen) if one in does[:i] + does[i + 1 :]]
    scores = {
        "event": sum(events) / len(events),
        **{f"event {i}": value for i, value in enumerate(events, 1)},
        "story": float(all(events)),
        "elsewhere": len(wrong) / len(events),
        "object": sum(one["object"] for one in judged) / len(judged),
        "background": sum(one["background"] for one in judged) / len(judged),
        "same object": float(same_object(tracks)),
    }
    if story.borders:
        joins = [joined(*pair) for pair in zip(tracks, tracks[1:])]
        scores |= {
            "join": sum(joins) / len(joins),
            "speckle": speckle(frames, story.borders),
            "seam": seam_strength(frames, story.borders),
        }
    return scores | {"dynamic degree": dynamic_degree(frames), "loop": loop_score(frames)}


def same_object(tracks: list[Track | None]) -> bool:
    """Whether the tracks of neighbouring spans are those of one object; it may change its colour within a span."""
    if not all(track and track.shape for track in tracks):
        return False
    one_shape = len({track.shape for track in tracks}) == 1
    return one_shape and all((a.to_colour or a.colour) == b.colour for a, b in zip(tracks, tracks[1:]))


def joined(before: Track | None, after: Track | None) -> bool:
    """Whether the object is in the second span where it was in the first: the three steps around the border (a decoder
    spreads a jump) are together at most LEEWAY longer than steps are beside them. An object that is away at the border
    has so many steps more."""
    if before is None or after is None:
        return False
    seen = torch.cat((before.visible, after.visible))
    centre = torch.cat((before.centre, after.centre))
    border = len(before.visible)
    left, right = _seen_up_to(seen, border - 2), _seen_from(seen, border + 1)
    if left is None or right is None:
        return False
    usual = max(_pace(centre, seen, left - BESIDE, left), _pace(centre, seen, right, right + BESIDE))
    on = [i for i in range(left, right + 1) if seen[i]]
    steps = [float((centre[b] - centre[a]).norm()) - usual * (b - a) for a, b in pairwise(on)]
    return sum(max(step, 0.0) for step in steps) <= LEEWAY


def _seen_up_to(seen: Tensor, last: int) -> int | None:
    found = seen[: last + 1].nonzero()
    return int(found[-1]) if len(found) else None


def _seen_from(seen: Tensor, first: int) -> int | None:
    found = seen[first:].nonzero()
    return first + int(found[0]) if len(found) else None


def _pace(centre: Tensor, seen: Tensor, start: int, end: int) -> float:
    """Median step of the object between frames start and end, both included, where it is seen in both frames of a
    step."""
    start, end = max(start, 0), min(end, len(seen) - 1)
    steps = centre[start : end + 1].diff(dim=0).norm(dim=-1)
    both = seen[start:end] & seen[start + 1 : end + 1]
    return float(steps[both].median()) if both.any() else 0.0


def _subject(tracks: tuple[Track, ...], said: ThingFacts) -> Track | None:
    """The object of the colour that is said, else the largest that is seen."""
    return next((t for t in tracks if t.colour == said.colour), tracks[0] if tracks else None)
