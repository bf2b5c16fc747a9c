"""Encoders without weights, where tiny models run: a word becomes a fixed random vector, an image a random projection
of its pixels.

ToyTextEncode and ToyCLIPVisionEncode stand in for nodes, ToyCLIPLoader and ToyCLIPVisionLoader for the loaders, whose
models other nodes use as well.
"""

import hashlib
import types

import comfy.clip_vision
import torch
from comfy_api.latest import ComfyExtension, io

DIM = 32


def embed(word: str) -> torch.Tensor:
    seed = int.from_bytes(hashlib.sha256(word.lower().encode()).digest()[:8], "big") % 2**62
    return torch.randn(DIM, generator=torch.Generator().manual_seed(seed))


def text_features(text: str) -> torch.Tensor:
    return torch.stack([embed(word) for word in text.split()] or [torch.zeros(DIM)]).unsqueeze(0)


def image_features(image: torch.Tensor) -> comfy.clip_vision.Output:
    pixels = torch.nn.functional.adaptive_avg_pool2d(image[:1, ..., :3].movedim(-1, 1), 16).flatten(1)
    project = torch.randn(pixels.shape[1], 1280, generator=torch.Generator().manual_seed(0)) / 28
    output = comfy.clip_vision.Output()
    output["penultimate_hidden_states"] = (pixels @ project).unsqueeze(1).repeat(1, 257, 1)
    return output


class ToyTokenizer:
    """A word is a token, in pieces as SentencePiece writes them."""

    def __init__(self):
        self.inv_vocab = {}

    def __call__(self, text):
        pieces = ["\u2581" + word for word in text.split()] or [""]
        ids = [int.from_bytes(hashlib.sha256(piece.encode()).digest()[:4], "big") for piece in pieces]
        self.inv_vocab |= zip(ids, pieces)
        return [[(number, 1.0) for number in ids]]


class ToyCLIP:
    """Encodes as ToyTextEncode does, for every family of models."""

    cond_stage_model = torch.nn.Linear(1, 1)
    encoders = ("umt5xxl", "llama", "qwen25_7b", "qwen3vl_32b", "t5xxl", "gemma3_12b")

    def __init__(self):
        self.tokenizer = types.SimpleNamespace(**dict.fromkeys(self.encoders, ToyTokenizer()))

    def tokenize(self, text):
        return {name: getattr(self.tokenizer, name)(text) for name in self.encoders}

    def encode_from_tokens_scheduled(self, tokens):
        ids = [number for number, _ in tokens["umt5xxl"][0]]
        text = " ".join(self.tokenizer.umt5xxl.inv_vocab[number].lstrip("\u2581") for number in ids)
        return [[text_features(text), {"pooled_output": torch.zeros(1, 768)}]]


class ToyCLIPVision:
    model = torch.nn.Linear(1, 1)

    def encode_image(self, image, crop=True):
        return image_features(image)


class ToyTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyTextEncode",
            category="testing",
            is_dev_only=True,
            is_experimental=True,
            inputs=[io.String.Input("text", multiline=True)],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, text):
        return io.NodeOutput([[text_features(text), {"pooled_output": torch.zeros(1, 768)}]])


class ToyCLIPVisionEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyCLIPVisionEncode",
            category="testing",
            is_dev_only=True,
            is_experimental=True,
            inputs=[io.Image.Input("image")],
            outputs=[io.ClipVisionOutput.Output()],
        )

    @classmethod
    def execute(cls, image):
        return io.NodeOutput(image_features(image))


class ToyCLIPLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyCLIPLoader",
            category="testing",
            is_dev_only=True,
            is_experimental=True,
            inputs=[],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls):
        return io.NodeOutput(ToyCLIP())


class ToyCLIPVisionLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyCLIPVisionLoader",
            category="testing",
            is_dev_only=True,
            is_experimental=True,
            inputs=[],
            outputs=[io.ClipVision.Output()],
        )

    @classmethod
    def execute(cls):
        return io.NodeOutput(ToyCLIPVision())


class ToyNodes(ComfyExtension):
    async def get_node_list(self):
        return [ToyTextEncode, ToyCLIPVisionEncode, ToyCLIPLoader, ToyCLIPVisionLoader]


async def comfy_entrypoint():
    return ToyNodes()
