"""Guards for long videos: what a headline score can hide. A frozen, looping, stitched or drifting video must not win.

All read frames [time, height, width, 3], 0..1, of one clip; what is not of this world is computed in kernels/drift.py.
Lower is better for drift, seams, loops and speckle; more dynamic is only better up to what the caption asks, so compare
it with the truth's.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels.drift import dynamic_degree as changing_share
from ..kernels.drift import ends, loop_score, seams
from .oracle import Report, Track, observe
from .scene import NOMINAL_FRAMES, Facts
from .segment import border, shape_fit, soften

__all__ = ["dynamic_degree", "identity_drift", "loop_score", "seam_strength", "speckle"]

SURE = 80.0  # sharpness of the shape verdict: an overlap better by 0.05 wins with odds of e^4
FAINT = 0.08  # RGB distance from which a pixel is no longer background
SOLID = 0.25  # the same, in a mean of 3 x 3, from which it belongs to an object
REACH = 4  # pixels around an object that its soft rim may take
BORDER_FRAMES = (-1, 4)  # of a border: the frame before it, and its first latent frame
LEAST_SPECKLE = 2 / 64**2  # share of faint pixels below which a picture is clean


def dynamic_degree(frames: Tensor, window: int = NOMINAL_FRAMES) -> float:
    """Share of the picture that changes within `window` frames, mean over such windows; 0..1, 0 for a frozen video. A
    rendered clip with a moving object has about 0.1 to 0.3, and the same path at a quarter of the speed accordingly
    less."""
    return changing_share(frames, window)


def seam_strength(frames: Tensor, borders: Sequence[int]) -> float:
    """Frame difference at window borders over the median frame difference: about 1 without seams, larger where windows
    do not fit together; the mean over the borders. Blinking objects and lone jumps make outliers, so on videos that may
    hold such, compare clips of the same caption and sum up by medians. ValueError on a border outside the video, or
    none.
    """
    found = seams(frames, borders)
    return sum(found) / len(found)


def speckle(frames: Tensor, borders: Sequence[int]) -> float:
    """Faint pixels off the background in the frames at window borders, over those in all other frames: 1 where borders
    look as the rest does, larger where windows begin with a speckled frame. What lies on or near an object does not
    count, and a clean picture counts as LEAST_SPECKLE."""
    pictures = frames.detach().float().cpu().clamp(0, 1).movedim(-1, 1)
    ground = border(pictures).median(1).values
    ground = ground[:, :, None, None]
    objects = (soften(pictures) - ground).norm(dim=1, keepdim=True) > SOLID  # a lone speck is none
    near = F.max_pool2d(objects.float(), 2 * REACH + 1, 1, REACH).squeeze(1) > 0
    off = (pictures - ground).norm(dim=1) > FAINT
    faint = (off & ~near).float().mean((-1, -2))
    at = torch.zeros(len(frames), dtype=torch.bool)
    for first in borders:
        at[max(first + BORDER_FRAMES[0], 0) : first + BORDER_FRAMES[1]] = True
    if not at.any() or at.all():
        raise ValueError(f"window borders are {list(borders)}; give at least one, and frames between them")
    return float((faint[at].mean() + LEAST_SPECKLE) / (faint[~at].mean() + LEAST_SPECKLE))


def identity_drift(frames: Tensor | Report, said: Facts | None = None) -> float:
    """How far objects change colour or shape from the first 15 % of the frames to the last 15 %: 0 same .. 1 another
    object or gone.

    Takes frames, or what the oracle has observed in them. Position and size are free. said: a caption's facts; where it
    says that an object changes its colour, that change is no drift. Mean over the objects of the first part; 1 if there
    is none. The two parts follow FramePack (arXiv 2504.12626, eq 7); the measure is our choice.
    """
    report = frames if isinstance(frames, Report) else observe(frames)
    turns = {t.colour: t.to_colour for t in said.things} if said else {}
    drifts = [
        _drift(t, bool(t.to_colour) and turns.get(t.colour) == t.to_colour)
        for t in report.tracks
        if t.visible[ends(len(t.visible))[0]].any()
    ]
    return sum(drifts) / len(drifts) if drifts else 1.0


def _drift(track: Track, colour_may_change: bool) -> float:
    parts = [torch.arange(len(track.visible))[end] for end in ends(len(track.visible))]
    parts = [part[track.visible[part]] for part in parts]
    if not len(parts[1]):
        return 1.0
    first, last = (torch.softmax(SURE * shape_fit(track.mask[p]).mean(0), -1) for p in parts)
    shape = 0.5 * float((first - last).abs().sum())
    rgb = 0.0 if colour_may_change else float((track.rgb[parts[0]].mean(0) - track.rgb[parts[1]].mean(0)).norm())
    return 1 - (1 - shape) * (1 - min(rgb / 0.45, 1.0))  # 0.45: the least distance between two colours of the world
