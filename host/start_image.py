"""What image-to-video models are shown beside the noise: the video's first frame followed by grey, and a mask of what
is given (Wan 2.1, arXiv 2503.20314; grey as in ComfyUI's WanImageToVideo)."""

import torch
from torch import Tensor

GREY = 0.5  # of pictures of 0..1


def padded_start(frames: Tensor, grey: float = GREY, time: int = 0) -> Tensor:
    """`frames` with its first frame as it is and all others grey. time: the axis of frames; grey: 0.0 for pictures of
    -1..1."""
    padded = torch.full_like(frames, grey)
    padded.narrow(time, 0, 1).copy_(frames.narrow(time, 0, 1))
    return padded


def given_mask(latents: Tensor, channels: int = 4) -> Tensor:
    """[batch, channels, frames, height, width] for latents of [batch, any, frames, height, width]: 1 on the first
    frame, which is given, else 0."""
    mask = torch.zeros_like(latents[:, :1]).repeat(1, channels, 1, 1, 1)
    mask[:, :, 0] = 1
    return mask
