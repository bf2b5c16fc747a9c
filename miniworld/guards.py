"""Guards for long videos: what a headline score can hide. A frozen, looping, stitched or drifting video must not win.

All read frames [time, height, width, 3], 0..1, of one clip. Lower is better for drift, seams and loops; more dynamic is
only better up to what the caption asks, so compare it with the unpatched model's.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .oracle import Report, Track, observe
from .scene import NOMINAL_FRAMES, Facts
from .segment import shape_fit

CELLS = 16  # frames are compared as CELLS x CELLS means, in which pixel noise vanishes and objects do not
CHANGED = 0.25  # RGB distance from which a cell has changed
STILL = 0.001  # mean RGB distance of two frames below which nothing has happened
SURE = 80.0  # sharpness of the shape verdict: an overlap better by 0.05 wins with odds of e^4


def dynamic_degree(frames: Tensor, window: int = NOMINAL_FRAMES) -> float:
    """Share of the picture that changes within `window` frames, mean over such windows; 0..1, 0 for a frozen video. A
    rendered clip with a moving object has about 0.1 to 0.3, and the same path at a quarter of the speed accordingly
    less."""
    cells = _cells(frames)
    parts = cells.split(window) if len(cells) > window else (cells,)
    changed = [((p.amax(0) - p.amin(0)).norm(dim=0) > CHANGED).float().mean() for p in parts if len(p) > window // 2]
    return float(torch.stack(changed).mean())


def loop_score(frames: Tensor) -> float:
    """How fully the video comes back to what it showed: 0..1, 0 if it never does, 1 for a loop or a frozen video.

    With D(lag) the mean squared difference of frames `lag` apart: the deepest fall of D below what it reached at a
    shorter lag, relative to that, over lags from a quarter to half of the video (a shorter period has a multiple
    there). Our choice. Blinking and circling objects come back by themselves, so compare clips of the same caption
    only.
    """
    cells = _cells(frames).flatten(1)
    # exact where frames repeat
    apart = torch.cdist(cells, cells, compute_mode="donot_use_mm_for_euclid_dist").square() / CELLS**2
    distance = torch.stack([apart.diagonal(lag).mean() for lag in range(1, len(cells) // 2 + 1)])
    highest = distance.cummax(0).values
    if highest[-1] < max(
        STILL**2, 1.5 * float(distance[0])
    ):  # frames far apart differ no more than neighbours do: frozen, or noise
        return 1.0
    fall = 1 - distance / highest.clamp(min=STILL**2)
    return float(fall[max(len(cells) // 4 - 1, 0) :].max().clamp(0, 1))


def seam_strength(frames: Tensor, borders: Sequence[int]) -> float:
    """Frame difference at window borders over the median frame difference: about 1 without seams, larger where windows
    do not join.

    borders: for each window but the first, the index of its first frame, 1 .. time - 1; a seam may sit one frame beside
    it. The median is taken as not less than STILL. Blinking makes jumps of its own, and ratios have a long tail:
    compare clips of the same caption and sum up by medians. ValueError on a border outside the video, or none.
    """
    if not borders or min(borders) < 1 or max(borders) >= len(frames):
        raise ValueError(f"window borders are {list(borders)}; give at least one, each from 1 to {len(frames) - 1}")
    jump = _jumps(frames)
    peaks = [float(jump[max(b - 2, 0) : b + 1].max()) for b in borders]
    return sum(peaks) / len(peaks) / max(float(jump.median()), STILL)


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
        if t.visible[: _part(t)].any()
    ]
    return sum(drifts) / len(drifts) if drifts else 1.0


def _cells(frames: Tensor) -> Tensor:
    """Frames as cell means, [time, 3, CELLS, CELLS]."""
    return F.adaptive_avg_pool2d(frames.detach().float().cpu().movedim(-1, 1), CELLS)


def _jumps(frames: Tensor) -> Tensor:
    """Mean RGB distance from each frame to the next, [time - 1]."""
    return _cells(frames).diff(dim=0).norm(dim=1).mean((-1, -2))


def _part(track: Track) -> int:
    return max(1, int(0.15 * len(track.visible)))


def _drift(track: Track, colour_may_change: bool) -> float:
    n = _part(track)
    parts = [
        part[track.visible[part]]
        for part in (torch.arange(n), torch.arange(len(track.visible) - n, len(track.visible)))
    ]
    if not len(parts[1]):
        return 1.0
    first, last = (torch.softmax(SURE * shape_fit(track.mask[p]).mean(0), -1) for p in parts)
    shape = 0.5 * float((first - last).abs().sum())
    rgb = 0.0 if colour_may_change else float((track.rgb[parts[0]].mean(0) - track.rgb[parts[1]].mean(0)).norm())
    return 1 - (1 - shape) * (1 - min(rgb / 0.45, 1.0))  # 0.45: the least distance between two colours of the world
