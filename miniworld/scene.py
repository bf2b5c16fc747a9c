"""Scenes: one or two coloured shapes that move or change in front of a plain background.

Lengths are fractions of the frame side; x grows to the right, y grows downwards. A scene is a function of time, so any
number of frames can be rendered from it. One-way motions (left ... diagonal, grow, shrink, change colour) spend the
whole clip on the same path, so a clip of 4 x 21 frames is the same path at a quarter of the speed: it keeps moving,
never leaves the frame, and its caption and relation stay true. Cyclic motions (circle, blink) keep their period in
frames and go on.

Places and paths are few: objects start on a grid of 4 pixels (at 64 x 64), move one pixel a frame, and orbit from one
of eight angles. Captions say nothing of this, so whatever is free here a model must make up, and two CPU cores teach it
few places well, but a continuum badly.

In a scene of two the first is the subject and may move; the second stands still, and the subject's relation to it holds
in every frame by a margin on one axis only, so that exactly one of the four relations is true.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

NOMINAL_FRAMES = 21  # 6 latent frames at 4x temporal compression
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (0.88, 0.06, 0.08),
    "orange": (1.00, 0.50, 0.00),
    "yellow": (1.00, 0.93, 0.15),
    "green": (0.08, 0.65, 0.14),
    "cyan": (0.10, 0.86, 0.90),
    "blue": (0.08, 0.20, 0.92),
    "purple": (0.50, 0.08, 0.68),
    "pink": (1.00, 0.52, 0.80),
}
BACKGROUNDS = {
    "black": (0.05, 0.05, 0.05),
    "white": (0.95, 0.95, 0.95),
    "gray": (0.46, 0.46, 0.46),
    "brown": (0.38, 0.23, 0.10),
}
SIZES = {"small": 0.11, "large": 0.17}  # radius; every shape fits in the square of half side radius
HEADINGS = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "up left": (-1, -1),
    "up right": (1, -1),
    "down left": (-1, 1),
    "down right": (1, 1),
}
DIAGONALS = ("up left", "up right", "down left", "down right")
PLACE_MOTIONS = ("still", "left", "right", "up", "down", "diagonal", "circle")
LOOK_MOTIONS = ("grow", "shrink", "blink", "change")
MOTIONS = PLACE_MOTIONS + LOOK_MOTIONS
# from the other object to the subject
RELATIONS = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}
SPLITS = ("train", "heldout", "any")

GROWTH = 1.6  # radius at the end of `grow` over radius at its start
MARGIN = 0.02  # least distance between an object and the frame's edge
GAP = 0.05  # least distance between two objects along the axis of their relation
DOMINANCE = 1.25  # a relation's axis carries at least this many times the offset of the other axis
GRID = 16  # starting places along a side
TURN = NOMINAL_FRAMES - 1  # frames of an orbit
TRAVEL = 0.3125  # path of a whole clip and diameter of an orbit
PHASES = 8  # angles from which an orbit can start


@dataclass(frozen=True)
class Thing:
    """One object. x, y: centre in the first frame; radius: half side in the first frame; speed: travel of a whole clip
    along each axis (`circle`: diameter of the orbit, run clockwise once in TURN frames from angle `phase`, radians).
    heading: only for `diagonal`; to_colour: only for `change`."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    motion: str = "still"
    speed: float = TRAVEL
    phase: float = 0.0
    heading: str = ""
    to_colour: str = ""


@dataclass(frozen=True)
class Scene:
    """One or two things; relation is the first thing's to the second ("" for one thing)."""

    things: tuple[Thing, ...]
    background: str
    relation: str = ""


@dataclass(frozen=True)
class ThingFacts:
    """What is said about one object. None: not said. heading and to_colour belong to the motions `diagonal` and
    `change`."""

    shape: str
    colour: str
    size: str | None = None
    motion: str | None = None
    heading: str = ""
    to_colour: str = ""


@dataclass(frozen=True)
class Facts:
    """What a caption says, or what is true of a scene. things: the subject, then the object it is related to, if
    any."""

    things: tuple[ThingFacts, ...]
    relation: str | None = None
    background: str | None = None


def facts_of(scene: Scene) -> Facts:
    """Everything a caption could say about `scene`. The second object always stands still, which captions do not
    mention: None."""
    things = tuple(
        ThingFacts(t.shape, t.colour, t.size, t.motion if i == 0 else None, t.heading, t.to_colour)
        for i, t in enumerate(scene.things)
    )
    return Facts(things, scene.relation or None, scene.background)


def held_out_thing(colour: str, shape: str, motion: str) -> bool:
    """Whether this combination is kept from training. One in five is; every pair of the three words still occurs in
    training."""
    return (list(COLOURS).index(colour) + 2 * SHAPES.index(shape) + 3 * MOTIONS.index(motion)) % 5 == 0


def held_out_relation(colour: str, relation: str, other: str) -> bool:
    """Whether a subject of `colour` in this relation to an object of colour `other` is kept from training. One in five
    is."""
    return (list(COLOURS).index(colour) + 2 * list(COLOURS).index(other) + 3 * list(RELATIONS).index(relation)) % 5 == 0


def is_held_out(scene: Scene) -> bool:
    """True if any combination in the scene is kept from training; so a training scene contains none, not even in its
    second object."""
    things = scene.things
    return any(held_out_thing(t.colour, t.shape, t.motion) for t in things) or (
        len(things) == 2 and held_out_relation(things[0].colour, scene.relation, things[1].colour)
    )


def extent(thing: Thing) -> tuple[float, float, float, float]:
    """Bounds of the centre's offset from (x, y) over any clip: (left, top, right, bottom)."""
    if thing.motion == "circle":
        r, cx, cy = thing.speed / 2, math.cos(thing.phase) * thing.speed / 2, math.sin(thing.phase) * thing.speed / 2
        return -r - cx, -r - cy, r - cx, r - cy
    hx, hy = HEADINGS.get(thing.heading or thing.motion, (0, 0))
    dx, dy = hx * thing.speed, hy * thing.speed
    return min(dx, 0.0), min(dy, 0.0), max(dx, 0.0), max(dy, 0.0)


def largest_radius(thing: Thing) -> float:
    """The radius at its largest in the clip, fraction of the frame side."""
    return thing.radius * (GROWTH if thing.motion == "grow" else 1.0)


def relation_holds(scene: Scene) -> bool:
    """Whether the relation of a two-object scene is true, and alone true, in every frame of any clip of it."""
    a, b = scene.things
    left, top, right, bottom = extent(a)
    sx, sy = RELATIONS[scene.relation]
    along = min(sx * (a.x + o - b.x) + sy * (a.y + p - b.y) for o in (left, right) for p in (top, bottom))
    across = max(
        max(abs(a.x + o - b.x) * abs(sy), abs(a.y + p - b.y) * abs(sx)) for o in (left, right) for p in (top, bottom)
    )
    return along >= max(DOMINANCE * across, largest_radius(a) + largest_radius(b) + GAP)


def change_shows(colour: str, to_colour: str, background: str) -> bool:
    """Whether no mixture on the way between two colours fades into the background (red to cyan passes through gray)."""
    mixtures = ([(1 - w) * a + w * b for a, b in zip(COLOURS[colour], COLOURS[to_colour])] for w in (0.25, 0.5, 0.75))
    return min(math.dist(m, BACKGROUNDS[background]) for m in mixtures) > 0.3


def _place(rng: Random, thing: Thing) -> Thing:
    """`thing` at a random start on the grid from which it stays within the frame."""
    left, top, right, bottom = extent(thing)
    edge = largest_radius(thing) + MARGIN

    def pick(least: float, most: float) -> float:
        return rng.randint(math.ceil(GRID * least), math.floor(GRID * most)) / GRID

    return replace(thing, x=pick(edge - left, 1 - edge - right), y=pick(edge - top, 1 - edge - bottom))


def _draw(rng: Random, objects: int, motion: str | None, relation: str | None) -> Scene:
    """A scene of random words, not yet placed."""
    colours = rng.sample(list(COLOURS), 3)
    sizes = [rng.choice(list(SIZES)) for _ in range(objects)]
    if sizes == ["large", "large"]:
        sizes[rng.randrange(2)] = "small"  # two large objects leave the subject no room to move
    things = []
    for i in range(objects):
        move = "still" if i else motion or rng.choice(MOTIONS)
        things.append(
            Thing(
                rng.choice(SHAPES),
                colours[i],
                sizes[i],
                0.5,
                0.5,
                SIZES[sizes[i]],
                move,
                phase=2 * math.pi * rng.randrange(PHASES) / PHASES if move == "circle" else 0.0,
                heading=rng.choice(DIAGONALS) if move == "diagonal" else "",
                to_colour=colours[2] if move == "change" else "",
            )
        )
    grounds = [
        b for b in BACKGROUNDS if not things[0].to_colour or change_shows(things[0].colour, things[0].to_colour, b)
    ]
    return Scene(tuple(things), rng.choice(grounds), (relation or rng.choice(list(RELATIONS))) if objects == 2 else "")


def _settle(rng: Random, scene: Scene) -> Scene | None:
    """`scene` with its things placed so that the relation holds; None if chance did not find such a place."""
    for _ in range(100):
        placed = replace(scene, things=tuple(_place(rng, t) for t in scene.things))
        if len(placed.things) == 1 or relation_holds(placed):
            return placed
    return None


def sample_scene(
    seed: int | Random, split: str = "train", objects: int = 1, motion: str | None = None, relation: str | None = None
) -> Scene:
    """One scene, the same for the same arguments; a Random is advanced.

    split: "train", "heldout" (at least one combination never seen in training) or "any"; objects: 1 or 2; motion (one
    of MOTIONS) and relation (one of RELATIONS, two objects only) fix what is otherwise drawn. ValueError on a word
    outside these.
    """
    for name, value, known in (
        ("split", split, SPLITS),
        ("objects", objects, (1, 2)),
        ("motion", motion, (None, *MOTIONS)),
        ("relation", relation, (None, *RELATIONS) if objects == 2 else (None,)),
    ):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; use one of {', '.join(map(str, known))}")
    rng = seed if isinstance(seed, Random) else Random(seed)
    while True:
        scene = _draw(rng, objects, motion, relation)
        if split != "any" and is_held_out(scene) != (split == "heldout"):
            continue
        if placed := _settle(rng, scene):
            return placed


def sample_scenes(count: int, seed: int = 0, split: str = "train", objects: Sequence[int] = (1, 2)) -> list[Scene]:
    """`count` scenes from one seed, the numbers of objects taken in turn from `objects`."""
    rng = Random(seed)
    return [sample_scene(rng, split, objects[i % len(objects)]) for i in range(count)]


def sample_pair(seed: int | Random, split: str = "train", motion: str | None = None) -> tuple[Scene, Scene]:
    """(reference, target) for video prompts, one object each: the same motion or effect (with heading, phase, speed and
    to_colour), but another colour, shape, place and background. Arguments as in `sample_scene`."""
    rng = seed if isinstance(seed, Random) else Random(seed)
    first = sample_scene(rng, split, 1, motion)
    a = first.things[0]
    while True:
        second = sample_scene(rng, split, 1, a.motion)
        b = replace(second.things[0], speed=a.speed, phase=a.phase, heading=a.heading, to_colour=a.to_colour)
        shows = not b.to_colour or change_shows(b.colour, b.to_colour, second.background)
        if (
            b.shape != a.shape
            and b.colour not in (a.colour, a.to_colour)
            and second.background != first.background
            and shows
        ):
            return first, replace(second, things=(_place(rng, b),))
