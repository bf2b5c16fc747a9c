"""A small CLIP in every form that CLIP comes in."""

import json

import comfy.clip_vision
import comfy.sd
import comfy.sd1_clip
import comfy.utils
import torch
from safetensors.torch import save_file

from semantic_video.patches.clip_mask import SpatialMask, find

TEXT = {"context_length": 77, "width": 64, "heads": 4, "layers": 2, "vocab_size": 49408}
CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 48, "patch_size": 8, "width": 64, "layers": 5, "head_width": 16},
    "text_cfg": TEXT,
}


def frames(count=2, height=48, width=48, channels=3, seed=0):
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(seed))


def write(folder, weights, config=CONFIG, name="clip.safetensors"):
    save_file(
        {key: value.contiguous() for key, value in weights.items()},
        folder / name,
        {"open_clip": json.dumps(config)} if config else None,
    )
    return folder / name


def hugging_face(weights):
    """The same weights under the names, and with the matrices, of transformers' CLIPModel."""
    weights = {key: value.clone() for key, value in weights.items()}
    converted = comfy.utils.clip_text_transformers_convert(
        comfy.clip_vision.convert_to_transformers(weights, "visual."), "", ""
    )
    return converted | {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(37)[None],
    }


def mask_of(clip, image=None, text="a red ball", **settings):
    return find(clip, frames() if image is None else image, text.splitlines(), SpatialMask(**settings))


def host_objects(weights, **vision):
    """CLIP_VISION and CLIP as ComfyUI's loaders make them, of these weights."""
    weights = hugging_face(weights)
    eye = comfy.clip_vision.ClipVisionModel(
        {
            "hidden_size": 64,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "intermediate_size": 256,
            "hidden_act": "gelu",
            "patch_size": 8,
            "image_size": 48,
            "projection_dim": 64,
            "model_type": "clip_vision_model",
            "num_channels": 3,
        }
        | vision
    )
    eye.model.float()
    eye.load_sd({key: value for key, value in weights.items() if key.startswith("vis")})
    sizes = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "hidden_act": "gelu",
        "max_position_embeddings": 77,
        "eos_token_id": 49407,
    }
    text = comfy.sd.load_text_encoder_state_dicts(
        [{key: value for key, value in weights.items() if key.startswith("text")}],
        model_options={
            "dtype": torch.float32,
            "clip_l_class": lambda **kwargs: comfy.sd1_clip.SDClipModel(textmodel_json_config=sizes, **kwargs),
        },
    )
    return eye, text
