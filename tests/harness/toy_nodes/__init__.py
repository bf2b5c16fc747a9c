"""Encoders without weights, where tiny models run: a word becomes a fixed random vector, an image a random projection of its pixels."""
import hashlib

import comfy.clip_vision
import torch
from comfy_api.latest import ComfyExtension, io

DIM = 32


def embed(word: str) -> torch.Tensor:
    seed = int.from_bytes(hashlib.sha256(word.lower().encode()).digest()[:8], "big") % 2**62
    return torch.randn(DIM, generator=torch.Generator().manual_seed(seed))


class ToyTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="ToyTextEncode", category="testing", is_dev_only=True, is_experimental=True,
                         inputs=[io.String.Input("text", multiline=True)], outputs=[io.Conditioning.Output()])

    @classmethod
    def execute(cls, text):
        words = torch.stack([embed(word) for word in text.split()] or [torch.zeros(DIM)])
        return io.NodeOutput([[words.unsqueeze(0), {"pooled_output": torch.zeros(1, 768)}]])


class ToyCLIPVisionEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="ToyCLIPVisionEncode", category="testing", is_dev_only=True, is_experimental=True,
                         inputs=[io.Image.Input("image")], outputs=[io.ClipVisionOutput.Output()])

    @classmethod
    def execute(cls, image):
        pixels = torch.nn.functional.adaptive_avg_pool2d(image[:1, ..., :3].movedim(-1, 1), 16).flatten(1)
        project = torch.randn(pixels.shape[1], 1280, generator=torch.Generator().manual_seed(0)) / 28
        output = comfy.clip_vision.Output()
        output["penultimate_hidden_states"] = (pixels @ project).unsqueeze(1).repeat(1, 257, 1)
        return io.NodeOutput(output)


class ToyNodes(ComfyExtension):
    async def get_node_list(self):
        return [ToyTextEncode, ToyCLIPVisionEncode]


async def comfy_entrypoint():
    return ToyNodes()
