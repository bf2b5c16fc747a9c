"""Seeing: from pixels to shares of colours, and from masks to places and shapes.

A pixel is read as background + a (colour - background), so that anti-aliased, soft and slightly faded pixels still name
their colour: the line on which it lies names the colour, and `a` is the colour's share of it.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .render import CROSS_ARM, SQUARE, TRIANGLE_BASE, TRIANGLE_TOP, coverage
from .scene import COLOURS, SHAPES

# of radius 1, as SHAPES
AREAS = torch.tensor((math.pi, 4 * SQUARE**2, TRIANGLE_BASE - TRIANGLE_TOP, 4 * CROSS_ARM * (2 - CROSS_ARM)))
TRIANGLE_CENTROID = TRIANGLE_TOP + 2 / 3 * (TRIANGLE_BASE - TRIANGLE_TOP)  # below the centre of the shape, in radii
HALF_SHARE = 0.5  # a pixel belongs to an object from here on
STRANGE = 0.35  # a pixel this far (RGB distance) from every line between the background and a colour has none
LEAST_PRESENCE = 0.25  # share of frames in which a colour must be seen to be an object's


def soften(images: Tensor) -> Tensor:
    """A 3 x 3 mean of [n, channels, height, width]: pixel noise falls to a third, and objects stay far larger than
    it."""
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)


def border(images: Tensor, width: int = 2) -> Tensor:
    """The pixels of the frame's edge, [n, pixels, channels]."""
    strips = (images[..., :width, :], images[..., -width:, :], images[..., :width].mT, images[..., -width:].mT)
    return torch.cat([s.flatten(2) for s in strips], -1).mT


def matte(soft: Tensor, ground: Tensor) -> tuple[Tensor, Tensor]:
    """Share of each colour [colour, time, height, width], 0..1, and the pixels [same, bool] in which it is the best and
    the most."""
    delta = (soft - ground[:, :, None, None]).movedim(1, -1)
    lines = torch.tensor(list(COLOURS.values())) - ground.median(0).values
    along = (delta @ lines.T).movedim(-1, 0)
    length = lines.square().sum(-1)[:, None, None, None]
    share = (along / length).clamp_(0, 1)
    off = torch.addcmul(delta.square().sum(-1), share, share * length - 2 * along)  # squared distance to the line
    best, which = off.min(0)
    which = torch.where(best < STRANGE**2, which, -1)
    strong = (share > HALF_SHARE) & (which == torch.arange(len(COLOURS))[:, None, None, None])
    return share, strong


def histories(seen: Tensor, strong: Tensor) -> list[tuple[int, int]]:
    """Colours (first, last) of each object, from where each colour is seen [colour, time]. A colour that ends is joined
    with one that begins nearby: an object that changed its colour."""
    third = max(1, round(0.3 * seen.shape[1]))
    kept = [k for k in range(len(COLOURS)) if seen[k].float().mean() >= LEAST_PRESENCE]
    starts = [k for k in kept if seen[k, :third].float().mean() >= 0.5 and not seen[k, -third:].any()]
    ends = [k for k in kept if seen[k, -third:].float().mean() >= 0.5 and not seen[k, :third].any()]
    place = {k: moments(strong[k].float())[1][seen[k]] for k in starts + ends}
    pairs = []
    for k in starts:
        near = min(ends, key=lambda e: float((place[k][-1] - place[e][0]).norm()), default=None)
        if near is not None and float((place[k][-1] - place[near][0]).norm()) < 0.25:
            pairs.append((k, near))
            ends.remove(near)
    joined = {k for pair in pairs for k in pair}
    return pairs + [(k, k) for k in kept if k not in joined]


def shape_fit(mask: Tensor) -> Tensor:
    """How well each of SHAPES covers masks [n, height, width], 0..1, when given their area and centroid: overlap [n,
    4], 0..1."""
    area, centroid = moments(mask)
    radii = (area.unsqueeze(-1) / AREAS).sqrt()
    templates = soften(
        torch.stack(
            [
                coverage(shape, centre_of(centroid, radius, shape), radius, mask.shape[-1])
                for shape, radius in zip(SHAPES, radii.unbind(-1))
            ],
            1,
        )
    )
    both, either = (op(templates, mask.unsqueeze(1)).sum((-1, -2)) for op in (torch.minimum, torch.maximum))
    return both / either.clamp(min=1e-6)


def moments(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Area [n] and centroid x, y [n, 2] of masks [n, height, width], in fractions of the frame."""
    rows, cols = mask.sum(-1), mask.sum(-2)
    total = rows.sum(-1)
    x, y = ((v * (torch.arange(v.shape[-1]) + 0.5)).sum(-1) / total.clamp(min=1e-6) / v.shape[-1] for v in (cols, rows))
    return total / mask[0].numel(), torch.stack((x, y), -1)


def centre_of(centroid: Tensor, radius: Tensor, shape: str) -> Tensor:
    """The shape's centre [n, 2] from its centroid."""
    drop = TRIANGLE_CENTROID if shape == "triangle" else 0.0
    return centroid - torch.stack((torch.zeros_like(radius), drop * radius), -1)
