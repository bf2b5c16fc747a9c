"""Drift: how a video changes from its first part to its last, and what a score of that alone would hide.

All read frames [time, height, width, 3], 0..1, of one video, of any size. First and last part: SHARE of the frames each
(FramePack, arXiv 2504.12626, eq 7). A frozen video drifts least, so movement, loops and seams are measured beside it.
The measures themselves are our choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SHARE = 0.15
CELLS = 16  # frames are compared as CELLS x CELLS means, in which pixel noise vanishes and objects do not
CHANGED = 0.25  # RGB distance from which a cell has changed
STILL = 0.001  # mean RGB distance of two frames below which nothing has happened
LUMA = (0.2126, 0.7152, 0.0722)  # BT.709
CHUNK = 32  # frames held as floats at a time


@dataclass(frozen=True)
class Curves:
    """Measures of each frame [time]: sharpness (mean size of the Laplacian of luma), luma, contrast (deviation of luma
    over the frame), saturation (mean of the largest less the least channel); rgb [time, 3], the mean colour."""

    sharpness: Tensor
    luma: Tensor
    contrast: Tensor
    saturation: Tensor
    rgb: Tensor


def curves(frames: Tensor) -> Curves:
    """The measures of each frame. ValueError where `frames` are no video of at least two frames of 3 x 3 pixels."""
    require_video(frames)
    parts = [_measures(part) for part in frames.split(CHUNK)]
    return Curves(*(torch.cat(one) for one in zip(*parts)))


def require_video(frames: Tensor) -> None:
    fits = frames.ndim == 4 and frames.shape[-1] == 3 and len(frames) >= 2 and min(frames.shape[1:3]) >= 3
    if not fits:
        raise ValueError(
            f"frames: shape {tuple(frames.shape)}; give one video [time, height, width, 3] of at least two frames of "
            "3 x 3 pixels."
        )


def _measures(frames: Tensor) -> tuple[Tensor, ...]:
    frames = frames.detach().float().cpu()
    luma = frames @ torch.tensor(LUMA)
    inner = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    flat = luma.flatten(1)
    saturation = (frames.amax(-1) - frames.amin(-1)).flatten(1).mean(1)
    return (
        (around - 4 * inner).abs().flatten(1).mean(1),
        flat.mean(1),
        flat.std(1, correction=0),
        saturation,
        frames.flatten(1, 2).mean(1),
    )


def ends(frames: int, share: float = SHARE) -> tuple[slice, slice]:
    """The first and the last part of so many frames, at least one frame each."""
    count = max(1, int(share * frames))
    return slice(0, count), slice(frames - count, frames)


def first_and_last(values: Tensor, share: float = SHARE) -> tuple[float, float]:
    """Means of values [time] over the first and the last part."""
    first, last = ends(len(values), share)
    return float(values[first].mean()), float(values[last].mean())


def change(values: Tensor, share: float = SHARE) -> float:
    """(last - first) / first of values [time], all at least 0: -0.3 is a loss of 30 percent. 0 where both are 0."""
    first, last = first_and_last(values, share)
    return 0.0 if abs(last - first) < 1e-9 else (last - first) / max(first, 1e-6)


def colour_drift(rgb: Tensor, share: float = SHARE) -> float:
    """RGB distance of the mean colours of the first and the last part, 0..1.73, of rgb [time, 3]."""
    first, last = ends(len(rgb), share)
    return float((rgb[first].mean(0) - rgb[last].mean(0)).norm())


def similarity(features: Tensor, share: float = SHARE) -> float:
    """Cosine of the mean features of the first and the last part, of unit features [time, width]: -1..1, 1 the same."""
    first, last = ends(len(features), share)
    return float(F.cosine_similarity(features[first].mean(0), features[last].mean(0), dim=0))


def cells(frames: Tensor) -> Tensor:
    """Frames as cell means, [time, 3, CELLS, CELLS]."""
    return torch.cat(
        [F.adaptive_avg_pool2d(part.detach().float().cpu().movedim(-1, 1), CELLS) for part in frames.split(CHUNK)]
    )


def jumps(frames: Tensor) -> Tensor:
    """Mean RGB distance from each frame to the next, [time - 1]."""
    return cells(frames).diff(dim=0).norm(dim=1).mean((-1, -2))


def dynamic_degree(frames: Tensor, window: int) -> float:
    """Share of the picture that changes within `window` frames, mean over such windows; 0..1, 0 for a frozen video. A
    last window of half the length or less does not count."""
    small = cells(frames)
    parts = [part for part in small.split(window) if len(part) > window // 2] or [small]
    changed = [((part.amax(0) - part.amin(0)).norm(dim=0) > CHANGED).float().mean() for part in parts]
    return float(torch.stack(changed).mean())


def loop_score(frames: Tensor) -> float:
    """How fully the video comes back to what it showed: 0..1, 0 if it never does, 1 for a loop or a frozen video.

    With D(lag) the mean squared difference of frames `lag` apart: the deepest fall of D below what it reached at a
    shorter lag, relative to that, over lags from a quarter to half of the video (a shorter period has a multiple
    there). Blinking and circling objects come back by themselves, so compare videos of the same prompt only.
    """
    small = cells(frames).flatten(1)
    # exact where frames repeat
    apart = torch.cdist(small, small, compute_mode="donot_use_mm_for_euclid_dist").square() / CELLS**2
    distance = torch.stack([apart.diagonal(lag).mean() for lag in range(1, max(len(small) // 2, 1) + 1)])
    highest = distance.cummax(0).values
    if highest[-1] < max(
        STILL**2, 1.5 * float(distance[0])
    ):  # frames far apart differ no more than neighbours do: frozen, or noise
        return 1.0
    fall = 1 - distance / highest.clamp(min=STILL**2)
    return float(fall[max(len(small) // 4 - 1, 0) :].max().clamp(0, 1))


def seams(frames: Tensor, borders: Sequence[int]) -> list[float]:
    """For each border (the first frame after it) the largest frame difference there over the median frame difference:
    about 1 without a seam, larger where windows do not fit together. ValueError on a border outside the video, or
    none."""
    if not borders or min(borders) < 1 or max(borders) >= len(frames):
        raise ValueError(f"window borders are {list(borders)}; give at least one, each from 1 to {len(frames) - 1}")
    jump = jumps(frames)
    usual = max(float(jump.median()), STILL)
    return [float(jump[max(b - 2, 0) : b + 1].max()) / usual for b in borders]


def window_borders(frames: int, window: int, stride: int = 4) -> list[int]:
    """First video frame of each window of `window` latent frames but the first. A latent frame is `stride` video
    frames, the first one alone."""
    step = stride * window
    return list(range(step - stride + 1, frames, step)) if window else []


def spread(count: int, most: int) -> list[int]:
    """At most `most` of so many frames, evenly from first to last."""
    return torch.linspace(0, count - 1, min(count, most)).round().long().unique().tolist()


def features_over_time(frames: Tensor, encode: Callable[[Tensor], Tensor], most: int) -> tuple[list[int], Tensor]:
    """Unit features [n, width] of at most `most` frames, evenly over the video, and which frames those are. encode:
    frames [n, height, width, 3] -> features [n, width]."""
    picks = spread(len(frames), most)
    found = [encode(frames[picks[i : i + CHUNK]]).float().cpu() for i in range(0, len(picks), CHUNK)]
    return picks, F.normalize(torch.cat(found), dim=-1)
