"""An expert of Video-As-Prompt (arXiv 2510.20888) from the backbone's own weights, by flow matching (flow_matching.py)
on (reference, target) pairs.

As published: every tensor of the expert starts as a copy of its backbone twin, only the expert learns, the reference is
clean and told timestep 1, and both captions are dropped together. What is trained is VAP Apply on the host's model, so
what is trained is what is sampled.
"""

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import comfy.model_management
import comfy.sd
import torch
from torch import Tensor

from ..host.frozen_model import model_conds, vision_output
from ..host.reference import carrying
from ..host.weights import Checkpoint, save_weights
from ..kernels.video_prompt import IMAGE, LATENT, TEXT
from ..patches.video_prompt import VideoPrompt, apply
from ..patches.video_prompt_expert import load_expert
from ..patches.video_prompt_keys import HEAD, used_keys
from .flow_matching import Batch, losses
from .loop import LossOf
from .plan import Plan, random_at

CAPTION_DROPOUT = 0.05
PARTS = (16, 4, 16)  # channels of `encode_reference`: the video, the mask of what is given, its first frame before grey

# A batch, each pair a dict: target, reference [36, time, height, width] (`encode_reference`), text, reference_text
# [tokens, width], for backbones with an image branch image, reference_image [tokens, width], and where objects are
# known, cover [1, time, height, width] of the target's.
Draw = Callable[[Random], list[dict[str, Tensor]]]


def start_expert(backbone: Path, layers: tuple[int, ...], path: Path) -> None:
    """Writes the expert that training starts from: the backbone's embeddings and its blocks `layers`, trimmed. Raises
    ValueError for blocks it does not have, and for a backbone that takes no image."""
    checkpoint = Checkpoint(backbone)
    blocks = {int(match[1]) for key in checkpoint.keys if (match := re.match(r"blocks\.(\d+)\.", key))}
    if not layers or list(layers) != sorted(set(layers)) or not blocks.issuperset(layers):
        raise ValueError(
            f"layers {', '.join(map(str, layers))}: name ascending blocks of {backbone.name}, which has 0 to "
            f"{max(blocks, default=-1)}."
        )
    names = {key: key for key in checkpoint.keys if not key.startswith("blocks.") and key not in HEAD}
    names |= {
        key: re.sub(r"^blocks\.\d+", f"blocks.{i}", key)
        for i, layer in enumerate(layers)
        for key in checkpoint.keys
        if key.startswith(f"blocks.{layer}.")
    }
    wanted = set(used_keys(names.values()))
    weights = checkpoint.read({key: name for key, name in names.items() if name in wanted})
    if weights["patch_embedding.weight"].shape[1] != 36:
        raise ValueError(
            f"{backbone.name}: not an image-to-video model of 36 input channels. Video-As-Prompt needs one."
        )
    save_weights(weights, path, checkpoint.metadata | {"layers": ",".join(map(str, layers))})


def load_pair(backbone: Path, start: Path) -> tuple[object, torch.nn.Module]:
    """(MODEL that follows references, the expert in it): float32, only the expert wants gradients."""
    options, device = {"dtype": torch.float32}, comfy.model_management.get_torch_device()
    model = comfy.sd.load_diffusion_model(str(backbone), model_options=options)
    expert = load_expert(start, options)
    model.model.diffusion_model.requires_grad_(False).to(device)
    expert.model.diffusion_model.requires_grad_(True).to(device)
    return apply(model, expert, VideoPrompt()), expert.model.diffusion_model


def pair_conds(model, pair: dict[str, Tensor]) -> dict:
    """Conds of one pair, of the very conditioning that WanImageToVideo and VAP Reference make of it."""
    pair = {name: value[None] for name, value in pair.items()}
    latent, mask, image = pair["target"].split(PARTS, 1)
    start = {"concat_latent_image": model.model.process_latent_out(image), "concat_mask": 1 - mask}
    if "image" in pair:
        start["clip_vision_output"] = vision_output(pair["image"])
    tensors = {TEXT: pair["reference_text"]}
    if "reference_image" in pair:
        tensors[IMAGE] = pair["reference_image"]
    [[text, extra]] = carrying([[pair["text"], start]], {LATENT: pair["reference"]}, tensors)
    return model_conds(model, latent, text, extra)


def batch_of(model, pairs: list[dict[str, Tensor]]) -> Batch:
    """Of pairs as `Draw` gives them."""
    device = model.load_device
    latents = torch.stack([pair["target"][: PARTS[0]] for pair in pairs]).to(device)
    cover = torch.stack([pair["cover"] for pair in pairs]).to(device) if "cover" in pairs[0] else None
    return Batch(latents, [pair_conds(model, pair) for pair in pairs], cover)


def make_loss(model, draw: Draw, plan: Plan, dtype: torch.dtype | None = torch.bfloat16) -> LossOf:
    """loss_of(step, progress) of `train`. model: of `load_pair`; dtype: of autocast, None for none."""

    def loss_of(step: int, done: float) -> dict[str, Tensor]:
        comfy.model_management.throw_exception_if_processing_interrupted()
        rng = random_at(plan.seed, step, 13)
        batch = batch_of(model, draw(rng))
        return losses(model, batch, rng.getrandbits(60), dtype)

    return loss_of


def export(weights: dict[str, Tensor], start: Path, path: Path, metadata: dict[str, str]) -> None:
    """bfloat16 matrices for the VAP Expert Loader, with the facts that the file training started from holds."""
    about = {key: value for key, value in Checkpoint(start).metadata.items() if key in ("layers", "config")}
    small = {key: value.bfloat16() if value.ndim > 1 else value.float() for key, value in weights.items()}
    save_weights(small, path, about | metadata)
