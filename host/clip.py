"""CLIP with its insides open, of ComfyUI's own modules (comfy.clip_model), placed and offloaded by ComfyUI, weights as
stored, computed in fp32."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import comfy.clip_vision
import comfy.model_management
import comfy.ops
import torch
from comfy.ldm.modules.attention import optimized_attention_for_device
from torch import Tensor, nn

from .feedback import say

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# q, k, v [batch, tokens, width], heads -> [batch, patches, width]
ClassTerms = Callable[[Tensor, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class SemVidCLIP:
    """What SEMVID_CLIP carries. patchers: ComfyUI's, that own the image and the text tower; words: a word's token ids;
    size, patch: of the image, in pixels."""

    name: str
    vision: nn.Module
    visual_projection: nn.Module
    text: nn.Module
    text_projection: nn.Module
    patchers: tuple
    words: Callable[[str], list[int]]
    size: int
    patch: int
    mean: tuple[float, ...] = MEAN
    deviation: tuple[float, ...] = DEVIATION

    @property
    def blocks(self) -> int:
        return len(self.vision.encoder.layers)

    @property
    def device(self) -> torch.device:
        return self.patchers[0].load_device

    def load(self) -> None:
        comfy.model_management.load_models_gpu(list(self.patchers))

    def parts(self, text: str) -> list[list[int]]:
        """Token ids of `text`, cut between words into as few parts as CLIP's context takes (75 tokens and its start and
        end)."""
        room = self.text.embeddings.position_embedding.weight.shape[0] - 2
        parts = [[]]
        for word in text.split():
            ids = self.words(word)
            for piece in (ids[i : i + room] for i in range(0, len(ids), room)):
                if len(parts[-1]) + len(piece) > room:
                    parts.append([])
                parts[-1] += piece
        if len(parts) > 1:
            say(
                f"CLIP reads {room} tokens at once; '{text[:40]}...' has more and is read in {len(parts)} parts.",
                logging.WARNING,
            )
        return parts

    def encode_text(self, text: str) -> Tensor:
        """[parts, dim], unit length: one for every part of `text` that fits CLIP's context. Raises ValueError for NaN
        or infinite weights."""
        length, words = (
            embedding.weight.shape[0]
            for embedding in (self.text.embeddings.position_embedding, self.text.embeddings.token_embedding)
        )
        # <start> ... <end>; attention looks back, so padding is never seen
        rows = [[words - 2, *part, words - 1] for part in self.parts(text)]
        ids = torch.tensor(
            [row + [words - 1] * (length - len(row)) for row in rows], device=self.patchers[-1].load_device
        )
        pooled = self.text(ids, num_tokens=[len(row) for row in rows], dtype=torch.float32)[2]
        return self._unit(self.text_projection(pooled), "text").to(self.device)

    def class_and_patch_features(
        self, square: Tensor, class_block: int, patch_block: int, class_terms: ClassTerms
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One forward of the image tower over [n, 3, size, size], 0..1. In the joint space, without the last
        LayerNorm's per-image constants:

        what the class token takes from each patch in `class_block` [n, patches, dim] (`class_terms` of its q, k, v
        before the output projection), each patch after `patch_block` [n, patches, dim]; and the image's embedding [n,
        dim], unit length. Raises ValueError as `encode_text`.
        """
        vision, seen = self.vision, {}
        x = self._normal(square)
        attention = optimized_attention_for_device(x.device, mask=False, small_input=True)

        def watched(q, k, v, heads, *args, **kwargs):
            seen["terms"] = class_terms(q, k, v, heads)
            return attention(q, k, v, heads, *args, **kwargs)

        x = vision.pre_layrnorm(vision.embeddings(x))
        for i, layer in enumerate(vision.encoder.layers):
            x = layer(x, None, watched if i == class_block else attention)
            if i == class_block:  # the bias that comes along is the same for every patch and cancels
                evidence = self._joint(layer.self_attn.out_proj(seen.pop("terms")))
            if i == patch_block:
                patches = self._joint(x[:, 1:])
        return evidence, patches, self._unit(self.visual_projection(vision.post_layernorm(x[:, 0])), "image")

    def encode_image(self, square: Tensor) -> dict[str, Tensor]:
        """Of [n, 3, size, size], 0..1: "penultimate_hidden_states" and "last_hidden_state" [n, 1 + patches, width],
        class token first, before the last LayerNorm, and "image_embeds" [n, dim]. Raises ValueError as
        `encode_text`."""
        last, penultimate, pooled = self.vision(self._normal(square), intermediate_output=-2)
        embeds = self.visual_projection(pooled)
        self._unit(embeds, "image")
        return {"penultimate_hidden_states": penultimate, "last_hidden_state": last, "image_embeds": embeds}

    def _normal(self, square: Tensor) -> Tensor:
        x = square.to(self.device, torch.float32)
        return (x - torch.tensor(self.mean).view(3, 1, 1).to(x)) / torch.tensor(self.deviation).view(3, 1, 1).to(x)

    def _joint(self, x: Tensor) -> Tensor:
        return self.visual_projection(x * comfy.ops.cast_to_input(self.vision.post_layernorm.weight, x))

    def _unit(self, x: Tensor, what: str) -> Tensor:
        if not torch.isfinite(x).all():
            raise ValueError(
                f"clip {self.name}: its {what} embedding is NaN or infinite. Weights that overflowed in fp16 do this; "
                "use an fp32 or bf16 file."
            )
        return nn.functional.normalize(x.float(), dim=-1)


def vision_output(states: dict[str, Tensor], size: int) -> comfy.clip_vision.Output:
    """CLIP_VISION_OUTPUT as ComfyUI's own encoder makes it, of what `SemVidCLIP.encode_image` gives."""
    output = comfy.clip_vision.Output()
    for name, value in states.items():
        output[name] = value.to(comfy.model_management.intermediate_device())
    output["image_sizes"], output["mm_projected"] = [(3, size, size)] * len(states["image_embeds"]), None
    return output
