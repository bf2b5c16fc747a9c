"""Text contrast: more of what the prompt says *here*, less of what it says everywhere.

    out' = out + w * (out - base),    base = Attn(mean over the video tokens of q, k, v)

out: the text attention of a video token; base: that of the mean query, one row a head. Its logits are the mean of all
tokens' logits, so `base` is what the text says to nobody in particular. Experimental, our choice; no paper. Nearest
published: SEG (arXiv 2408.00760, blurs queries), PLADIS (2503.07677), GAG (2603.02531), NAG (2505.21179).

Where text and video share one softmax (joint attention), the text has a part m <= 1 of each row. The same contrast of
that part,

    out' = out + w * m * (Attn(q, k_text, v_text) - base),

is the ordinary attention with other values of the text, v' = v + w * (v - base): attention is linear in v, and `base`
is the same for all queries.
"""

import torch
from torch import Tensor


def mean_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of the mean query, in fp32 or better.

    q: [batch, queries, heads, dim]; k, v: [batch, keys, heads, dim]. mask: None or additive / boolean [batch | 1,
    heads | 1, queries | 1, keys]: additive rows are averaged as logits are, and a key that any query sees is seen.
    Returns [batch, 1, heads, dim] in v's dtype.
    """
    wide = torch.promote_types(v.dtype, torch.float32)
    mean = q.mean(dim=1, keepdim=True, dtype=wide)
    logits = torch.einsum("bqhd,bkhd->bhqk", mean, k.to(wide)) * q.shape[-1] ** -0.5
    if mask is not None and mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask.any(dim=-2, keepdim=True), -torch.inf)
    elif mask is not None:
        logits = logits + mask.to(wide).mean(dim=-2, keepdim=True)
    return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(dim=-1), v.to(wide)).to(v.dtype)


def contrast(x: Tensor, base: Tensor, weight: Tensor, keep_norm: bool = False) -> Tensor:
    """x + weight * (x - base): x [batch, tokens, channels], base [batch, 1, channels], weight [batch, 1, 1], 0 or more.

    A row of weight 0 is x's own, bit for bit. keep_norm: each token keeps its norm, only its direction changes.
    """
    changed = torch.lerp(base, x, (1 + weight).to(x.dtype))
    if keep_norm:
        changed *= _norm(x) / _norm(changed)
    return changed


def _norm(x: Tensor) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    return (
        torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        .clamp_min(torch.finfo(torch.float16).tiny)
        .to(x.dtype)
    )
