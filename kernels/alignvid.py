"""AlignVid: sharper cross-attention in the first steps, so that a strong start image cannot drown the prompt.

    logits' = scale * logits    at noise levels above sigma 0.9, in some blocks, in every pass

The published code (arXiv 2512.01334, LAW1223/AlignVid) multiplies the image branch's queries and the text keys by gamma
in one function, where both branches share the queries: the image logits become gamma times larger and the text logits
gamma^2. Here only keys are multiplied, by the whole factor, which gives the same logits. On joint attention (its
FramePack) all keys of single-stream blocks are multiplied by gamma, text and video alike.
"""

from torch import Tensor

GAMMA = 1.35
MIN_SIGMA = 0.9
WAN_BLOCKS = "0,2-7,10-20,25-32,37-38"  # of the 40 of Wan 2.1 I2V 14B
FRAMEPACK_BLOCKS = "0,2,4-7,10-21,23,25-27,31,33"  # of the 40 single-stream blocks of this fine-tuned HunyuanVideo


def key_scale(site: str, gamma: float, image_branch: bool) -> float:
    """What keys are multiplied by. site: "self", "text", "image" or "joint"; image_branch: whether the call has one."""
    if site == "text":
        return gamma**2 if image_branch else gamma
    return 1.0 if site == "self" else gamma


def sharpened(k: Tensor, scale: float) -> Tensor:
    """k times scale; scale 1 returns `k` itself."""
    return k if scale == 1.0 else k * scale
