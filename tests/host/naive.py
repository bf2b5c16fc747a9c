"""Attention written out in fp64, in place of ComfyUI's own: what a formula is compared with."""

import comfy.ldm.wan.model as wan_model
import torch

IMAGE_TOKENS = 5  # of the toys' CLIP features; their prompts have 7 tokens


def attention(q, k, v, bias=None):
    """[batch, tokens, heads, dim] -> [batch, queries, heads, dim], in fp64. bias: as the host's additive masks."""
    logits = logits_of(q, k)
    if bias is not None:
        logits = logits + bias.double()
    return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v.double())


def logits_of(q, k):
    return torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) / q.shape[-1] ** 0.5


def in_wan(monkeypatch, formula):
    """Puts `formula(kind, q, k, v, options)` in place of all attention of ComfyUI's Wan, past our whole editing layer.

    kind: "self", "image" or "text"; q, k, v and the result: [batch, tokens, heads, dim].
    """

    def optimized_attention(q, k, v, heads, transformer_options, **options):
        kind = "image" if k.shape[1] == IMAGE_TOKENS else "self" if q.shape == k.shape else "text"
        by_head = [x.unflatten(2, (heads, -1)) for x in (q, k, v)]
        return formula(kind, *by_head, transformer_options).flatten(2).to(q.dtype)

    monkeypatch.setattr(wan_model, "optimized_attention", optimized_attention)
