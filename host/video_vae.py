"""Long videos through a video VAE, a part at a time, so that memory does not grow with their length."""

from collections.abc import Callable
from dataclasses import dataclass

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

LEAD = 4  # latent frames encoded ahead of a part and dropped: its first latent is made as that of a video (our choice)
PIXELS_AT_ONCE = 2**25  # of a part, 84 frames of 832x480; 403 MB as float32 RGB (our choice)
OVERLAP = 64  # pixels that tiles share, as in ComfyUI's own nodes


@dataclass(frozen=True)
class Rhythm:
    """Videos that a VAE makes: `frames` n + `rest` video frames are `latents` n + `least` latent frames. Wan: 4 n + 1
    and n + 1; LTX: 8 n + 1 and n + 1; MiniMax H3, chunk by chunk: 17 n + 5 and 5 n + 2."""

    frames: int
    rest: int = 1
    latents: int = 1
    least: int = 1

    def accepts(self, length: int) -> bool:
        return length >= self.rest and (length - self.rest) % self.frames == 0

    def nearest(self, length: int) -> int:
        """The longest video that is no longer, or the shortest of all."""
        return max(length - self.rest, 0) // self.frames * self.frames + self.rest

    def latents_of(self, length: int) -> int:
        return (length - self.rest) // self.frames * self.latents + self.least

    def length_of(self, latents: int) -> int:
        return (latents - self.least) // self.latents * self.frames + self.rest

    def __str__(self) -> str:
        return f"{self.frames} n + {self.rest}"


def rhythm_of(vae) -> Rhythm:
    """Raises ValueError for VAEs of pictures."""
    time = vae.temporal_compression_decode()
    if vae.latent_dim != 3 or not time:
        raise ValueError("vae: is one of pictures, not of videos. Load the VAE of your video model.")
    frames_of, latents_of = (getattr(vae, f"{way}_ratio", (None,))[0] for way in ("upscale", "downscale"))
    if frames_of is None or latents_of(frames_of(3)) == 3:
        return Rhythm(time)
    first, second = [n for n in range(2, 64) if latents_of(frames_of(n)) == n][:2]  # 1 is a picture
    return Rhythm(frames_of(second) - frames_of(first), frames_of(first), second - first, first)


def parts(latents: int, at_once: int) -> list[tuple[int, int, int]]:
    """(first latent frame encoded, first kept, one past the last) of each part of `at_once` latent frames."""
    starts = range(0, latents, at_once)
    return [(max(0, start - LEAD), start, min(start + at_once, latents)) for start in starts]


def chunk_parts(rhythm: Rhythm, latents: int, at_once: int) -> list[tuple[int, int, int, int]]:
    """(first video frame, one past the last, first latent frame, one past the last) of each part of at most `at_once`
    chunks that a VAE encodes each on its own. The latent frames that the chunk behind a part begins with are encoded
    along and dropped."""
    whole = (latents - rhythm.least) // rhythm.latents
    found = []
    for start in range(0, max(whole, 1), at_once):
        end = min(start + at_once, whole)
        last = latents if end == whole else end * rhythm.latents
        found.append((start * rhythm.frames, end * rhythm.frames + rhythm.rest, start * rhythm.latents, last))
    return found


def encode_video(vae, frames: Callable[[int, int], Tensor], latents: int, pixels: int, tile: int = 0) -> Tensor:
    """[1, channels, latents, height, width] of a video of `latents` latent frames.

    frames(start, end): its frames `start` to before `end`, [end - start, height, width, 3], 0..1. pixels: what a frame
    of it takes to make. tile: side of tiles in pixels, 0 for whole frames. A video of one part is encoded as VAE Encode
    does it.
    """
    rhythm = rhythm_of(vae)
    stride = rhythm.frames
    if rhythm.latents > 1:
        found = chunk_parts(rhythm, latents, max((PIXELS_AT_ONCE // pixels - rhythm.rest) // stride, 1))
    else:
        at_once = max(PIXELS_AT_ONCE // (pixels * stride) - LEAD, LEAD)
        found = [
            (stride * lead, stride * (end - 1) + 1, start, end, start - lead)
            for lead, start, end in parts(latents, at_once)
        ]
    progress = comfy.utils.ProgressBar(len(found))
    kept = []
    for first, past, start, end, *ahead in found:
        comfy.model_management.throw_exception_if_processing_interrupted()
        part = frames(first, past)
        encoded = vae.encode_tiled(part, tile, tile, min(OVERLAP, tile // 4)) if tile else vae.encode(part)
        skipped = sum(ahead)
        kept.append(encoded[:, :, skipped : skipped + end - start])
        progress.update(1)
    return torch.cat(kept, dim=2)
