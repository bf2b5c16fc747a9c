"""Video-As-Prompt: a clean reference video beside the noisy target, joined to it in the self-attention of some blocks.

    softmax([q; q_ref] [k; k_ref]^T / sqrt(d)) [v; v_ref]

Reference frames stand at temporal positions -F ... -1 and are told timestep 1.

arXiv 2510.20888, section 3; public code of the Wan version. The expert that makes q_ref, k_ref, v_ref is a Wan I2V
model of a few blocks without a head.
"""

from typing import Literal

import torch
from torch import Tensor

TEXT, IMAGE, LATENT = "vap_text", "vap_image", "vap_latent"  # names under which conditioning carries the reference
Selection = Literal["even", "first"]


def select_frames(frames: Tensor, count: int, selection: Selection) -> Tensor:
    """`count` of the frames [n, height, width, 3]: evenly over the clip (the published default) or the first. Shorter
    clips repeat frames evenly.

    Raises ValueError for fewer than two frames: one frame is no motion.
    """
    if len(frames) < 2:
        raise ValueError(
            f"reference_video: {len(frames)} frame(s); a reference is a clip of at least 2 frames. For a still image "
            "use the model's "
            "own image input."
        )
    if selection == "first" and len(frames) >= count:
        return frames[:count]
    return frames[torch.linspace(0, len(frames) - 1, count, dtype=torch.float64).long()]
