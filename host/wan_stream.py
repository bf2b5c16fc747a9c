"""A second token stream through Wan blocks of its own, step by step, so that it can meet the model's stream in
attention.

What a block does is ComfyUI's (comfy/ldm/wan/model.py); here it is taken apart at its self-attention.
"""

import inspect

import comfy.ldm.common_dit
import comfy.model_management
import torch
from comfy.ldm.flux.math import apply_rope1
from comfy.ldm.wan.model import sinusoidal_embedding_1d
from torch import Tensor, nn


class WanStream:
    """Clean video tokens that pass through the blocks of `module`, a WanModel of which no head is used.

    latent: [batch, channels, frames, height, width]; text: [batch, tokens, text_dim]; image: CLIP features [batch,
    tokens, 1280] or None. positions: the temporal position of the first frame; timestep: the noise level its modulation
    is told, 0 .. 1000. options: transformer_options for the attention calls inside.
    """

    def __init__(
        self,
        module: nn.Module,
        latent: Tensor,
        text: Tensor,
        image: Tensor | None,
        position: int,
        timestep: float,
        options: dict,
    ):
        self.module, self.options = module, options
        dtype, device = text.dtype, text.device
        latent = comfy.ldm.common_dit.pad_to_patch_size(latent, module.patch_size)
        self.x = module.patch_embedding(latent.float()).to(dtype).flatten(2).transpose(1, 2)
        t = torch.full((latent.shape[0],), timestep, device=device)
        time = module.time_embedding(sinusoidal_embedding_1d(module.freq_dim, t).to(dtype)).unsqueeze(1)
        self.time = module.time_projection(time).unflatten(2, (6, module.dim))
        self.context = module.text_embedding(text)
        self.image_tokens = None
        if image is not None and module.img_emb is not None:
            self.context = torch.cat((module.img_emb(image), self.context), dim=1)
            self.image_tokens = image.shape[-2]
        rope = {}
        if "transformer_options" in inspect.signature(module.rope_encode).parameters:
            scale = options.get("rope_options", {}).get("scale_t", 1.0)
            rope, position = {"transformer_options": options}, position * scale
        self.freqs = module.rope_encode(*latent.shape[2:], t_start=position, device=device, dtype=dtype, **rope)

    def _modulation(self, block: nn.Module) -> tuple[Tensor, ...]:
        return (
            comfy.model_management.cast_to(block.modulation, dtype=self.x.dtype, device=self.x.device).unsqueeze(0)
            + self.time
        ).unbind(2)

    def keys_values(self, block: nn.Module) -> tuple[Tensor, Tensor]:
        """[batch, tokens, heads, dim] each, with positions; what the last block is for."""
        attention, (shift, scale, *_) = block.self_attn, self._modulation(block)
        self.normed = torch.addcmul(shift, block.norm1(self.x), 1 + scale)
        heads = (attention.num_heads, attention.head_dim)
        k = attention.norm_k(attention.k(self.normed)).unflatten(2, heads)
        return apply_rope1(k, self.freqs), attention.v(self.normed).unflatten(2, heads)

    def queries(self, block: nn.Module) -> Tensor:
        """[batch, tokens, heads, dim]; after `keys_values` of the same block."""
        attention = block.self_attn
        q = attention.norm_q(attention.q(self.normed)).unflatten(2, (attention.num_heads, attention.head_dim))
        return apply_rope1(q, self.freqs)

    def finish(self, block: nn.Module, attended: Tensor) -> None:
        """Takes the result of its queries, [batch, tokens, width], through the rest of the block."""
        _, _, gate, shift, scale, gate_ffn = self._modulation(block)
        self.x = torch.addcmul(self.x, block.self_attn.o(attended), gate)
        self.x = self.x + block.cross_attn(
            block.norm3(self.x), self.context, context_img_len=self.image_tokens, transformer_options=self.options
        )
        self.x = torch.addcmul(self.x, block.ffn(torch.addcmul(shift, block.norm2(self.x), 1 + scale)), gate_ffn)
