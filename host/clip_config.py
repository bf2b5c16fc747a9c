"""What a CLIP's tensors and the configuration beside them say of its towers."""

import json
import logging
import re
from pathlib import Path

import comfy.clip_model
from torch import Tensor

from .feedback import say
from .weights import Checkpoint

# vision towers H, g and bigG; all others have heads of 64 channels, in both towers
HEADS = {
    1280: 16,
    1408: 16,
    1664: 16,
}
CONFIGS = ("open_clip_config.json", "config.json")
HF_DEFAULTS = {
    "vision_model": {"hidden_size": 768, "num_attention_heads": 12},
    "text_model": {"hidden_size": 512, "num_attention_heads": 8},
}
NAMES = (("vision_model", "vision_cfg", "vision_config"), ("text_model", "text_cfg", "text_config"))
ACTIVATIONS = ("auto", "quick_gelu", "gelu")
MOST_LAYERS, MOST_CHARACTERS = 256, 2**20  # far above any CLIP's
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError)  # of a JSON text of any content


def recognise(weights: dict[str, Tensor], config: dict, activation: str) -> tuple[dict, dict]:
    """ComfyUI's configurations of both towers from tensors with Hugging Face's names, of which only shapes are looked
    at; `config` as `configuration` gives it.

    Raises KeyError or IndexError for tensors that are missing or have too few dimensions, ValueError for what no CLIP
    has.
    """
    vision, text = (recognise_tower(tower, weights, config.get(tower, {}), activation) for tower, _, _ in NAMES)
    patch = weights["vision_model.embeddings.patch_embedding.weight"].shape[-1]
    grid = round((weights["vision_model.embeddings.position_embedding.weight"].shape[0] - 1) ** 0.5)
    vocabulary, positions = (
        weights[f"text_model.embeddings.{kind}_embedding.weight"].shape[0] for kind in ("token", "position")
    )
    if grid < 1 or positions < 3:
        raise ValueError(
            f"has places for {grid} x {grid} patches and {positions} tokens; expected at least 1 x 1 and 3"
        )
    return (
        vision
        | {"patch_size": patch, "image_size": grid * patch, "num_channels": 3, "model_type": "clip_vision_model"},
        text | {"max_position_embeddings": positions, "vocab_size": vocabulary, "eos_token_id": vocabulary - 1},
    )


def recognise_tower(tower: str, weights: dict[str, Tensor], said: dict, activation: str) -> dict:
    """What both towers have in common. said: of `configuration`, used where it speaks of a tower of this size."""
    width = weights[f"{tower}.embeddings.position_embedding.weight"].shape[1]
    layers = count_layers(tower, weights)
    if (said.get("width"), said.get("layers")) != (width, layers):  # a config of another file in the same folder
        said = {}
    heads = said["heads"] if said else default_heads(tower, width)
    if not is_count(heads) or width % heads:
        source = said.get("source", "ViT's rule of 64 channels each, without a config beside the file,")
        raise ValueError(
            f"has a {tower.replace('_model', '')} tower of {width} channels, which do not divide into the {heads} "
            f"heads of {source}"
        )
    if activation == "auto":
        activation = said["activation"] if said else default_activation(weights)
        if not isinstance(activation, str) or activation not in comfy.clip_model.ACTIVATIONS:
            raise ValueError(
                f"has an activation that is not known, '{activation}' in {said['source']}; choose quick_gelu or gelu "
                "on the loader"
            )
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": weights[f"{tower}.encoder.layers.0.mlp.fc1.weight"].shape[0],
        "hidden_act": activation,
    }


def count_layers(tower: str, weights: dict[str, Tensor]) -> int:
    """Layers that the tensors' names speak of. Raises ValueError where they are not numbered 0, 1, ..., or far too
    many."""
    pattern = re.compile(rf"{tower}\.encoder\.layers\.(\d{{1,9}})\.")
    numbers = {int(match[1]) for key in weights if (match := pattern.match(key))}
    wrong = sorted(numbers - set(range(min(len(numbers), MOST_LAYERS))))
    if wrong or not numbers:
        raise ValueError(
            f"has {len(numbers)} layers in its {tower.replace('_model', '')} tower"
            + (f", one of them number {wrong[0]}" if wrong else "")
            + f"; expected 1 to {MOST_LAYERS}, numbered from 0"
        )
    return len(numbers)


def default_heads(tower: str, width: int) -> int:
    return (HEADS.get(width) if tower == "vision_model" else None) or max(width // 64, 1)


def default_activation(weights: dict[str, Tensor]) -> str:
    return "gelu" if weights["visual_projection.weight"].shape[1] > 1024 else "quick_gelu"


def is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def configuration(file: Checkpoint) -> dict[str, dict]:
    """What the file's metadata ("open_clip") or the config beside it says, by tower: width, layers, heads, activation,
    and the source that says it. Empty without one.

    Raises ValueError for damaged metadata; a damaged config beside the file may be another file's, and is left alone
    with a warning.
    """
    name = file.path.name
    if "open_clip" in file.metadata:
        try:
            return towers_of(file.metadata["open_clip"], f"{name}'s metadata")
        except DAMAGED as error:
            raise ValueError(
                f'{name}: its metadata "open_clip" is damaged ({reason(error)}). Download or export it again.'
            ) from None
    for path in (file.path.with_name(config) for config in CONFIGS):
        if not path.is_file():
            continue
        try:
            towers = towers_of(read_short(path), path.name)
        except DAMAGED as error:
            say(f"{name}: the {path.name} beside it cannot be read and is not used ({reason(error)}).", logging.WARNING)
            continue
        if towers:
            return towers
    return {}


def reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:100]}"


def read_short(path: Path) -> str:
    """Raises ValueError for what is too long for a config, or not UTF-8."""
    if path.stat().st_size > MOST_CHARACTERS:
        raise ValueError(f"longer than {MOST_CHARACTERS} characters")
    return path.read_text(encoding="utf-8")


def towers_of(text: str, source: str) -> dict[str, dict]:
    """`configuration` of a JSON text of open_clip or Hugging Face. Values are taken as they stand."""
    config = json.loads(text)
    config = config.get("model_cfg", config)
    towers = {}
    for tower, open_clip, hugging_face in NAMES:
        if open_clip in config:
            towers[tower] = open_clip_tower(config[open_clip], config) | {"source": source}
        elif hugging_face in config:
            towers[tower] = hugging_face_tower(tower, config[hugging_face]) | {"source": source}
    return towers


def open_clip_tower(c: dict, config: dict) -> dict:
    heads = c.get("heads")
    if heads is None:
        size = c.get("head_width", 64)
        heads = c["width"] // size if is_count(size) else size
    return {
        "width": c["width"],
        "layers": c["layers"],
        "heads": heads,
        "activation": "quick_gelu" if config.get("quick_gelu") else "gelu",
    }


def hugging_face_tower(tower: str, c: dict) -> dict:
    c = {"num_hidden_layers": 12, "hidden_act": "quick_gelu"} | HF_DEFAULTS[tower] | c  # it leaves out the defaults
    return {
        "width": c["hidden_size"],
        "layers": c["num_hidden_layers"],
        "heads": c["num_attention_heads"],
        "activation": c["hidden_act"],
    }
