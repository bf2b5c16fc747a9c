"""Tiny models with random weights, saved as files that ComfyUI's own loaders read. Import after ComfyUI is on
sys.path."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import comfy.ops
import torch
from comfy.ldm.hunyuan_video.model import HunyuanVideo
from comfy.ldm.wan.model import CameraWanModel, VaceWanModel, WanModel
from comfy.ldm.wan.vae import WanVAE
from safetensors.torch import save_file

from ..kernels.ssg_adapter import SSGAdapter
from ..kernels.ssg_spec import Spec
from .newer_toys import TEXT_DIM, newer_toys

WAN = dict(dim=48, ffn_dim=96, num_heads=2, num_layers=4, text_dim=TEXT_DIM, freq_dim=256, in_dim=16, out_dim=16)
HUNYUAN = dict(
    in_channels=16,
    out_channels=16,
    vec_in_dim=768,
    context_in_dim=TEXT_DIM,
    hidden_size=128,
    mlp_ratio=4.0,
    num_heads=1,
    depth=2,
    depth_single_blocks=3,
    axes_dim=[16, 56, 56],
    theta=256,
    patch_size=[1, 2, 2],
    qkv_bias=True,
    guidance_embed=True,
    byt5=False,
    meanflow=False,
    use_cond_type_embedding=False,
    vision_in_dim=None,
    meanflow_sum=False,
)


@dataclass(frozen=True)
class Toy:
    """channels: of the latent; conds: extra conditioning its runs carry (see sampling.py). sound: shape of the latent
    made along, but for its batch and length; text: width of the prompt's features."""

    build: type
    config: dict = field(hash=False)
    channels: int = 16
    conds: tuple[str, ...] = ()
    sound: tuple[int, ...] = ()
    text: int = TEXT_DIM


TOYS = {
    "wan-t2v": Toy(WanModel, WAN),
    "wan-i2v": Toy(WanModel, WAN | {"in_dim": 36}, conds=("concat",)),
    "wan-i2v-clip": Toy(WanModel, WAN | {"in_dim": 36, "model_type": "i2v"}, conds=("concat", "clip_vision")),
    "wan-5b": Toy(WanModel, WAN | {"in_dim": 48, "out_dim": 48}, channels=48, conds=("first_frame",)),
    "wan-vace": Toy(VaceWanModel, WAN | {"model_type": "vace", "vace_layers": 2, "vace_in_dim": 96}, conds=("vace",)),
    "wan-camera": Toy(
        CameraWanModel,
        WAN | {"in_dim": 32, "model_type": "camera", "in_dim_control_adapter": 24},
        conds=("camera", "clip_vision"),
    ),
    "wan-reference": Toy(WanModel, WAN | {"in_dim": 36, "in_dim_ref_conv": 16}, conds=("reference",)),
    "wan-phantom": Toy(WanModel, WAN, conds=("time_dim_concat",)),
    "wan-in-context": Toy(WanModel, WAN, conds=("context_latents",)),
    "hunyuan-t2v": Toy(HunyuanVideo, HUNYUAN),
    "hunyuan-i2v": Toy(HunyuanVideo, HUNYUAN, conds=("guiding_frame", "ref_latent")),
    "hunyuan-1.5": Toy(
        HunyuanVideo,
        HUNYUAN
        | dict(
            in_channels=65,
            out_channels=32,
            vec_in_dim=None,
            depth=4,
            depth_single_blocks=0,
            patch_size=[1, 1, 1],
            guidance_embed=False,
            byt5=True,
            use_cond_type_embedding=True,
            vision_in_dim=1152,
            meanflow_sum=True,
        ),
        channels=32,
        conds=("siglip", "byt5"),
    ),
}
NEWER = {name: Toy(**fields) for name, fields in newer_toys().items()}  # MiniMax H3, LTX
EVERY = TOYS | NEWER
STRAIGHT = ("wan-t2v", "wan-i2v-clip", "hunyuan-t2v", "hunyuan-1.5")  # one of each kind of attention


@torch.no_grad()
def randomize(module: torch.nn.Module, seed: int = 0) -> None:
    """Weights under which every part of the module matters: 1 / sqrt(fan in), norms near 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in module.named_buffers():
        if name.endswith("inv_freq"):
            buffer.copy_(1e4 ** (-torch.arange(len(buffer)) / len(buffer)))
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            noise *= parameter[0].numel() ** -0.5 if "modulation" not in name else 0.5
        elif name.endswith(("weight", "gamma", "scale")):
            noise = 1 + 0.1 * noise
        else:
            noise *= 0.1
        parameter.copy_(noise)


def write_toy(name: str, path: Path, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """Saves the toy as a diffusion model file with the metadata ComfyUI needs to read it."""
    toy = EVERY[name]
    module = toy.build(**toy.config, device="cpu", dtype=torch.float32, operations=comfy.ops.disable_weight_init)
    randomize(module, seed)
    weights = {
        key: value.to(dtype if value.ndim > 1 else torch.float32).contiguous()
        for key, value in module.state_dict().items()
    }
    told = toy.config if name.startswith("ltx") else {"num_heads", "text_dim"} & toy.config.keys()
    transformer = {name: toy.config[name] for name in told}
    save_file(weights, path, {"config": json.dumps({"transformer": transformer})})
    return path


def write_toy_expert(path: Path, seed: int = 1) -> Path:
    """A Video-As-Prompt expert beside the toy "wan-i2v-clip", on its blocks 0 and 2."""
    config = TOYS["wan-i2v-clip"].config | {"num_layers": 2}
    module = WanModel(**config, device="cpu", dtype=torch.float32, operations=comfy.ops.disable_weight_init)
    randomize(module, seed)
    weights = {key: value.contiguous() for key, value in module.state_dict().items() if not key.startswith("head.")}
    save_file(
        weights,
        path,
        {
            "layers": "0,2",
            "config": json.dumps({"transformer": {"num_heads": config["num_heads"], "text_dim": TEXT_DIM}}),
        },
    )
    return path


# diffusers' names
OUTSIDE_BLOCKS = {
    "patch_embedding.": "patch_embedding_mot_ref.",
    "text_embedding.0.": "condition_embedder_mot_ref.text_embedder.linear_1.",
    "text_embedding.2.": "condition_embedder_mot_ref.text_embedder.linear_2.",
    "time_embedding.0.": "condition_embedder_mot_ref.time_embedder.linear_1.",
    "time_embedding.2.": "condition_embedder_mot_ref.time_embedder.linear_2.",
    "time_projection.1.": "condition_embedder_mot_ref.time_proj.",
    "img_emb.proj.0.": "condition_embedder_mot_ref.image_embedder.norm1.",
    "img_emb.proj.1.": "condition_embedder_mot_ref.image_embedder.ff.net.0.proj.",
    "img_emb.proj.3.": "condition_embedder_mot_ref.image_embedder.ff.net.2.",
    "img_emb.proj.4.": "condition_embedder_mot_ref.image_embedder.norm2.",
}


def diffusers_expert(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of `write_toy_expert` as a diffusers checkpoint marks them, on its blocks 0 and 2."""
    named = {}
    for key, value in tensors.items():
        if key.startswith("blocks."):
            _, block, part, *rest = key.split(".")
            key = ".".join(("blocks", str(2 * int(block)), f"{part}_mot_ref", *rest))
        for host, diffusers in OUTSIDE_BLOCKS.items():
            key = diffusers + key.removeprefix(host) if key.startswith(host) else key
        named[key] = value
    return named


def widths(config: dict) -> tuple[int, int]:
    """Channels of what its attention returns for a token, and heads."""
    if "attention_head_dim" in config:
        return config["attention_head_dim"] * config["num_attention_heads"], config["num_attention_heads"]
    return config["dim"] if "dim" in config else config["hidden_size"], config["num_heads"]


def write_toy_adapter(path: Path, name: str = "wan-t2v", seed: int = 2, **changes) -> Path:
    """An SSG Adapter for the toy, as if trained, on features like ViT-H's."""
    config = EVERY[name].config
    width, heads = widths(config)
    spec = Spec(
        **{
            "family": {"h3": "minimax", "lt": "ltx", "wa": "wan", "hu": "hunyuan"}[name[:2]],
            "width": width,
            "heads": heads,
            "blocks": (0, 3),
            "rank": 4,
            "token_width": 16,
        }
        | changes
    )
    adapter = SSGAdapter(spec)
    randomize(adapter, seed)
    save_file(adapter.state_dict(), path, spec.metadata)
    return path


def write_toy_lora(path: Path, rank: int = 2, seed: int = 3) -> Path:
    """A LoRA for the prompt's keys of a toy Wan's first block."""
    generator = torch.Generator().manual_seed(seed)
    name, width = "diffusion_model.blocks.0.cross_attn.k", WAN["dim"]
    weights = {
        f"{name}.lora_A.weight": torch.randn(rank, width, generator=generator) / width**0.5,
        f"{name}.lora_B.weight": torch.randn(width, rank, generator=generator) / rank**0.5,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    return path


def write_toy_vae(path: Path, dim: int = 8, seed: int = 0) -> Path:
    """A Wan 2.1 VAE of width `dim`."""
    module = WanVAE(
        dim=dim,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
    )
    randomize(module, seed)
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
    return path
