"""Video-As-Prompt on a MODEL: the expert's tokens join the self-attention of the blocks it was trained for."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..host.call import by_crop
from ..host.editing import Call, edit_attention, left_alone
from ..host.families import family_of, wan
from ..host.memory import count_cond
from ..host.run import Run
from ..host.schedule import ALWAYS, Interval
from ..host.wan_stream import WanStream
from ..host.weights import attach_weights
from ..kernels.video_prompt import IMAGE, LATENT, TEXT, frames_in_step, joint_attention
from .video_prompt_expert import layers_of

NAME = "VAP Apply"
TIMESTEP = 1.0  # published: the reference is clean, yet told noise level 1 of 1000
Windows = Literal["whole reference", "in step"]


@dataclass(frozen=True)
class VideoPrompt:
    """strength: 1 = as published, 0 = the unpatched model, between = blend of the attention with and without the
    reference (our choice).

    windows: what a context window sees of the reference: all of it, or the frames that run in step with it.
    """

    strength: float = 1.0
    windows: Windows = "whole reference"
    interval: Interval = ALWAYS

    def __post_init__(self):
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(
                f"strength {self.strength}: must be from 0 (the reference is ignored) to 1 (as published)."
            )


def apply(model, expert, config: VideoPrompt):
    """A clone of `model` that follows the reference its conditioning carries. Raises ValueError where model and expert
    do not fit."""
    expert_module, layers = expert.model.diffusion_model, layers_of(expert)
    require_compatible(model, expert, layers)
    places = {layer: i for i, layer in enumerate(layers)}
    expert = expert.clone()
    cast = model.get_model_object("manual_cast_dtype")
    expert.set_model_compute_dtype(cast or model.model.get_dtype())  # one dtype in the joint attention

    def edit(call: Call, proceed) -> Tensor:
        forward, number = call.forward, call.site.block
        if number not in places or call.site.stream == "side" or LATENT not in forward.arguments:
            return proceed(call)  # VACE's own blocks carry no video; a prompt may carry no reference
        reached = forward.once((NAME, "reached"), set)
        if call.site.kind == "text":
            if number not in reached:
                raise RuntimeError(
                    f"{NAME}: the self-attention of block {number} is replaced by another patch that does not call "
                    "ComfyUI's attention, so the reference cannot reach it. Use a patch of the attention override kind "
                    "instead (for Sage: ComfyUI's own setting)."
                )
            return proceed(call)
        reached.add(number)
        module = forward.weights(expert).diffusion_model
        block, last = module.blocks[places[number]], number == layers[-1]
        stream = forward.once((NAME, call.batch_rows), lambda: reference(module, call, config.windows))

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return proceed(call.replace(q=q, k=k, v=v, after=call.after + q.shape[1] - call.q.shape[1]))

        k, v = stream.keys_values(block)
        q = None if last else stream.queries(block)
        out, attended = joint_attention(call.q, call.k, call.v, q, k, v, attend)
        if not last:
            stream.finish(block, attended)
        return out if config.strength == 1.0 else torch.lerp(proceed(call), out, config.strength)

    def check(run: Run) -> None:
        if LATENT not in run.conds:
            raise ValueError(
                f"{NAME}: no conditioning carries a reference video. Put a VAP Reference node between the prompts and "
                "the sampler."
            )
        if expert_module.img_emb is not None and IMAGE not in run.conds:
            raise ValueError(
                "clip_vision_output: missing on VAP Reference. This expert was trained with it: connect CLIP Vision "
                "Encode of the reference's first frame."
            )

    if config.strength == 0.0:
        return left_alone(model)
    patched = edit_attention(model, NAME, by_crop(edit), sites=("self", "text"), interval=config.interval, check=check)
    return attach_weights(count_cond(patched, LATENT), "video_prompt", expert)


def reference(expert: torch.nn.Module, call: Call, windows: Windows) -> WanStream:
    """The stream of the call's rows at its first block. Its last frame stands directly before the target's first."""
    forward, rows = call.forward, list(call.batch_rows)
    latent, text, image = (
        x if x is None or len(rows) == len(x) else x[rows]
        for x in (forward.arguments[LATENT][0], forward.arguments[TEXT], forward.arguments.get(IMAGE))
    )
    total, frames = forward.run.total_frames, call.crop.frames
    if windows == "in step" and len(frames) < total:
        latent = latent[:, :, frames_in_step(frames, total, latent.shape[2])]
    return WanStream(expert, latent, text, image, -latent.shape[2], TIMESTEP, forward.options)


def require_compatible(model, expert, layers: tuple[int, ...]) -> None:
    if (family := family_of(model)) is not wan:
        raise ValueError(
            f"model: {family.NAME} cannot carry this expert; it was trained beside Wan 2.1 I2V. Load "
            "wan2.1_i2v_480p_14B."
        )
    backbone, expert_module = model.model.diffusion_model, expert.model.diffusion_model
    if not hasattr(expert_module, "patch_embedding"):
        raise ValueError(
            f"expert: {type(expert_module).__name__} is not a Video-As-Prompt expert. Connect a VAP Expert Loader."
        )
    size, expected = (expert_module.dim, expert_module.num_heads), (backbone.dim, backbone.num_heads)
    if size != expected:
        raise ValueError(
            f"expert: made for a Wan of width {size[0]} with {size[1]} heads, this model has {expected[0]} with "
            f"{expected[1]}. Load the model it was made for (wan2.1_i2v_480p_14B)."
        )
    if len(expert_module.blocks) != len(layers):
        raise ValueError(
            f"expert: it has {len(expert_module.blocks)} blocks, and their places in the model are not known. Load it "
            "with the VAP Expert Loader."
        )
    if max(layers) >= len(backbone.blocks):
        raise ValueError(
            f"expert: belongs to blocks {', '.join(map(str, layers))}, this model has {len(backbone.blocks)}. Load the "
            "model it was made for."
        )
    if expert_module.img_emb is not None and backbone.img_emb is None:
        raise ValueError(
            "model: it has no CLIP image branch (Wan T2V and Wan 2.2 have none), and this expert was trained beside "
            "one. Load wan2.1_i2v_480p_14B; for Wan 2.2 no expert has been published."
        )
