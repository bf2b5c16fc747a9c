"""Video-As-Prompt: a clean reference video beside the noisy target, joined to it in the self-attention of some blocks.

    softmax([q; q_ref] [k; k_ref]^T / sqrt(d)) [v; v_ref]

Reference frames stand at temporal positions -F ... -1 and are told timestep 1.

arXiv 2510.20888, section 3; public code of the Wan version. The expert that makes q_ref, k_ref, v_ref is a Wan I2V
model of a few blocks without a head.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

TEXT, IMAGE, LATENT = "vap_text", "vap_image", "vap_latent"  # names under which conditioning carries the reference
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Selection = Literal["even", "first"]


FPS, MOST = 16, 2**31  # Wan's frames per second; frames that a slow video is thought to be resampled to


def joint_attention(
    q: Tensor, k: Tensor, v: Tensor, ref_q: Tensor | None, ref_k: Tensor, ref_v: Tensor, attend: Attend
) -> tuple[Tensor, Tensor | None]:
    """The formula above: what the target's queries see and what the reference's see, [batch, queries, width] each.

    q, k, v: of the target, [batch, tokens, heads, dim]; ref_q, ref_k, ref_v: of the reference, ref_q None in the last
    block, behind which nothing asks for it. attend: softmax(q k^T / sqrt(d)) v -> [batch, queries, width].
    """
    k, v = torch.cat((k, ref_k), dim=1), torch.cat((v, ref_v), dim=1)
    if ref_q is None:
        return attend(q, k, v), None
    return attend(torch.cat((q, ref_q), dim=1), k, v).split((q.shape[1], ref_q.shape[1]), dim=1)


def frames_in_step(frames: Iterable[int], total_frames: int, reference_frames: int) -> list[int]:
    """Frames of the reference that run in step with `frames` of a video of `total_frames`, each once (our choice)."""
    last = reference_frames - 1
    return sorted({min(frame * reference_frames // total_frames, last) for frame in frames})


def select_frames(frames: Tensor, count: int, selection: Selection, fps: float = 0.0) -> Tensor:
    """`count` of the frames [n, height, width, 3], by `frame_indices`."""
    return frames[frame_indices(len(frames), count, selection, fps)]


def frame_indices(frames: int, count: int, selection: Selection, fps: float = 0.0) -> Tensor:
    """Which of `frames` frames are taken, [count]: evenly over the video (the published default) or the first ones.
    Shorter videos repeat frames evenly.

    fps: for "first", the video's frames per second, of which Wan's 16 are taken; 0 takes the frames as they are. Raises
    ValueError for fewer than two frames: one frame is no motion.
    """
    resampled = frames
    if selection == "first" and fps > 0:
        resampled = max(round(min(frames / fps * FPS, MOST)), 1)
    for what, some in (("frame(s)", frames), (f"frame(s) left of {frames} at fps {fps:g}", resampled)):
        if some < 2:
            raise ValueError(
                f"reference_video: {some} {what}; a reference is a video of at least 2 frames. For a still image use "
                "the model's own image input."
            )
    if selection == "first" and resampled >= count:
        indices = torch.arange(count)
    else:
        indices = torch.linspace(0, resampled - 1, count, dtype=torch.float64).long()
    return indices if resampled == frames else indices * (frames - 1) // (resampled - 1)
