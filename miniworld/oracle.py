"""The oracle: what is seen in frames alone, and how well that agrees with a caption. No network, no knowledge of the
scene.

An object is the history of a colour: it is segmented by colour (segment.py), its shape fitted, its path read. Most
scores judge a clip right or wrong, so that a mean over clips is the share of clips that are right.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .caption import parse
from .render import BLINK_FRAMES
from .scene import (
    BACKGROUNDS,
    COLOURS,
    DIAGONALS,
    GROWTH,
    HEADINGS,
    LOOK_MOTIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    TRAVEL,
    TURN,
    Facts,
    ThingFacts,
)
from .segment import AREAS, border, centre_of, histories, matte, moments, shape_fit, soften

LEAST_AREA = 12 / 64**2  # of the frame; a smaller spot is no object. The smallest true one has 35 / 64^2
LEAST_TRAVEL = 0.8 * TRAVEL  # paths of models may be a little shorter than true ones
SIZE_EDGE = math.sqrt(SIZES["small"] * SIZES["large"])
FIT_FRAMES = 6
PERIODS = {"circle": TURN, "blink": 2 * BLINK_FRAMES}  # frames
TEMPO = 1.6  # a cycle so many times too slow or too fast is not what was said
LEAST_FIT = 0.5  # overlap with the best shape; specks and smears have less


@dataclass(frozen=True)
class Track:
    """One object over time. colour and to_colour ("" if it does not change) of COLOURS, shape of SHAPES ("" for none of
    these), size of SIZES (at the start), motion of MOTIONS ("" for none of these), heading only for `diagonal`.
    Tensors: centre [time, 2] and radius [time] as fractions of the frame, visible [time], rgb [time, 3] mean colour,
    mask [time, height, width] 0..1. Where invisible, all are 0."""

    colour: str
    to_colour: str
    shape: str
    size: str
    motion: str
    heading: str
    centre: Tensor
    radius: Tensor
    visible: Tensor
    rgb: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Report:
    """What was seen: a background of BACKGROUNDS, and the objects, largest first."""

    background: str
    tracks: tuple[Track, ...]


def observe(frames: Tensor, stretch: float = 1.0) -> Report:
    """Reads a clip, square frames [time, side, side, 3], 0..1 (what lies outside is clamped), at least two. stretch:
    how many times as long as in the world circling and blinking are to take. ValueError on another shape."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.shape[1] != frames.shape[2] or len(frames) < 2:
        raise ValueError(
            f"frames are {list(frames.shape)}; give one clip as [time, side, side, 3] with at least two square frames"
        )
    soft = soften(frames.detach().float().cpu().nan_to_num(0.0).clamp(0, 1).movedim(-1, 1))
    ground = border(soft).median(1).values
    share, strong = matte(soft, ground)
    seen = strong.sum((-1, -2)) >= LEAST_AREA * soft.shape[-1] * soft.shape[-2]  # [colour, time]
    tracks = [_track(soft, share, strong, pair, stretch) for pair in histories(seen, strong)]
    return Report(
        nearest(ground.median(0).values, BACKGROUNDS), tuple(sorted(tracks, key=lambda t: -float(t.mask.sum())))
    )


def score(report: Report, said: Facts) -> dict[str, float]:
    """How well what was seen agrees with what was said, each 0..1. Only what was said is scored:

    object      share of the named objects seen with their colour and shape, times the share of frames they are seen in
                (unless they blink), times named / seen where more objects are seen than named
    size        share of the sizes that are right
    relation    share of frames in which the relation holds along the axis on which the objects are further apart
    motion      1 if the subject moves (or rests) as said, a circle in its time; for motions that change the place
    attribute   1 if the subject grows, shrinks, blinks (in its time) or changes its colour as said
    background  1 if right
    adherence   mean of the above
    """
    found = [next((t for t in report.tracks if t.colour == thing.colour), None) for thing in said.things]
    right = [_object_score(thing, track) for thing, track in zip(said.things, found)]
    scores = {"object": sum(right) / max(len(right), len(report.tracks))}
    sizes = [bool(track and track.size == thing.size) for thing, track in zip(said.things, found) if thing.size]
    if sizes:
        scores["size"] = sum(sizes) / len(sizes)
    if said.relation:
        scores["relation"] = _relation_score(said.relation, *found)
    subject, track = said.things[0], found[0]
    if subject.motion:
        same = track and (track.motion, track.heading, track.to_colour) == (
            subject.motion,
            subject.heading,
            subject.to_colour,
        )
        scores["attribute" if subject.motion in LOOK_MOTIONS else "motion"] = float(bool(same))
    if said.background:
        scores["background"] = float(report.background == said.background)
    return scores | {"adherence": sum(scores.values()) / len(scores)}


def judge(frames: Tensor, said: Facts | str, stretch: float = 1.0) -> dict[str, float]:
    """Scores of one clip, frames [time, height, width, 3], 0..1, against a caption or facts; see `score` and
    `observe`."""
    return score(observe(frames, stretch), parse(said) if isinstance(said, str) else said)


def nearest(colour: Tensor, palette: dict[str, tuple[float, float, float]]) -> str:
    """Name of the palette entry nearest to an RGB colour [3]."""
    return min(palette, key=lambda name: math.dist(palette[name], colour.tolist()))


def _track(soft: Tensor, share: Tensor, strong: Tensor, colours: tuple[int, int], stretch: float) -> Track:
    """The object that has the first colour at the start and the last at the end; it counts as unseen while it has
    neither."""
    first, last = colours
    core, weight = strong[first] | strong[last], torch.maximum(share[first], share[last])
    # the soft rim belongs to it, far specks do not
    mask = weight * F.max_pool2d(core.float().unsqueeze(1), 5, 1, 2).squeeze(1)
    area = core.sum((-1, -2)) / mask[0].numel()
    visible = area >= max(LEAST_AREA, 0.7 * float(area.median()) if first != last else 0.0)
    mask = mask * visible[:, None, None]
    area, centroid = moments(mask)
    large = (visible & (area >= area[visible].median())).nonzero().squeeze(-1)
    picks = large[torch.linspace(0, len(large) - 1, min(FIT_FRAMES, len(large))).round().long()]
    fit, shape = (v.item() for v in shape_fit(mask[picks]).mean(0).max(0))
    radius = (area / AREAS[shape]).sqrt()
    centre = centre_of(centroid, radius, SHAPES[shape]) * visible.unsqueeze(-1)
    inner = mask.pow(4)  # the rim is mixed with the background, the more the smaller the object
    rgb = (soft * inner.unsqueeze(1)).sum((-1, -2)) / inner.sum((-1, -2)).clamp(min=1e-6).unsqueeze(-1)
    names = list(COLOURS)
    to_colour = names[last] if last != first else ""
    motion, heading = ("change", "") if to_colour else _motion(centre, radius, visible, stretch)
    begin, change = _line(radius, visible)
    size = "small" if float(begin if motion in ("grow", "shrink") else begin + change / 2) < SIZE_EDGE else "large"
    known = SHAPES[shape] if fit >= LEAST_FIT else ""
    return Track(names[first], to_colour, known, size, motion, heading, centre, radius, visible, rgb, mask)


def _line(values: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Start and change over the whole clip of the straight line through values [time, ...] at visible frames."""
    u = torch.linspace(0, 1, len(values))[visible]
    y = values[visible]
    du = u - u.mean()
    slope = (y * du.reshape(-1, *[1] * (y.ndim - 1))).sum(0) / du.square().sum().clamp(min=1e-6)
    return y.mean(0) - slope * u.mean(), slope


def _motion(centre: Tensor, radius: Tensor, visible: Tensor, stretch: float) -> tuple[str, str]:
    """Motion and heading of a track of one colour; ("", "") if it fits none, goes round or on and off at another pace,
    or is seen in less than half of the frames."""
    if _gaps(visible):
        return ("blink" if _in_time("blink", blink_period(visible), stretch) else ""), ""
    if visible.float().mean() < 0.5:
        return "", ""
    begin, growth = _line(radius, visible)
    least = 0.2 * float(radius[visible].mean())  # a line through noisy radii may pass below zero
    ratio = max(float(begin + growth), least) / max(float(begin), least)
    swell = abs(math.log(ratio)) / math.log(GROWTH)
    _, travel = _line(centre, visible)
    path = centre[visible] - centre[visible].mean(0)
    minor, major = torch.linalg.eigvalsh(path.T @ path / len(path)).clamp(min=0).sqrt().tolist()
    even = float(torch.linspace(0, 1, len(visible))[visible].std(correction=0).clamp(min=1e-6))
    # a straight path at even speed deviates as much as time itself, times its length
    stride = major / even / LEAST_TRAVEL
    if max(swell, stride) < 0.5:
        return "still", ""
    if swell > stride:
        return ("grow" if ratio > 1 else "shrink"), ""
    if minor > 0.4 * major and _winding(path) > 1.5 * math.pi:
        period = _span(visible) * 2 * math.pi / _winding(path)
        return ("circle" if _in_time("circle", period, stretch) else ""), ""
    if float(travel.norm()) * even < 0.7 * major:  # it wanders or turns back
        return "", ""
    unit = {name: torch.tensor(h, dtype=torch.float32) / math.hypot(*h) for name, h in HEADINGS.items()}
    heading = max(unit, key=lambda name: float(unit[name] @ travel))
    return ("diagonal", heading) if heading in DIAGONALS else (heading, "")


def _gaps(visible: Tensor) -> bool:
    """Whether the object goes and comes back, away for at least a fifth of the clip in all."""
    on = visible.nonzero().squeeze(-1)
    return bool((~visible[on[0] : on[-1] + 1]).float().sum() >= 0.2 * len(visible))


def _span(visible: Tensor) -> int:
    """Steps from the first frame in which it is seen to the last."""
    on = visible.nonzero().squeeze(-1)
    return int(on[-1] - on[0])


def blink_period(visible: Tensor) -> float:
    """Frames from one vanishing to the next, mean over visible [time]; of one that vanishes once, twice its absence."""
    on = visible.nonzero().squeeze(-1)
    steps = visible[on[0] : on[-1] + 1].int().diff()
    gone, back = (steps == -1).nonzero().squeeze(-1), (steps == 1).nonzero().squeeze(-1)
    if len(gone) < 2:
        return 2.0 * float(back[0] - gone[0])
    return float(gone[-1] - gone[0]) / (len(gone) - 1)


def _in_time(motion: str, period: float, stretch: float) -> bool:
    return abs(math.log(period / (stretch * PERIODS[motion]))) < math.log(TEMPO)


def _winding(path: Tensor) -> float:
    """Angle, radians, swept around the origin by a path [time, 2]; 0 for one that keeps turning about, as noise
    does."""
    x, y = path.unbind(-1)
    turn = torch.atan2(x[:-1] * y[1:] - y[:-1] * x[1:], x[:-1] * x[1:] + y[:-1] * y[1:])
    return float(turn.sum().abs()) if turn.sum().abs() > 0.7 * turn.abs().sum() else 0.0


def _object_score(thing: ThingFacts, track: Track | None) -> float:
    if track is None or track.shape != thing.shape:
        return 0.0
    return 1.0 if thing.motion in ("blink", "change") else float(track.visible.float().mean())


def _relation_score(relation: str, a: Track | None, b: Track | None) -> float:
    both = a.visible & b.visible if a and b else torch.zeros(1, dtype=torch.bool)
    if not both.any():
        return 0.0
    offset = (a.centre - b.centre)[both]
    axis = torch.tensor(RELATIONS[relation], dtype=torch.float32)
    return float((offset @ axis >= offset.abs().max(-1).values).float().mean())
