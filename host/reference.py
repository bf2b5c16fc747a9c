"""Reference videos as Wan's 36-channel input, and conditioning that carries them."""

import comfy.conds
import comfy.latent_formats
import comfy.utils
import torch
from comfy.ldm.wan.vae import WanVAE
from torch import Tensor

from .start_image import given_mask, padded_start


def encode_reference(vae, frames: Tensor, width: int, height: int) -> Tensor:
    """[1, 36, latent frames, height / 8, width / 8]: 16 channels of the clip, 4 of mask (1 on the first frame), 16 of
    its first frame before grey.

    frames: [time, height, width, 3 or more], 0..1; stretched to size as the published pipeline does. Raises ValueError
    for another family's VAE.
    """
    if not isinstance(vae.first_stage_model, WanVAE):
        raise ValueError(
            f"vae: {type(vae.first_stage_model).__name__} is not the VAE of Wan 2.1. Load wan_2.1_vae.safetensors."
        )
    frames = comfy.utils.common_upscale(frames[..., :3].movedim(-1, 1), width, height, "lanczos", "disabled").movedim(
        1, -1
    )
    process_in = comfy.latent_formats.Wan21().process_in
    clip, condition = process_in(vae.encode(frames)), process_in(vae.encode(padded_start(frames)))
    return torch.cat((clip, given_mask(clip), condition), dim=1)


def carrying(conditioning: list, latents: dict[str, Tensor], tensors: dict[str, Tensor]) -> list:
    """The conditioning with model inputs attached. Context windows leave `latents` whole, whatever their length."""
    conds = {name: comfy.conds.CONDList([value]) for name, value in latents.items()} | {
        name: comfy.conds.CONDRegular(value) for name, value in tensors.items()
    }
    return [[text, {**extra, "model_conds": {**extra.get("model_conds", {}), **conds}}] for text, extra in conditioning]
