"""A SemVidCLIP of ComfyUI's own CLIP_VISION and CLIP, put together without a second copy."""

import comfy.clip_model
import torch
from torch import Tensor, nn

from .clip import SemVidCLIP
from .clip_vocabulary import clip_words


def join_clip(clip_vision, clip) -> SemVidCLIP:
    """SEMVID_CLIP of ComfyUI's own CLIP_VISION and CLIP, which keep the weights. Raises ValueError where the two are no
    pair."""
    model, kind = clip_vision.model, getattr(clip_vision, "model_type", "unknown")
    if kind != "clip_vision_model" or not isinstance(model, comfy.clip_model.CLIPVisionModelProjection):
        raise ValueError(
            f"clip_vision: a {kind} has no class token that was trained against text. Load a CLIP, such as "
            "clip_vision_l or clip_vision_h."
        )
    if not isinstance(model.visual_projection, nn.Linear) or not trained(model.visual_projection.weight):
        raise ValueError(
            "clip_vision: this file holds no projection into the space of the text. Load one that does, such as "
            "OpenAI's whole ViT-L-14."
        )
    dim = model.visual_projection.weight.shape[0]
    towers = {
        name: tower.transformer
        for name in ("clip_l", "clip_h", "clip_g")
        if (tower := getattr(clip.cond_stage_model, name, None)) is not None
    }
    if not towers:
        raise ValueError(
            f"clip: {type(clip.cond_stage_model).__name__} has no CLIP text tower. Load clip_l.safetensors with Load "
            "CLIP, type stable_diffusion."
        )
    fitting = [tower for tower in towers.values() if tower.text_projection.weight.shape[0] == dim]
    if not fitting:
        sizes = ", ".join(f"{name} {tower.text_projection.weight.shape[0]}" for name, tower in towers.items())
        raise ValueError(
            f"clip: no text tower fits clip_vision, whose joint space has {dim} dimensions ({sizes}). clip_l belongs "
            "to ViT-L-14 (768), clip_g to bigG (1280); for Wan's clip_vision_h (1024) use CLIP Loader with a whole "
            "ViT-H-14."
        )
    if not trained(fitting[0].text_projection.weight):
        raise ValueError(
            "clip: its file holds no projection into the space of the images (text_projection.weight). Load "
            "clip_l.safetensors as published for SD3 or FLUX, or use CLIP Loader with a whole CLIP."
        )
    return SemVidCLIP(
        "from host models",
        model.vision_model,
        model.visual_projection,
        fitting[0].text_model,
        fitting[0].text_projection,
        (clip_vision.patcher, clip.patcher),
        clip_words(),
        clip_vision.image_size,
        model.vision_model.embeddings.patch_embedding.weight.shape[-1],
        tuple(clip_vision.image_mean),
        tuple(clip_vision.image_std),
    )


def trained(projection: Tensor) -> bool:
    """False for what ComfyUI leaves where a file has no projection: zeros, the identity or memory as it was found."""
    weight = projection.detach().float()
    return (
        bool(torch.isfinite(weight).all())
        and 1e-4 < float(weight.std()) < 10
        and not torch.equal(weight, torch.eye(*weight.shape).to(weight))
    )
