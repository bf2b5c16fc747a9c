"""Stories: one object does one thing after another, each for a span of the video, and goes on where it was.

An event takes its span as a scene takes its clip: the path of a whole clip, one turn, blinking at its own pace. A span
is so many latent frames (four video frames each, the video's first frame alone), six as in a clip of 21 frames, so that
four events make 93 frames at the speed of the world. No event comes twice.

A story is what its spans are: a scene for each, with the object as it is at the start of the span. So captions, facts
and what is held out are those of scenes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import torch

from .caption import caption, doing, phrase, place_of
from .render import Clips, motion, paint
from .scene import (
    BACKGROUNDS,
    COLOURS,
    DIAGONALS,
    GRID,
    MARGIN,
    NOMINAL_FRAMES,
    PHASES,
    SHAPES,
    SIZES,
    SPLITS,
    TURN,
    Scene,
    Thing,
    change_shows,
    extent,
    facts_of,
    is_held_out,
    largest_radius,
)

STRIDE = 4  # video frames of a latent frame, save the first
SPAN = (NOMINAL_FRAMES + STRIDE - 1) // STRIDE  # latent frames of an event
EVENTS = 4
MOST_EVENTS = 10
# what an object can do once; change colour comes at most once in a story, so that it can be followed through the video
DOES = ("still", "left", "right", "up", "down", *DIAGONALS, "circle", "grow", "shrink", "blink", "change")


@dataclass(frozen=True)
class Story:
    """scenes: one for each event, one thing each, as it is at the start of its span; span: latent frames of an
    event."""

    scenes: tuple[Scene, ...]
    span: int = SPAN

    @property
    def frames(self) -> int:
        return STRIDE * self.span * len(self.scenes) - STRIDE + 1

    @property
    def borders(self) -> list[int]:
        """First video frame of each event but the first."""
        return [STRIDE * self.span * i - STRIDE + 1 for i in range(1, len(self.scenes))]

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First video frame of each event, and the first after it."""
        return list(pairwise([0, *self.borders, self.frames]))


def sample_story(seed: int | Random, split: str = "train", events: int = EVENTS) -> Story:
    """One story, the same for the same arguments; a Random is advanced. split: "heldout" (at least one event is a
    combination never seen in training), "train" (none is) or "any". ValueError on what is outside of these."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; use one of {', '.join(SPLITS)}")
    if not 1 <= events <= MOST_EVENTS:
        raise ValueError(f"events is {events}; a story has 1 to {MOST_EVENTS}")
    rng = seed if isinstance(seed, Random) else Random(seed)
    while True:
        scenes = _draw(rng, events)
        held_out = any(map(is_held_out, scenes))
        if split != "any" and held_out != (split == "heldout"):
            continue
        if placed := _place(rng, scenes):
            return Story(placed)


def sample_stories(count: int, seed: int = 0, split: str = "train", events: int = EVENTS) -> list[Story]:
    """`count` stories from one seed."""
    rng = Random(seed)
    return [sample_story(rng, split, events) for _ in range(count)]


def story_captions(story: Story, seed: int | Random | None = None) -> list[str]:
    """A caption for each span. seed: as for `caption`."""
    rng = Random(seed) if isinstance(seed, int) else seed
    return [caption(scene, rng) for scene in story.scenes]


def joined_caption(story: Story, seed: int | Random | None = None) -> str:
    """All of the story in one sentence, for models that take one prompt: "a small red circle grows, moves up, blinks on
    a white background"."""
    rng = Random(seed) if isinstance(seed, int) else seed
    facts = [facts_of(scene) for scene in story.scenes]
    said = ", ".join(doing(one.things[0], rng) for one in facts)
    return f"{phrase(facts[0].things[0], rng)} {said} {place_of(facts[0], rng)}"


def render_stories(stories: Sequence[Story], size: int = 64) -> Clips:
    """Frames and truth of stories of one length. ValueError where lengths differ, or on none."""
    lengths = {story.frames for story in stories}
    if len(lengths) != 1:
        raise ValueError(f"stories have {sorted(lengths)} frames; give at least one, and of one length")
    parts = [_states(story) for story in stories]
    states = [torch.stack(part) for part in zip(*parts)]
    things = [story.scenes[0].things[0] for story in stories]
    return paint(things, [story.scenes[0].background for story in stories], states, size)


def _states(story: Story) -> list[torch.Tensor]:
    """As `motion` has them, over all spans. Each span but the first begins one step after the last frame of that
    before."""
    spans = []
    for number, (scene, (start, end)) in enumerate(zip(story.scenes, story.spans)):
        frames = end - start + (number > 0)
        whole = motion(scene.things[0], frames, *_cycles(scene.things[0], frames))
        spans.append([part[number > 0 :] for part in whole])
    return [torch.cat(parts) for parts in zip(*spans)]


def _cycles(thing: Thing, frames: int) -> tuple[float, int]:
    """(stretch, lead) with which the object comes full circle, and is back after its last absence, at the end."""
    turns = max(1, round((frames - 1) / TURN))
    stretch = (frames - 1) / (TURN * turns) if thing.motion == "circle" else 1.0
    return stretch, (frames - STRIDE) % (2 * STRIDE)


def _draw(rng: Random, events: int) -> list[Scene]:
    """Events of one object, not yet placed: x and y count from where it begins."""
    colour, *others = rng.sample(list(COLOURS), len(COLOURS))
    size, background = rng.choice(list(SIZES)), rng.choice(list(BACKGROUNDS))
    thing = Thing(rng.choice(SHAPES), colour, size, 0.0, 0.0, SIZES[size])
    turns = [other for other in others if change_shows(colour, other, background)]
    left, scenes = list(DOES), []
    for _ in range(events):
        barred = {"grow" if thing.size == "large" else "shrink"} | ({"change"} if not turns else set())
        does = rng.choice([one for one in left if one not in barred])
        left.remove(does)
        thing = replace(
            thing,
            motion="diagonal" if does in DIAGONALS else does,
            heading=does if does in DIAGONALS else "",
            to_colour=turns[0] if does == "change" else "",
            phase=2 * torch.pi * rng.randrange(PHASES) / PHASES if does == "circle" else 0.0,
        )
        scenes.append(Scene((thing,), background))
        thing = _after(thing)
    return scenes


def _after(thing: Thing) -> Thing:
    """The object when it has done what it does."""
    centre, radius, *_ = motion(thing, 2, stretch=1 / TURN)
    resized = {"grow": "large", "shrink": "small"}
    return replace(
        thing,
        x=float(centre[-1, 0]),
        y=float(centre[-1, 1]),
        radius=float(radius[-1]),
        size=resized.get(thing.motion, thing.size),
        colour=thing.to_colour or thing.colour,
    )


def _place(rng: Random, scenes: list[Scene]) -> tuple[Scene, ...] | None:
    """The story at a random start on the grid from which all of it stays within the frame; None where there is none."""
    things = [scene.things[0] for scene in scenes]
    start = []
    for axis, name in ((0, "x"), (1, "y")):
        low = min(getattr(t, name) + extent(t)[axis] - largest_radius(t) for t in things) - MARGIN
        high = max(getattr(t, name) + extent(t)[axis + 2] + largest_radius(t) for t in things) + MARGIN
        places = [i / GRID for i in range(GRID + 1) if i / GRID + low >= 0 and i / GRID + high <= 1]
        if not places:
            return None
        start.append(rng.choice(places))
    x, y = start
    return tuple(replace(scene, things=(replace(t, x=t.x + x, y=t.y + y),)) for scene, t in zip(scenes, things))
