"""Mini CLIP from a file; what it computes is in kernels/mini_clip.py."""
import json
from pathlib import Path

from open_clip import CLIP
from safetensors import safe_open

from ..kernels.mini_clip import CONFIG, TEXT_TOKENS, build, encode_text, image_features, preprocess, token_features, tokenize, vocabulary_of

__all__ = ["CONFIG", "TEXT_TOKENS", "TextEncoder", "build", "encode_text", "image_features", "load", "preprocess", "token_features", "tokenize",
           "vocabulary_of"]


class TextEncoder:
    """A mini CLIP as ComfyUI's CLIP: for whatever encodes captions one by one."""

    def __init__(self, clip: CLIP):
        self.cond_stage_model = clip

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> list:
        return [[encode_text(self.cond_stage_model, [tokens]), {}]]


def load(path: Path) -> CLIP:
    """A frozen float32 model from a file of this family. ValueError if the file has no vocabulary."""
    with safe_open(path, "pt") as file:
        facts = file.metadata() or {}
        if "vocabulary" not in facts:
            raise ValueError(f"{path} is no mini CLIP: its metadata has no vocabulary; make one with python run.py train mini-clip")
        weights = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118  (not a dict)
    model = build(json.loads(facts["vocabulary"]))
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)
