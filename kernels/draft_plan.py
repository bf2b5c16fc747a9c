"""Draft Plan: a short or small video as the start of a long render.

    frame i of N lies at i (F - 1) / (N - 1) of the draft's F frames: first on first, last on last
    the render starts from x = (1 - sigma) z + sigma eps, z the latents of the draft at the render's length and size
    growth r, per side, of the frame:  sigma' = r sigma / (1 + (r - 1) sigma)

Drafts are resized as pixels, as FreeSwim (arXiv 2511.14712) and LongCat-Video's refiner do, never as latents: those
smear, and their first frame is special. sigma' keeps the freedom that sigma leaves at the draft's own size: the shift
for larger frames of arXiv 2403.03206, eq. 23; to use it here is our choice. The sampler adds the noise.

Videos are [frames, height, width, channels].
"""

from math import sqrt
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .flow_matching import shifted

InBetween = Literal["blend", "nearest"]
Fit = Literal["crop", "stretch"]


def frame_positions(frames: int, length: int) -> Tensor:
    """[length] float64: where in `frames` frames those of a video of `length` frames lie; 0 is the first frame."""
    steps = max(length - 1, 1)
    return torch.arange(length, dtype=torch.float64) * (frames - 1) / steps


def retimed(
    video: Tensor, length: int, in_between: InBetween = "blend", start: int = 0, end: int | None = None
) -> Tensor:
    """`video` at `length` frames, as float32; of these only those from `start` on and before `end`.

    blend: between two frames both show, by their nearness. nearest: frames are repeated or left out.
    """
    at = frame_positions(len(video), length)[start:end]
    if in_between == "nearest":
        return video[(at + 0.5).long().to(video.device)].float()
    before = at.long()
    after = (before + 1).clamp(max=len(video) - 1).to(video.device)
    weight = (at - before).float().view(-1, 1, 1, 1).to(video.device)
    return torch.lerp(video[before.to(video.device)].float(), video[after].float(), weight)


def crop_size(height: int, width: int, to_height: int, to_width: int) -> tuple[int, int]:
    """(height, width), at least 1, of the largest part of a frame that has the shape of to_height x to_width."""
    fits_width = min(width, max(1, round(height * to_width / to_height)))
    fits_height = min(height, max(1, round(width * to_height / to_width)))
    return fits_height, fits_width


def growth(height: int, width: int, to_height: int, to_width: int, fit: Fit = "crop") -> float:
    """How many times longer the sides of a frame become; 1 for frames that do not grow."""
    if fit == "crop":
        height, width = crop_size(height, width, to_height, to_width)
    return max(1.0, sqrt(to_height * to_width / (height * width)))


def resized(video: Tensor, height: int, width: int, fit: Fit = "crop") -> Tensor:
    """`video` at this size, bilinear and without aliasing. crop: the middle is kept and nothing is stretched."""
    if fit == "crop":
        kept_height, kept_width = crop_size(*video.shape[1:3], height, width)
        top, left = (video.shape[1] - kept_height) // 2, (video.shape[2] - kept_width) // 2
        video = video[:, top : top + kept_height, left : left + kept_width]
    if video.shape[1:3] == (height, width):
        return video
    pixels = F.interpolate(video.movedim(-1, 1), (height, width), mode="bilinear", antialias=True)
    return pixels.movedim(1, -1)


def grown_sigma(sigma: float, growth: float) -> float:
    """sigma' of a frame whose sides grow `growth` times."""
    return shifted(sigma, growth)


def kept(video: Tensor, start: int, end: int) -> Tensor:
    """Frames `start` to before `end` alone."""
    return video[start:end]


def removed(video: Tensor, start: int, end: int) -> Tensor:
    """All but these frames."""
    return torch.cat((video[:start], video[end:]))


def span_retimed(video: Tensor, start: int, end: int, length: int, in_between: InBetween = "blend") -> Tensor:
    """The frames `start` to before `end` take `length` frames; those around them stay."""
    return torch.cat((video[:start], retimed(video[start:end], length, in_between).to(video), video[end:]))


def held(video: Tensor, frame: int, length: int) -> Tensor:
    """Frame number `frame` stands for `length` frames; those around it stay."""
    return torch.cat((video[:frame], video[frame : frame + 1].expand(length, -1, -1, -1), video[frame + 1 :]))


def joined(first: Tensor, then: Tensor, crossfade: int = 0) -> Tensor:
    """`then` behind `first`, the last `crossfade` frames of which fade into its first ones: 1 / (crossfade + 1) of
    `then`, 2 / (crossfade + 1), ..."""
    weight = torch.arange(1, crossfade + 1, device=first.device).view(-1, 1, 1, 1).to(first) / (crossfade + 1)
    stay = len(first) - crossfade
    return torch.cat((first[:stay], torch.lerp(first[stay:], then[:crossfade].to(first), weight), then[crossfade:]))
