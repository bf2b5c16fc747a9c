"""Where a SemVidCLIP comes from: a file of your own, or ComfyUI's CLIP_VISION and CLIP put together without a second
copy."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import comfy.clip_model
import comfy.clip_vision
import comfy.sd1_clip
import comfy.utils
import torch
from torch import Tensor, nn

from .clip import SemVidCLIP
from .weights import Checkpoint, load_weights

HEADS = {
    1280: 16,
    1408: 16,
    1664: 16,
}  # vision towers H, g and bigG; all others have heads of 64 channels, in both towers
CONFIGS = ("open_clip_config.json", "config.json")
HF_DEFAULTS = {
    "vision_model": {"hidden_size": 768, "num_attention_heads": 12},
    "text_model": {"hidden_size": 512, "num_attention_heads": 8},
}
WORDS = 49408  # CLIP's vocabulary; another needs "vocabulary" in the file's metadata
ACTIVATIONS = ("auto", "quick_gelu", "gelu")


class ClipTowers(nn.Module):
    """Both towers under Hugging Face's names, of ComfyUI's modules."""

    def __init__(self, vision: dict, text: dict, dim: int, dtype, device, operations):
        super().__init__()
        place = {"dtype": dtype, "device": device}
        self.vision_model = comfy.clip_model.CLIPVision(vision, **place, operations=operations)
        self.visual_projection = operations.Linear(vision["hidden_size"], dim, bias=False, **place)
        self.text_model = comfy.clip_model.CLIPTextModel_(text, **place, operations=operations)
        if text["vocab_size"] != WORDS:
            self.text_model.embeddings.token_embedding = operations.Embedding(
                text["vocab_size"], text["hidden_size"], **place
            )
        self.text_projection = operations.Linear(text["hidden_size"], dim, bias=False, **place)


def load_clip(path: str | Path, activation: str = "auto") -> SemVidCLIP:
    """A CLIP of open_clip or Hugging Face from one safetensors file (or one of its shards).

    activation: of its MLPs, which tensors do not tell; "auto" asks the metadata, then the config beside the file, then
    takes OpenAI's quick_gelu for towers that OpenAI has published sizes of and gelu for larger ones. Raises ValueError,
    naming file and reason, for whatever is no such CLIP.
    """
    file = Checkpoint(path)
    name = file.path.name
    refused = f"{name}: not a whole CLIP of open_clip or Hugging Face"
    keys = set(file.keys)
    if any(".trunk." in key or key.endswith("logit_bias") for key in keys):
        raise ValueError(
            f"{refused}, but a SigLIP or timm tower, which has no class token to ask. Use a ViT CLIP, such as "
            "ViT-L-14-336."
        )
    text_prefix = "text." if any(key.startswith("text.") for key in keys) else ""
    weights = file.read({key: key for key in keys if not key.endswith(("logit_scale", "position_ids", "attn_mask"))})
    if "visual.class_embedding" in weights:
        weights = comfy.utils.clip_text_transformers_convert(
            comfy.clip_vision.convert_to_transformers(weights, "visual."), text_prefix, ""
        )
    missing = [
        what
        for what, key in (
            ("image tower", "vision_model.embeddings.class_embedding"),
            ("image projection", "visual_projection.weight"),
            ("text tower", "text_model.embeddings.token_embedding.weight"),
            ("text projection", "text_projection.weight"),
        )
        if key not in weights
    ]
    if missing:
        raise ValueError(
            f"{refused}: its {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing. "
            "Choose a file with both towers, or join two of ComfyUI's with CLIP from Host Models."
        )
    try:
        vision, text = recognise(weights, configuration(file), activation)
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"{refused}: {error} is missing or of another shape.") from None
    if text["vocab_size"] == WORDS:
        words = clip_words()
    elif "vocabulary" in file.metadata:
        words = word_ids(json.loads(file.metadata["vocabulary"]))
    else:
        raise ValueError(
            f"{name}: its vocabulary has {text['vocab_size']} tokens, CLIP's has {WORDS}. Use a CLIP with the "
            "original English text tower."
        )
    projection = weights["visual_projection.weight"]
    patcher = load_weights(
        lambda **place: ClipTowers(vision, text, projection.shape[0], **place), weights, name, projection.dtype
    )
    towers = patcher.model
    return SemVidCLIP(
        name,
        towers.vision_model,
        towers.visual_projection,
        towers.text_model,
        towers.text_projection,
        (patcher,),
        words,
        vision["image_size"],
        vision["patch_size"],
    )


def recognise(weights: dict[str, Tensor], config: dict, activation: str) -> tuple[dict, dict]:
    """ComfyUI's configurations of both towers from tensors with Hugging Face's names; `config` as `configuration` gives
    it."""
    towers = []
    for tower in ("vision_model", "text_model"):
        width = weights[f"{tower}.embeddings.position_embedding.weight"].shape[1]
        layers = 1 + max(
            int(match[1]) for key in weights if (match := re.match(rf"{tower}\.encoder\.layers\.(\d+)\.", key))
        )
        said = config.get(tower, {})
        said = (
            said if (said.get("width"), said.get("layers")) == (width, layers) else {}
        )  # a config of another file in the same folder
        auto = said.get("activation") or (
            "gelu" if weights["visual_projection.weight"].shape[1] > 1024 else "quick_gelu"
        )
        heads = said.get("heads") or (HEADS.get(width) if tower == "vision_model" else None) or max(width // 64, 1)
        towers.append(
            {
                "hidden_size": width,
                "num_hidden_layers": layers,
                "num_attention_heads": heads,
                "intermediate_size": weights[f"{tower}.encoder.layers.0.mlp.fc1.weight"].shape[0],
                "hidden_act": auto if activation == "auto" else activation,
            }
        )
    vision, text = towers
    patch = weights["vision_model.embeddings.patch_embedding.weight"].shape[-1]
    grid = round((weights["vision_model.embeddings.position_embedding.weight"].shape[0] - 1) ** 0.5)
    vocabulary, positions = (
        weights[f"text_model.embeddings.{kind}_embedding.weight"].shape[0] for kind in ("token", "position")
    )
    return (
        vision
        | {"patch_size": patch, "image_size": grid * patch, "num_channels": 3, "model_type": "clip_vision_model"},
        text | {"max_position_embeddings": positions, "vocab_size": vocabulary, "eos_token_id": vocabulary - 1},
    )


def configuration(file: Checkpoint) -> dict:
    """What the file's metadata ("open_clip") or the config beside it says of width, layers, heads and activation, by
    tower. Empty without one."""
    found = (
        [file.metadata["open_clip"]]
        if "open_clip" in file.metadata
        else [path.read_text(encoding="utf-8") for name in CONFIGS if (path := file.path.with_name(name)).is_file()]
    )
    for text in found:
        try:
            config = json.loads(text)
            config = config.get("model_cfg", config)
            towers = {}
            for tower, open_clip, hugging_face in (
                ("vision_model", "vision_cfg", "vision_config"),
                ("text_model", "text_cfg", "text_config"),
            ):
                if open_clip in config:
                    c = config[open_clip]
                    towers[tower] = {
                        "width": c["width"],
                        "layers": c["layers"],
                        "heads": c.get("heads") or c["width"] // c.get("head_width", 64),
                        "activation": "quick_gelu" if config.get("quick_gelu") else "gelu",
                    }
                elif hugging_face in config:  # which leaves out what is the default
                    c = (
                        {"num_hidden_layers": 12, "hidden_act": "quick_gelu"}
                        | HF_DEFAULTS[tower]
                        | config[hugging_face]
                    )
                    towers[tower] = {
                        "width": c["hidden_size"],
                        "layers": c["num_hidden_layers"],
                        "heads": c["num_attention_heads"],
                        "activation": c["hidden_act"],
                    }
            if towers:
                return towers
        except (ValueError, KeyError, TypeError, AttributeError):
            logging.warning(f"{file.path.name}: the config beside it cannot be read and is not used.")
    return {}


def clip_words() -> Callable[[str], list[int]]:
    """CLIP's tokens of a word, by the tokenizer that ComfyUI ships."""
    tokenizer = comfy.sd1_clip.SDTokenizer().tokenizer
    return lambda word: tokenizer(word)["input_ids"][1:-1]


def word_ids(vocabulary: list[str]) -> Callable[[str], list[int]]:
    """The tokens of a small CLIP that knows whole words (MiniWorld's)."""
    index = {word: i for i, word in enumerate(vocabulary)}

    def ids(word: str) -> list[int]:
        said = re.findall(r"[a-z]+", word.lower())
        if unknown := [w for w in said if w not in index]:
            raise ValueError(f"text: this CLIP does not know '{unknown[0]}'; it knows {' '.join(vocabulary[1:-2])}.")
        return [index[w] for w in said]

    return ids


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
            "CLIP, type "
            "stable_diffusion."
        )
    fitting = [tower for tower in towers.values() if tower.text_projection.weight.shape[0] == dim]
    if not fitting:
        sizes = ", ".join(f"{name} {tower.text_projection.weight.shape[0]}" for name, tower in towers.items())
        raise ValueError(
            f"clip: no text tower fits clip_vision, whose joint space has {dim} dimensions ({sizes}). clip_l belongs "
            "to ViT-L-14 (768), "
            "clip_g to bigG (1280); for Wan's clip_vision_h (1024) use CLIP Loader with a whole ViT-H-14."
        )
    if not trained(fitting[0].text_projection.weight):
        raise ValueError(
            "clip: its file holds no projection into the space of the images (text_projection.weight). Load "
            "clip_l.safetensors as published for "
            "SD3 or FLUX, or use CLIP Loader with a whole CLIP."
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
