"""A stand-in for a pack that calls the text attention on parts of the batch, as KJNodes WanVideoNAG does."""

import comfy.ldm.modules.attention as host_attention
import torch

from semantic_video.harness.sampling import seeded


def with_nag(model, context, attention=None, scale=3.0):
    """A stand-in: cross_attn.forward replaced in every block, the batch cut in two at CFG, the first half attending
    once more, to a negative prompt of its own."""
    model = model.clone()

    def host(q, k, v, heads, options):
        return host_attention.optimized_attention(q, k, v, heads=heads, transformer_options=options)

    attention = attention or host

    def forward_of(own):
        def attend(x, text, options):
            q = own.norm_q(own.q(x))
            return attention(q, own.norm_k(own.k(text)), own.v(text), own.num_heads, options)

        def forward(x, context_, transformer_options=None, **kwargs):
            halves = x.chunk(2) if len(x) > 1 else (x,)
            texts = context_.chunk(2) if len(x) > 1 else (context_,)
            positive = attend(halves[0], texts[0], transformer_options)
            negative = attend(halves[0], own_context.expand(len(halves[0]), -1, -1), transformer_options)
            out = [scale * positive - (scale - 1) * negative]
            out += [attend(*pair, transformer_options) for pair in zip(halves[1:], texts[1:])]
            return own.o(torch.cat(out))

        return forward

    module = model.model.diffusion_model
    own_context = module.text_embedding(context)
    for i, block in enumerate(module.blocks):
        model.add_object_patch(f"diffusion_model.blocks.{i}.cross_attn.forward", forward_of(block.cross_attn))
    return model


NAG_CONTEXT = seeded(1, 7, 32, seed=60)
