"""Long videos through a video VAE, a part at a time, so that memory does not grow with their length."""

from collections.abc import Callable
from math import ceil

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

LEAD = 4  # latent frames encoded ahead of a part and dropped: its first latent is made as that of a video (our choice)
PIXELS_AT_ONCE = 2**25  # of a part, 84 frames of 832x480; 403 MB as float32 RGB (our choice)
OVERLAP = 64  # pixels that tiles share, as in ComfyUI's own nodes


def strides(vae) -> tuple[int, int]:
    """(video frames of a latent frame, pixels of a latent pixel per side). Raises ValueError for VAEs of pictures."""
    time = vae.temporal_compression_decode()
    if vae.latent_dim != 3 or not time:
        raise ValueError("vae: is one of pictures, not of videos. Load the VAE of your video model.")
    return time, vae.spacial_compression_encode()


def parts(latents: int, at_once: int) -> list[tuple[int, int, int]]:
    """(first latent frame encoded, first kept, one past the last) of each part of `at_once` latent frames."""
    starts = range(0, latents, at_once)
    return [(max(0, start - LEAD), start, min(start + at_once, latents)) for start in starts]


def encode_video(vae, frames: Callable[[int, int], Tensor], latents: int, pixels: int, tile: int = 0) -> Tensor:
    """[1, channels, latents, height, width] of a video of `latents` latent frames.

    frames(start, end): its frames `start` to before `end`, [end - start, height, width, 3], 0..1. pixels: what a frame
    of it takes to make. tile: side of tiles in pixels, 0 for whole frames. A video of one part is encoded as VAE Encode
    does it.
    """
    stride, _ = strides(vae)
    at_once = max(PIXELS_AT_ONCE // (pixels * stride) - LEAD, LEAD)
    progress = comfy.utils.ProgressBar(ceil(latents / at_once))
    kept = []
    for lead, start, end in parts(latents, at_once):
        comfy.model_management.throw_exception_if_processing_interrupted()
        part = frames(stride * lead, stride * (end - 1) + 1)
        encoded = vae.encode_tiled(part, tile, tile, min(OVERLAP, tile // 4)) if tile else vae.encode(part)
        kept.append(encoded[:, :, start - lead :])
        progress.update(1)
    return torch.cat(kept, dim=2)
