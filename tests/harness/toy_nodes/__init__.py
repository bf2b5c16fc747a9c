"""A text encoder without weights: each word becomes a fixed random vector. Stands in for umT5 and LLaVA where tiny models run."""
import hashlib

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


class ToyNodes(ComfyExtension):
    async def get_node_list(self):
        return [ToyTextEncode]


async def comfy_entrypoint():
    return ToyNodes()
