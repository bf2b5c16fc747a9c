"""A tiny checkpoint of LTX-2 as ComfyUI ships it: diffusion model, video VAE, audio VAE and vocoder in one file.
Import after ComfyUI is on sys.path."""

import json
from pathlib import Path

import comfy.ops
import torch
from comfy.ldm.lightricks.vae.audio_vae import AudioVAE
from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE
from safetensors.torch import save_file

from .toy import EVERY, randomize

BLOCKS = [["res_x", {"num_layers": 1}], *[["compress_all", {}]] * 3, ["res_x", {"num_layers": 1}]]
VIDEO = {
    "dims": 3,
    "latent_channels": 128,
    "blocks": BLOCKS,
    "encoder_base_channels": 8,
    "decoder_base_channels": 8,
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
}
CODER = {
    "double_z": True,
    "mel_bins": 64,
    "z_channels": 8,
    "resolution": 256,
    "in_channels": 2,
    "out_ch": 2,
    "ch": 8,
    "ch_mult": [1, 1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "mid_block_add_attention": False,
    "norm_type": "pixel",
    "causality_axis": "height",
}
AUDIO = {
    "model": {"params": {"ddconfig": CODER, "sampling_rate": 16000}},
    "preprocessing": {"stft": {"filter_length": 1024, "hop_length": 160}},
}
VOCODER = {
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3, 5]],
    "upsample_rates": [5, 4, 4, 2],
    "upsample_kernel_sizes": [15, 8, 8, 4],
    "upsample_initial_channel": 16,
}


def write_toy_ltx(name: str, path: Path, seed: int = 0) -> Path:
    """The toy `name` ("ltxav23") with autoencoders: eight frames of 32 x 32 pixels to a latent, 25 latents of sound a
    second."""
    toy = EVERY[name]
    config = {"transformer": toy.config, "vae": VIDEO, "audio_vae": AUDIO, "vocoder": VOCODER}
    operations = comfy.ops.disable_weight_init
    parts = {
        "model.diffusion_model.": toy.build(**toy.config, device="cpu", dtype=torch.float32, operations=operations),
        "vae.": VideoVAE(config=VIDEO),
        "": AudioVAE({"config": config}),
    }
    weights = {}
    for prefix, module in parts.items():
        randomize(module, seed)
        for name, buffer in module.named_buffers():
            if "per_channel_statistics" in name:
                buffer.fill_(float("std" in name))
        for key, value in module.state_dict().items():
            key = prefix + key
            if key.startswith("autoencoder."):
                key = "audio_vae." + key.removeprefix("autoencoder.")
            weights[key] = value.contiguous().clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, {"config": json.dumps(config)})
    return path
