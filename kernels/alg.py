"""ALG, adaptive low-pass guidance: the model first sees a blurred start image, so its details do not hold the video.

Low-pass = smaller by `factor` and back to size, bilinear and antialiased both ways, each frame and channel alone.
The published guidance (arXiv 2506.08456, CVPR 2026) of those steps has three branches,

    uncond(sharp) + s * (cond(blurred) - uncond(blurred)),

and in a single pass (HunyuanVideo, CFG 1) just cond(blurred). With

    cond' = uncond(sharp) + cond(blurred) - uncond(blurred)

ordinary guidance, uncond(sharp) + s * (cond' - uncond(sharp)), is the published one at every s: `three_branch`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .steps import step_sigma

FACTORS = {"wan": 0.4, "hunyuan": 0.625}
# Published as parts of step / (steps - 1), of 50 steps: [0, 0.20] at shift 5 (Wan 2.1 I2V 14B) are steps 0 to 9,
# [0, 0.04] at shift 7 (HunyuanVideo-I2V) steps 0 and 1. Each ends where the next step begins.
MIN_SIGMAS = {"wan": step_sigma(10, 50, shift=5.0), "hunyuan": step_sigma(2, 50, shift=7.0)}


def factor_at(factor: float, strength: float) -> float:
    """The published code's own strength: 0 no blur, 1 all of it, between them a factor nearer to 1."""
    return 1.0 - (1.0 - factor) * strength


def low_pass(x: Tensor, factor: float) -> Tensor:
    """x: [batch, channels, frames, height, width]. factor: 0..1, of height and width; 1 returns `x` itself."""
    if factor == 1.0:
        return x
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return _there_and_back(_there_and_back(wide, -1, factor), -2, factor).to(x.dtype)


def _there_and_back(x: Tensor, axis: int, factor: float) -> Tensor:
    """One axis at a time, as the last: on images one pixel wide torch 2.13 repeats the first row for all (on a CPU)."""
    moved = x.movedim(axis, -1)
    lines = moved.reshape(-1, 1, 1, moved.shape[-1])
    for size in (max(1, round(lines.shape[-1] * factor)), lines.shape[-1]):
        lines = F.interpolate(lines, size=(1, size), mode="bilinear", align_corners=False, antialias=True)
    return lines.reshape(moved.shape).movedim(-1, axis)


def three_branch(cond_blurred: Tensor, uncond_blurred: Tensor, uncond_sharp: Tensor) -> Tensor:
    """The conditional prediction under which ordinary guidance against `uncond_sharp` is the published one."""
    return uncond_sharp + cond_blurred - uncond_blurred
