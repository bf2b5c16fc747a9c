"""Renderer: scenes to anti-aliased frames and their ground truth, a batch at once.

Coverage of a pixel is clamp(1/2 - d, 0, 1), d the signed distance in pixels from its centre to the shape's outline.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .scene import BACKGROUNDS, COLOURS, GROWTH, HEADINGS, NOMINAL_FRAMES, SHAPES, TURN, Scene, Thing

# In units of the radius; every shape fits in the square of half side 1.
SQUARE = 0.88
CROSS_ARM = 0.34
TRIANGLE_TOP, TRIANGLE_BASE = -1.0, 0.82
BOUNDS = {
    "circle": (-1, -1, 1, 1),
    "square": (-SQUARE,) * 2 + (SQUARE,) * 2,
    "triangle": (-1, TRIANGLE_TOP, 1, TRIANGLE_BASE),
    "cross": (-1, -1, 1, 1),
}
BLINK_FRAMES = 4  # on for so many frames, then off for as many; the first frame is one more, as in a causal video VAE


@dataclass(frozen=True)
class Clips:
    """Rendered scenes with their truth; a missing second object is never visible.

    frames  [batch, time, height, width, 3], float32, 0..1
    masks   [batch, objects, time, height, width], coverage 0..1
    boxes   [batch, objects, time, 4], left, top, right, bottom as fractions of the frame, 0 where invisible
    centres [batch, objects, time, 2], x, y as fractions of the frame
    radius  [batch, objects, time], fraction of the frame side
    colours [batch, objects, time, 3], 0..1
    visible [batch, objects, time], bool
    """

    frames: Tensor
    masks: Tensor
    boxes: Tensor
    centres: Tensor
    radius: Tensor
    colours: Tensor
    visible: Tensor


def signed_distance(shape: str, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Distance to the outline of `shape`, negative inside. x, y: offsets from its centre, any broadcastable shape and
    unit, the unit of `radius` and of the result. Outside of corners the distance is that to the nearest edge line."""
    if shape == "circle":
        return (x.square() + y.square()).sqrt() - radius
    x, wide, high = x.abs(), x.abs() - radius, y.abs() - radius
    if shape == "square":
        return torch.maximum(wide, high) + (1 - SQUARE) * radius
    if shape == "cross":
        thin = (1 - CROSS_ARM) * radius
        return torch.minimum(torch.maximum(wide, high + thin), torch.maximum(wide + thin, high))
    slope = TRIANGLE_BASE - TRIANGLE_TOP  # the sides run from (0, top) to (+-1, base)
    norm = math.hypot(slope, 1)
    return torch.maximum(y - TRIANGLE_BASE * radius, x * (slope / norm) - (y - TRIANGLE_TOP * radius) / norm)


def coverage(shape: str, centres: Tensor, radius: Tensor, size: int) -> Tensor:
    """How much of each pixel `shape` covers, [..., size, size], 0..1, for centres [..., 2] and radius [...], fractions
    of the frame."""
    grid = torch.arange(size, device=centres.device) + 0.5
    x = (grid - centres[..., :1] * size).unsqueeze(-2)
    y = (grid - centres[..., 1:] * size).unsqueeze(-1)
    return (0.5 - signed_distance(shape, x, y, radius[..., None, None] * size)).clamp_(0, 1)


def motion(
    thing: Thing | None, frames: int, stretch: float = 1.0, lead: int = 1
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre [time, 2], radius [time], colour [time, 3] and visibility [time] of a thing; None is never visible.

    stretch: cycles take so many times as long; lead: frames at the start that blinking counts beside its first four.
    """
    if thing is None:
        return (
            torch.zeros(frames, 2),
            torch.zeros(frames),
            torch.zeros(frames, 3),
            torch.zeros(frames, dtype=torch.bool),
        )
    t = torch.arange(frames, dtype=torch.float32)
    u = t / max(frames - 1, 1)
    centre = torch.tensor((thing.x, thing.y)).expand(frames, 2)
    radius = torch.full((frames,), thing.radius)
    colour = torch.tensor(COLOURS[thing.colour]).expand(frames, 3)
    visible = torch.ones(frames, dtype=torch.bool)
    if thing.motion == "circle":
        angle = thing.phase + t * (2 * math.pi / (stretch * TURN))
        turn = torch.stack((angle.cos() - math.cos(thing.phase), angle.sin() - math.sin(thing.phase)), -1)
        centre = centre + turn * (thing.speed / 2)
    elif thing.motion == "blink":
        visible = ((t - lead).clamp(min=0) // (stretch * BLINK_FRAMES)) % 2 == 0
    elif thing.motion == "change":
        mix = ((u - 0.4) / 0.2).clamp(0, 1).unsqueeze(-1)
        colour = torch.lerp(colour, torch.tensor(COLOURS[thing.to_colour]).expand(frames, 3), mix)
    elif thing.motion in ("grow", "shrink"):
        end = GROWTH if thing.motion == "grow" else 1 / GROWTH
        radius = radius * (1 + (end - 1) * u)
    elif heading := HEADINGS.get(thing.heading or thing.motion):
        centre = centre + u.unsqueeze(-1) * torch.tensor(heading) * thing.speed
    return centre, radius, colour, visible


def render(
    scenes: Sequence[Scene],
    frames: int = NOMINAL_FRAMES,
    size: int = 64,
    device: str | torch.device = "cpu",
    stretch: float = 1.0,
) -> Clips:
    """Frames and truth of a batch of scenes: `frames` frames of size x size pixels. stretch: circling and blinking take
    so many times as long. ValueError on an empty batch or a length below 1."""
    if not scenes or frames < 1 or size < 1:
        raise ValueError(
            f"cannot render {len(scenes)} scenes of {frames} frames at {size} px; give at least one of each"
        )
    count = max(len(s.things) for s in scenes)
    slots = [s.things[i] if i < len(s.things) else None for s in scenes for i in range(count)]
    states = [torch.stack(part).to(device) for part in zip(*(motion(thing, frames, stretch) for thing in slots))]
    return paint(slots, [s.background for s in scenes], states, size)


def paint(slots: Sequence[Thing | None], backgrounds: Sequence[str], states: Sequence[Tensor], size: int) -> Clips:
    """Pictures of things in given states. slots: the shapes, as many for each background; states: as `motion` has them,
    each [slots, time, ...]."""
    centres, radius, colours, visible = states
    device, (_, frames) = centres.device, radius.shape
    parts = (len(backgrounds), len(slots) // len(backgrounds))
    masks = torch.zeros(len(slots), frames, size, size, device=device)
    bounds = torch.zeros(len(slots), 1, 4, device=device)
    for shape in SHAPES:
        rows = [i for i, thing in enumerate(slots) if thing and thing.shape == shape]
        if rows:
            masks[rows] = coverage(shape, centres[rows], radius[rows], size)
            bounds[rows] = torch.tensor(BOUNDS[shape], dtype=torch.float32, device=device)
    masks.mul_(visible[..., None, None])
    boxes = (centres.repeat(1, 1, 2) + bounds * radius.unsqueeze(-1)) * visible.unsqueeze(-1)
    masks, boxes, centres, radius, colours, visible = (
        part.unflatten(0, parts) for part in (masks, boxes, centres, radius, colours, visible)
    )
    ground = torch.tensor([BACKGROUNDS[name] for name in backgrounds], device=device)
    picture = ground[:, None, :, None, None].expand(-1, frames, -1, size, size).contiguous()
    for i in range(parts[1]):  # lerp, so that anti-aliased edges blend with what is behind
        picture.lerp_(colours[:, i, :, :, None, None].expand_as(picture), masks[:, i].unsqueeze(2).expand_as(picture))
    return Clips(picture.movedim(2, -1).contiguous(), masks, boxes, centres, radius, colours, visible)
