"""An expert of Video-As-Prompt (arXiv 2510.20888) from the backbone's own weights, by flow matching on (reference,
target) pairs.

    x_s  = (1 - s) x0 + s eps
    loss = mean(w |f(x_s, 1000 s, text | reference, its text) - (eps - x0)|^2)        as in flow_matching.py

As published: every tensor of the expert starts as a copy of its backbone twin, only the expert learns, the reference is
clean and told timestep 1, and both captions are dropped together. f is VAP Apply on the host's model: what is trained
is what is sampled.
"""

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import comfy.model_management
import comfy.sd
import torch
from torch import Tensor

from ..host.weights import Checkpoint, save_weights
from ..kernels.video_prompt import IMAGE, LATENT, TEXT
from ..patches.video_prompt import VideoPrompt, apply
from ..patches.video_prompt_expert import load_expert
from ..patches.video_prompt_keys import HEAD, used_keys
from .flow_matching import losses_of, shifted
from .loop import Plan, random_at

CAPTION_DROPOUT = 0.05


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
    model, expert = comfy.sd.load_diffusion_model(str(backbone), model_options=options), load_expert(start, options)
    model.model.diffusion_model.requires_grad_(False).to(device)
    return apply(model, expert, VideoPrompt()), expert.model.diffusion_model.requires_grad_(True).to(device)


def velocity(
    model,
    x: Tensor,
    timestep: Tensor,
    text: Tensor,
    reference: Tensor,
    reference_text: Tensor,
    image: Tensor | None = None,
    reference_image: Tensor | None = None,
) -> Tensor:
    """What a patched MODEL predicts for x [batch, 36, time, height, width] at timestep [batch], 0 .. 1000, in one call
    as the sampler makes it. image, reference_image: CLIP vision features, for backbones with an image branch."""
    options = {**model.model_options["transformer_options"], "wrappers": model.wrappers}
    conds = {LATENT: [reference], TEXT: reference_text} | ({} if reference_image is None else {IMAGE: reference_image})
    return model.model.diffusion_model(x, timestep, text, image, transformer_options=options, **conds)


def make_loss(model, draw: Callable[[Random], dict[str, Tensor]], plan: Plan):
    """loss_of(step, progress) of `train`. draw(rng) gives a batch: target, reference [batch, 36, time, height, width],
    text, reference_text [batch, tokens, width], optionally cover [batch, 1, time, height, width], where an object is,
    and image, reference_image."""

    def loss_of(step: int, done: float) -> dict[str, Tensor]:
        rng = random_at(plan.seed, step, 13)
        batch = draw(rng)
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        x0, given = batch["target"].split((16, 20), 1)
        noise = torch.randn(x0.shape, generator=generator).to(x0)
        u = (torch.arange(len(x0)) + torch.rand(len(x0), generator=generator)) / len(x0)  # stratified
        s = shifted(u).view(-1, 1, 1, 1, 1).to(x0)
        x = torch.cat((torch.lerp(x0, noise, s), given), 1)
        with torch.autocast(x.device.type, torch.bfloat16):
            predicted = velocity(
                model,
                x,
                s.flatten() * 1000,
                batch["text"],
                batch["reference"],
                batch["reference_text"],
                batch.get("image"),
                batch.get("reference_image"),
            )
        error = (predicted.float() - (noise - x0)).square().mean(1, keepdim=True)
        return losses_of(error, s, batch["cover"]) if "cover" in batch else {"loss": error.mean()}

    return loss_of


def export(weights: dict[str, Tensor], start: Path, path: Path, metadata: dict[str, str]) -> None:
    """bfloat16 matrices for the VAP Expert Loader, with the facts that the file training started from holds."""
    about = {key: value for key, value in Checkpoint(start).metadata.items() if key in ("layers", "config")}
    save_weights({k: v.bfloat16() if v.ndim > 1 else v.float() for k, v in weights.items()}, path, about | metadata)
