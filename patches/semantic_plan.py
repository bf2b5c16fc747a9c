"""A video becomes a plan: frames at a plan's rate through a vision tower and, where there is one, a compressor; a few
token frames at a time, so that a long video takes no more memory than a short one."""

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ..host.vision import VisionTower
from ..kernels.compressor import CompressorSpec
from ..kernels.plan_colours import Colours, paint_plan
from ..kernels.semantic_plan import SemanticPlan, check, sampled_frames
from ..kernels.wording import counted

ACTIVATIONS = 16  # numbers of float32 that a tower holds for each pixel of its batch, roughly


def encode_video(
    tower: VisionTower, frames: Tensor, fps: float, plan_fps: float, longest: int = 0, compressor=None
) -> SemanticPlan:
    """frames: [n, height, width, 3], 0..1, at `fps`. longest: side in pixels that the tower looks at, 0 for the
    video's. compressor: (its patcher, encoder name) of `load_compressor`, or None for the tower's features.

    Raises ValueError for rates that cannot be, a compressor of another tower, and features that are NaN or infinite.
    """
    numbers = sampled_frames(len(frames), fps, plan_fps, tower.frames)
    patcher, encoder = compressor or (None, tower.name)
    if patcher is not None:
        require_tower(patcher.model.spec, tower)
    at_once = tower.batch(*frames.shape[1:3], longest) * tower.frames
    chosen = [numbers[i : i + at_once] for i in range(0, len(numbers), at_once)]
    pixels = len(chosen[0]) * frames.shape[1] * frames.shape[2]
    comfy.model_management.load_models_gpu(
        [*tower.patchers, *([patcher] if patcher else [])], memory_required=4 * ACTIVATIONS * pixels
    )
    progress = comfy.utils.ProgressBar(len(numbers))
    parts = []
    for some in chosen:
        comfy.model_management.throw_exception_if_processing_interrupted()
        features = tower.encode(frames[some], longest)
        parts.append(compressed(patcher, features) if patcher else features)
        progress.update(len(some))
    plan = SemanticPlan(torch.cat(parts), plan_fps, encoder)
    check(plan, "encoder")
    return plan


def compressed(patcher, features: Tensor) -> Tensor:
    """The mean of what the compressor makes of features [..., channels], on the CPU."""
    return patcher.model(features.to(patcher.load_device))[0].float().cpu()


def require_tower(spec: CompressorSpec, tower: VisionTower) -> None:
    if spec.encoder != tower.name:
        raise ValueError(
            f"compressor: trained on features of '{spec.encoder}', but the encoder is '{tower.name}'. Connect that "
            "tower, or choose a compressor that was trained on this one."
        )


def preview(plan: SemanticPlan, colours: Colours | None = None, pixels: int = 16) -> Tensor:
    """IMAGE [time, height, width, 3] of the plan's colours, a square of `pixels` for each token."""
    picture = paint_plan(plan.tokens, colours)
    return picture.repeat_interleave(pixels, 1).repeat_interleave(pixels, 2)


def described(plan: SemanticPlan, like: SemanticPlan | None = None) -> str:
    """What a plan is, in lines of text; with `like`, of the same size, also how alike the two are: the cosine between
    their tokens, around the mean of `like`, averaged over each token frame that both have."""
    time, rows, columns, dims = plan.tokens.shape
    lines = [
        f"{plan.seconds:.6g} s: {counted(time, 'token frame')}, {plan.fps:g} a second",
        f"{rows} x {columns} tokens a frame, {dims} dimensions each",
        f"encoder: {plan.encoder}",
    ]
    if like is None:
        return "\n".join(lines)
    if like.tokens.shape[1:3] != plan.tokens.shape[1:3]:
        return "\n".join([*lines, "alike: not compared, the other plan has another number of tokens a frame"])
    shared = min(time, like.tokens.shape[0])
    middle = like.tokens.mean((0, 1, 2))
    cosine = torch.cosine_similarity(plan.tokens[:shared] - middle, like.tokens[:shared] - middle, -1).mean((1, 2))
    numbers = " ".join(f"{value:.2f}" for value in cosine.tolist())
    return "\n".join([*lines, f"alike: {cosine.mean():.3f} (1 the same, 0 unrelated); over time {numbers}"])
