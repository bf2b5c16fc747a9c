"""Encoders without weights, where tiny models run: a word becomes a fixed random vector, an image a random projection
of its pixels.

ToyTextEncode and ToyCLIPVisionEncode stand in for nodes, ToyCLIPLoader, ToyCLIPVisionLoader and ToyMiniMaxVAELoader
for the loaders, whose models other nodes use as well.
"""

import hashlib
import types

import comfy.clip_vision
import torch
from comfy_api.latest import ComfyExtension, io

from .minimax_vaes import ToyMiniMaxAudioVAE, ToyMiniMaxVAE

DIM = 32


def embed(word: str, width: int = DIM) -> torch.Tensor:
    seed = int.from_bytes(hashlib.sha256(word.lower().encode()).digest()[:8], "big") % 2**62
    return torch.randn(width, generator=torch.Generator().manual_seed(seed))


def text_features(text: str, width: int = DIM) -> torch.Tensor:
    return torch.stack([embed(word, width) for word in text.split()] or [torch.zeros(width)]).unsqueeze(0)


def picture_features(image: torch.Tensor) -> torch.Tensor:
    """[4, DIM] of [1, height, width, 3]: what a quarter of a picture is to a vision-language encoder."""
    pixels = torch.nn.functional.adaptive_avg_pool2d(image[:1, ..., :3].movedim(-1, 1), 16)
    quarters = pixels.unflatten(2, (2, 8)).unflatten(4, (2, 8)).permute(0, 2, 4, 1, 3, 5).reshape(4, -1)
    return quarters @ torch.randn(quarters.shape[1], DIM, generator=torch.Generator().manual_seed(1)) / 14


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
    """Encodes as ToyTextEncode does, for every family of models. Pictures stand in front, four tokens each."""

    cond_stage_model = torch.nn.Linear(1, 1)
    encoders = ("umt5xxl", "llama", "qwen25_7b", "qwen3vl_32b", "t5xxl", "gemma3_12b")

    def __init__(self, width=DIM):
        self.width = width
        self.tokenizer = types.SimpleNamespace(**dict.fromkeys(self.encoders, ToyTokenizer()))

    def tokenize(self, text, images=()):
        return {name: getattr(self.tokenizer, name)(text) for name in self.encoders} | {"pictures": list(images)}

    def encode_from_tokens_scheduled(self, tokens):
        ids = [number for number, _ in tokens["umt5xxl"][0]]
        text = " ".join(self.tokenizer.umt5xxl.inv_vocab[number].lstrip("\u2581") for number in ids)
        pictures = [picture_features(image) for image in tokens["pictures"]]
        features = torch.cat((*pictures, text_features(text, self.width)[0])).unsqueeze(0)
        tags = torch.ones(1, features.shape[1], dtype=torch.long)
        tags[:, : 4 * len(pictures)] = 0
        extra = {"pooled_output": torch.zeros(1, 768), "minimax_token_tags": tags, "unprocessed_ltxav_embeds": True}
        return [[features, extra]]


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
            inputs=[io.String.Input("text", multiline=True), io.Int.Input("width", default=DIM, optional=True)],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, text, width=DIM):
        extra = {"pooled_output": torch.zeros(1, 768), "unprocessed_ltxav_embeds": True}  # LTX-2 has a connector
        return io.NodeOutput([[text_features(text, width), extra]])


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
            inputs=[io.Int.Input("width", default=DIM, optional=True)],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, width=DIM):
        return io.NodeOutput(ToyCLIP(width))


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


class ToyMiniMaxVAELoader(io.ComfyNode):
    """MiniMax H3's autoencoders have one size, far too large for tests."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyMiniMaxVAELoader",
            category="testing",
            is_dev_only=True,
            is_experimental=True,
            inputs=[io.Boolean.Input("audio")],
            outputs=[io.Vae.Output()],
        )

    @classmethod
    def execute(cls, audio):
        return io.NodeOutput(ToyMiniMaxAudioVAE() if audio else ToyMiniMaxVAE())


class ToyNodes(ComfyExtension):
    async def get_node_list(self):
        return [ToyTextEncode, ToyCLIPVisionEncode, ToyCLIPLoader, ToyCLIPVisionLoader, ToyMiniMaxVAELoader]


async def comfy_entrypoint():
    return ToyNodes()
