"""Pairs for video prompts: what a clip that follows a reference shows, and how well it does.

Captions of targets do not say what the object does: only the reference does.
"""

from dataclasses import replace
from random import Random

from torch import Tensor

from .guards import dynamic_degree, loop_score
from .oracle import observe, score
from .render import render
from .scene import MARGIN, Scene, change_shows, extent, facts_of, largest_radius, sample_pair, sample_scene

SEED = 5  # of the held-out pairs that are reported


def held_out_pairs(count: int, seed: int = SEED) -> list[tuple[Scene, Scene]]:
    """`count` (reference, target) of one seed."""
    rng = Random(seed)
    return [sample_pair(rng, "heldout") for _ in range(count)]


def does(scene: Scene) -> tuple[str, str, str]:
    """What the subject does: motion, heading, the colour it turns to."""
    thing = scene.things[0]
    return thing.motion, thing.heading, thing.to_colour


def following(target: Scene, reference: Scene) -> Scene:
    """The target's object, where it is, doing what the reference's does."""
    a, b = target.things[0], reference.things[0]
    return replace(
        target,
        things=(replace(a, motion=b.motion, speed=b.speed, phase=b.phase, heading=b.heading, to_colour=b.to_colour),),
    )


def fits(scene: Scene) -> bool:
    """Whether the object stays in the frame, and shows all the while."""
    thing = scene.things[0]
    left, top, right, bottom = extent(thing)
    edge = largest_radius(thing) + MARGIN - 1e-6
    inside = edge <= min(thing.x + left, thing.y + top) and max(thing.x + right, thing.y + bottom) <= 1 - edge
    return inside and (
        not thing.to_colour
        or thing.to_colour != thing.colour
        and change_shows(thing.colour, thing.to_colour, scene.background)
    )


def other_reference(target: Scene, seed: int | Random, split: str = "heldout") -> Scene:
    """A reference that does something else, which the target could follow as well, and looks as unlike it as
    `sample_pair` has it."""
    rng = seed if isinstance(seed, Random) else Random(seed)
    thing = target.things[0]
    while True:
        scene = sample_scene(rng, split, 1)
        a = scene.things[0]
        unlike = (
            a.shape != thing.shape
            and thing.colour not in (a.colour, a.to_colour)
            and scene.background != target.background
        )
        if unlike and does(scene) != does(target) and fits(following(target, scene)):
            return scene


def first_frame(frames: Tensor, scene: Scene) -> float:
    """How well a clip [time, 64, 64, 3], 0..1, starts as the scene does: PSNR in dB, at most 60."""
    return float(-10 * (frames[0] - render([scene]).frames[0, 0]).square().mean().clamp(min=1e-6).log10())


def pair_scores(frames: Tensor, target: Scene, reference: Scene) -> dict[str, float]:
    """Of a clip [time, 64, 64, 3], 0..1, that starts as `target` and should follow `reference`:

    transfer     1 if the object does what the reference's does, with its heading and the colour it turns to
    object       as the oracle has it: whether it is still the target's, in colour and shape
    background   1 if right
    first frame  PSNR in dB against the target's
    and the guards dynamic degree and loop.
    """
    seen = score(observe(frames), facts_of(following(target, reference)))
    return {
        "transfer": seen.get("motion", seen.get("attribute", 0.0)),
        "object": seen["object"],
        "background": seen["background"],
        "first frame": first_frame(frames, target),
        "dynamic degree": dynamic_degree(frames),
        "loop": loop_score(frames),
    }
