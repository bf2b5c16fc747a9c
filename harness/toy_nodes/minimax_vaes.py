"""Autoencoders with MiniMax H3's sizes and without weights: colours as they are, in 24 channels."""

import torch
from torch import Tensor

SIDE = 16  # pixels of a latent pixel
CHUNK, LATENTS, SPARE = 17, 5, 3  # video frames, latent frames of a chunk; latent frames of the last that are dropped
FIRST = (0, 1, 5, 9, 13, 17)  # first video frames of a chunk's latent frames


class ToyMiniMaxVAE:
    """As the host's: chunks of 17 frames are encoded each on its own, the last filled up with its last frame. A single
    picture is one latent frame."""

    latent_channels, latent_dim = 24, 3
    upscale_ratio = (lambda latents: max(1, (latents - 2) // LATENTS * CHUNK + 5), SIDE, SIDE)
    downscale_ratio = (lambda frames: max(1, (frames - 5) // CHUNK * LATENTS + 2) if frames > 1 else 1, SIDE, SIDE)
    colours = torch.linalg.qr(torch.randn(24, 3, generator=torch.Generator().manual_seed(0)))[0].T  # [3, 24]

    def temporal_compression_decode(self) -> int:
        return 3

    def spacial_compression_encode(self) -> int:
        return SIDE

    def encode(self, pixels: Tensor) -> Tensor:
        """[frames, height, width, 3], 0..1 -> [1, 24, latent frames, height / 16, width / 16]."""
        small = torch.nn.functional.avg_pool2d(pixels[..., :3].movedim(-1, 1), SIDE)
        if len(small) > 1:
            full = torch.cat((small, small[-1:].expand(-len(small) % CHUNK, -1, -1, -1)))
            cut = [chunk[a:b].mean(0) for chunk in full.split(CHUNK) for a, b in zip(FIRST, FIRST[1:])]
            small = torch.stack(cut[:-SPARE])
        return torch.einsum("fchw,cd->dfhw", 2 * small - 1, self.colours).unsqueeze(0)

    def decode(self, latent: Tensor) -> Tensor:
        """The other way round, each video frame as its latent frame: [1, frames, height, width, 3]."""
        frames = [FIRST[i % LATENTS + 1] - FIRST[i % LATENTS] for i in range(latent.shape[2])]
        times = torch.tensor(frames if latent.shape[2] > 1 else [1])
        colours = torch.einsum("dfhw,cd->fhwc", latent[0].float().cpu(), self.colours).repeat_interleave(times, 0)
        pixels = (colours + 1).div(2).clamp(0, 1)
        return pixels.repeat_interleave(SIDE, 1).repeat_interleave(SIDE, 2).unsqueeze(0)


class ToyMiniMaxAudioVAE:
    """Sound [1, 32, 2, n] as 800 samples a latent frame of the mean of its channels: [1, samples, 2]."""

    audio_sample_rate = 32000

    def decode(self, latent: Tensor) -> Tensor:
        return latent.float().cpu().mean(1).tanh().repeat_interleave(800, -1).movedim(1, -1)
