"""DyMoS: the video looks less at its own first frame, so that an image-to-video model moves (arXiv 2605.19398).

    softmax(l - gamma * [key in frame 0])    in every self-attention, in the conditional pass, in the first steps

gamma > 0 damps the first frame, gamma < 0 binds to it. `frame_mask` gives it to any attention that takes masks. Where
an attention returns the logarithm of its sum of exponentials, two of them, over the keys of frame 0 and over the
others, give the same without a mask: `damped`.
"""

from collections.abc import Callable
from math import exp

import torch
from torch import Tensor

from .steps import step_sigma

GAMMA = 0.6
MIN_SIGMA = step_sigma(8, 40, shift=5.0)  # published: steps 0 to 7 of 40 (Wan 2.2 I2V A14B); step 8 begins at 0.952

# q, k, v -> attention [batch, queries, heads, dim], log-sum-exp [batch, queries, heads, 1]
AttendLSE = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def frame_mask(keys: int, frame: slice, gamma: Tensor, mask: Tensor | None = None) -> Tensor:
    """An additive mask that takes gamma [batch, 1, 1, 1] off the logits of the keys in `frame`.

    mask: the attention's own: None or additive / boolean [batch | 1, heads | 1, queries | 1, keys]. It stays.
    Returns [batch, heads | 1, queries | 1, keys] in gamma's dtype.
    """
    bias = gamma.new_zeros(len(gamma), 1, 1, keys)
    bias[..., frame] = -gamma
    if mask is None:
        return bias
    if mask.dtype == torch.bool:
        return torch.where(mask, bias, -torch.inf)
    return bias + mask


def merge(a: Tensor, lse_a: Tensor, b: Tensor, lse_b: Tensor) -> Tensor:
    """One softmax over two sets of keys, of the attention over each and the logarithm of its sum of exponentials."""
    return torch.lerp(b, a, torch.sigmoid(lse_a - lse_b).to(a.dtype))


def damped(q: Tensor, k: Tensor, v: Tensor, frame: slice, gamma: float, attend: AttendLSE) -> Tensor:
    """DyMoS without a mask. q, k, v and the result: [batch, tokens, heads, dim]; frame: keys of frame 0, from 0 on."""
    first, lse_first = attend(q, k[:, frame], v[:, frame])
    rest, lse_rest = attend(q, k[:, frame.stop :], v[:, frame.stop :])
    return merge(first, lse_first - gamma, rest, lse_rest)


def from_whole(whole: Tensor, first: Tensor, mass: Tensor, gamma: float) -> Tensor:
    """DyMoS of the undamped attention.

    whole: of all keys, first: of frame 0 alone, [batch, queries, heads, dim]; mass: the part of `whole` that frame 0
    has, [batch, queries, heads, 1], 0..1.
    """
    taken = (1.0 - exp(-gamma)) * mass
    return (whole - taken * first) / (1.0 - taken)


def attend_lse(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """PyTorch's own fused attention with its log-sum-exp: on a CPU, or on CUDA in half precision."""
    by_head = [x.transpose(1, 2) for x in (q, k, v)]
    kernels = torch.ops.aten
    on_cpu = q.device.type == "cpu"
    kernel = (
        kernels._scaled_dot_product_flash_attention_for_cpu if on_cpu else kernels._scaled_dot_product_flash_attention
    )
    out, lse = kernel(*by_head)[:2]
    return out.transpose(1, 2), lse.transpose(1, 2).unsqueeze(-1)
