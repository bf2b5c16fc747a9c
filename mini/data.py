"""Batches of rendered scenes, a pure function of (seed, step), so that a resumed run goes on with new ones."""

from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from ..host.start_image import padded_start
from ..miniworld.render import Clips, render
from ..miniworld.scene import NOMINAL_FRAMES, Scene, sample_scene


def draw_scenes(rng: Random, count: int, split: str = "train", two: float = 0.5) -> list[Scene]:
    """`count` scenes, a share of `two` of which has two objects."""
    return [sample_scene(rng, split, 2 if rng.random() < two else 1) for _ in range(count)]


@dataclass(frozen=True)
class VideoBatch:
    """video [batch, 3, time, side, side], -1..1; weight [batch, 1, time, side, side], how much a pixel counts."""

    video: Tensor
    weight: Tensor


def video_batch(
    rng: Random,
    count: int,
    frames: int,
    side: int = 64,
    objects_weight: float = 6.0,
    edges_weight: float = 8.0,
    padded: float = 0.08,
) -> VideoBatch:
    """Windows of rendered scenes that start where a latent frame does. side below 64 crops around an object, which
    shows the VAE more edges per second. Objects count more than the background, and their edges, which say their shape,
    most. A share of `padded` goes gray after the first frame, as the image-to-video node pads its start image."""
    clips = render(draw_scenes(rng, count))
    start = 4 * rng.randrange((NOMINAL_FRAMES - frames) // 4 + 1)
    frames_, masks = (
        clips.frames[:, start : start + frames].movedim(-1, 1),
        clips.masks[:, :, start : start + frames].amax(1, keepdim=True),
    )
    if side < 64:
        corners = [_corner(rng, clips, i, start + frames // 2, side) for i in range(count)]
        frames_, masks = (
            torch.stack([x[i, ..., y : y + side, z : z + side] for i, (y, z) in enumerate(corners)])
            for x in (frames_, masks)
        )
    frames_ = frames_.clone()
    for i in range(count):
        if rng.random() < padded:
            frames_[i] = padded_start(frames_[i], time=1)
    near, inner = (sign * F.max_pool3d(sign * masks, (1, 3, 3), 1, (0, 1, 1)) for sign in (1, -1))
    return VideoBatch(
        (frames_ * 2 - 1).contiguous(memory_format=torch.channels_last_3d),
        1 + objects_weight * near + edges_weight * (near - inner),
    )


def _corner(rng: Random, clips: Clips, i: int, frame: int, side: int) -> tuple[int, int]:
    """Top and left of a crop that shows part of a random object of video i."""
    seen = [k for k in range(clips.radius.shape[1]) if clips.radius[i, k, frame] > 0]
    x, y = clips.centres[i, rng.choice(seen), frame].tolist()
    return tuple(min(max(round(v * 64 - side / 2 + rng.uniform(-0.3, 0.3) * side), 0), 64 - side) for v in (y, x))
