"""The expert of Video-As-Prompt as a MODEL: read from any form of file, trimmed to what inference uses, saved on its
own."""

from pathlib import Path

import torch
from torch import nn

from ..host.weights import Checkpoint, load_diffusion_model, save_weights
from .video_prompt_keys import HEAD, PUBLISHED_LAYERS, expert_keys, used_keys

LAYERS = "semantic_video_layers"  # attachment: the places of the expert's blocks in the backbone


def read_expert(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Weights of the expert, under ComfyUI's names and trimmed, and metadata that says where they belong. Raises
    ValueError before any is read."""
    checkpoint = Checkpoint(path)
    try:
        names, layers = expert_keys(checkpoint.keys, checkpoint.metadata)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}.") from None
    wanted = set(used_keys(names.values()))
    weights = checkpoint.read({key: name for key, name in names.items() if name in wanted})
    return weights, checkpoint.metadata | {"layers": ",".join(map(str, layers))}


def load_expert(path: Path, model_options: dict | None = None):
    """A MODEL holding the expert: the host's own Wan of as many blocks, without what inference does not use."""
    weights, metadata = read_expert(path)
    width = weights["patch_embedding.bias"].shape[0]
    head = dict(
        zip(HEAD, (torch.zeros(1, 2, width), torch.zeros(64, width), torch.zeros(64)))
    )  # the host tells a Wan by its head
    trimmed_off = {
        key.replace("blocks.0.", f"blocks.{metadata['layers'].count(',')}."): torch.zeros(()).expand(value.shape)
        for key, value in weights.items()
        if key.startswith("blocks.0.")
    }  # no memory; or the host warns of missing weights
    patcher = load_diffusion_model(trimmed_off | weights | head, path.name, model_options, metadata)
    module = patcher.model.diffusion_model
    last = module.blocks[-1]
    for owner, name in (
        (module, "head"),
        (last.self_attn, "q"),
        (last.self_attn, "o"),
        (last.self_attn, "norm_q"),
        (last, "cross_attn"),
        (last, "norm3"),
        (last, "ffn"),
    ):
        setattr(owner, name, nn.Identity())
    patcher.size = 0  # to be measured again without them
    patcher.set_attachments(LAYERS, tuple(int(n) for n in metadata["layers"].split(",")))
    patcher.cached_patcher_init = (load_expert, (path, model_options))
    return patcher


def layers_of(expert) -> tuple[int, ...]:
    """Places of an expert's blocks in the backbone; the published ones for an expert that another loader (GGUF, say)
    brought."""
    return expert.attachments.get(LAYERS, PUBLISHED_LAYERS)


def extract_expert(source: Path, target: Path) -> None:
    """Writes the expert of `source`, in the dtype it has there, to a file of its own."""
    weights, metadata = read_expert(source)
    save_weights(weights, target, metadata | {"format": "video-as-prompt expert", "source": source.name})
