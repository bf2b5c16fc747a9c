"""SSG Adapter on a MODEL: its branch beside the text (Wan) or joint (HunyuanVideo) attention of the blocks it was
trained for.

Without an adapter, the prompted image goes into the image branch that Wan 2.1 I2V was trained with (nothing to train,
our choice).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..host.call import by_crop
from ..host.editing import Call, attend, edit_attention, edit_inputs
from ..host.families import family_of, hunyuan, wan
from ..host.forward import Forward, Run
from ..host.schedule import ALWAYS, Interval
from ..host.weights import attach_weights
from ..kernels.ssg_adapter import Prompt, SSGAdapter, View, blend, crop_mask, token_weights
from .per_frame import per_latent_frame

NAME = "SSG Adapter"
FAMILIES = {"wan": wan, "hunyuan": hunyuan}
CHUNK = (
    2**13
)  # queries that look at once, so that the branch takes less memory than the FFN, for which the host has made room
Passes = Literal["both", "conditional"]


@dataclass(frozen=True, eq=False)
class Guide:
    """What to look at, and how much.

    features: CLIP features of the prompted image, [1 | frames, n, clip_width]; mask: where to look, [1 | frames, any
    height, any width], 0..1, or None for everywhere. frames: one per latent frame of the clip, or one per video frame,
    of which every fourth is taken. strength: 1 = as trained, 0 = the unpatched model. passes: which of the sampler's
    passes look; "conditional" is then strengthened by CFG.
    """

    features: Tensor
    mask: Tensor | None = None
    strength: float = 1.0
    passes: Passes = "both"
    interval: Interval = ALWAYS

    def __post_init__(self):
        if self.passes not in Passes.__args__:
            raise ValueError(f"passes '{self.passes}': choose one of {', '.join(Passes.__args__)}.")
        if not 0.0 <= self.strength <= 2.0:
            raise ValueError(f"strength {self.strength}: must be from 0 (the model as it is) to 2 (twice as trained).")
        if self.mask is not None and (
            self.mask.ndim != 3 or 0 in self.mask.shape or not torch.isfinite(self.mask).all()
        ):
            raise ValueError(
                f"mask: shape {tuple(self.mask.shape)}, empty or with NaN or infinite values. Give masks [frames, "
                "height, width] of 0 to 1."
            )

    def rows(self, call: Call) -> list[int]:
        """The rows of an attention call that look."""
        return list(range(len(call.q))) if self.passes == "both" else call.positive_rows


def apply(model, adapter, guide: Guide):
    """A clone of `model` that looks at the prompted image; strength 0 returns the model unchanged. Raises ValueError
    where the parts do not fit.

    adapter: of ssg_adapter_file.py's `load_adapter`, or None for the model's own image branch.
    """
    if adapter is None:
        return into_image_branch(model, guide)
    require_compatible(model, adapter.model, guide)
    blocks = adapter.model.spec.blocks

    def edit(call: Call, proceed) -> Tensor:
        out, forward, block = proceed(call), call.forward, call.site.block
        if block not in blocks or call.site.stream == "side":
            return out
        rows = guide.rows(call)
        if not rows:
            return out
        module: SSGAdapter = forward.weights(adapter)
        prompt, weight = forward.once((NAME, call.crop), lambda: prompt_and_weights(module, guide, call))
        frames, area = forward.layout.frames, forward.layout.height * forward.layout.width
        chosen = slice(None) if len(rows) == len(out) else rows
        keys, values = module.keys_values(block, prompt)
        out, some = (
            out.clone(),
            max(CHUNK // (area * len(rows)), 1),
        )  # a clone: the attention's owner may keep its result
        for first in range(0, frames, some):
            span = slice(first, min(first + some, frames))
            tokens = slice(call.before + span.start * area, call.before + span.stop * area)
            added = branch_attention(
                module,
                block,
                call.q[chosen, tokens],
                *(x if len(x) == 1 else x[span] for x in (keys, values)),
                prompt,
                area,
            )
            out[chosen, tokens] += (
                added.unflatten(1, (-1, area)) * (weight if len(weight) == 1 else weight[span])
            ).flatten(1, 2)
        return out

    def check(run: Run) -> None:
        per_latent_frame("clip_vision_output", guide.features, run.total_frames)
        if guide.mask is not None:
            per_latent_frame("mask", guide.mask, run.total_frames)

    if guide.strength == 0:
        return model
    sites = ("text", "joint")
    patched = edit_attention(model, NAME, by_crop(edit), sites=sites, interval=guide.interval, check=check)
    return attach_weights(patched, "ssg_adapter", adapter)


def branch_attention(
    module: SSGAdapter, block: int, q: Tensor, k: Tensor, v: Tensor, prompt: Prompt, area: int
) -> Tensor:
    """What the branch gives to q [rows, frames * area, heads, dim]; k, v: of one image for all frames, or of one for
    each."""
    if len(k) == 1:
        return module.branch(block, q, *(x.expand(len(q), -1, -1, -1) for x in (k, v)), prompt, attend)
    each = q.unflatten(1, (-1, area)).flatten(0, 1)
    return (
        module.branch(block, each, *(x.repeat(len(q), 1, 1, 1) for x in (k, v)), prompt, attend)
        .unflatten(0, (len(q), -1))
        .flatten(1, 2)
    )


def prompt_and_weights(module: SSGAdapter, guide: Guide, call: Call) -> tuple[Prompt, Tensor]:
    """Once per call of the model: the prompt of one image or of one per frame of this window, and strength * m, [1 |
    frames, area or 1, 1]."""
    layout, crop = call.forward.layout, call.crop
    total_frames = call.forward.run.total_frames or layout.frames

    def here(name: str, x: Tensor) -> Tensor:
        x = per_latent_frame(name, x, total_frames)
        return x if len(x) == 1 else x[list(crop.frames)]

    features = here("clip_vision_output", guide.features).to(call.q)
    weight = torch.full((1, 1, 1), guide.strength)
    if guide.mask is not None:
        mask = here("mask", guide.mask)
        if not crop.whole_picture:
            mask = crop_mask(mask, crop.video, crop.top, crop.left, crop.height, crop.width)
        weight = guide.strength * token_weights(mask, layout.height, layout.width)
    view = None
    if not crop.whole_picture:
        rows, columns = layout.patch
        view = View(crop.top / rows, crop.left / columns, crop.video[0] / rows, crop.video[1] / columns)
    return module.prompt(features, layout.height, layout.width, view), weight.to(call.q)


def require_compatible(model, module: SSGAdapter, guide: Guide) -> None:
    family, spec = family_of(model), module.spec
    if family is not FAMILIES[spec.family]:
        raise ValueError(
            f"adapter: made for {FAMILIES[spec.family].NAME}, this model is {family.NAME}. Load the model it was made "
            "for."
        )
    width, heads = family.width_heads(model.model.diffusion_model)
    if (width, heads) != (spec.width, spec.heads):
        raise ValueError(
            f"adapter: made for a {family.NAME} of width {spec.width} with {spec.heads} heads, this model has {width} "
            f"with {heads}. Load the model it was made for."
        )
    blocks = family.blocks(model.model.diffusion_model)
    if max(spec.blocks) >= blocks:
        raise ValueError(
            f"adapter: has a branch for block {max(spec.blocks)}, this model has {blocks} blocks. Load the model it "
            "was made for."
        )
    try:
        module.check(guide.features)
    except ValueError as error:
        raise ValueError(
            f"clip_vision_output: {error}. Encode the image with the CLIP the adapter was trained with."
        ) from None


def into_image_branch(model, guide: Guide):
    """Moves the CLIP features that the conditioning carries towards those of the prompted image; strength 1 replaces
    them."""
    family, module, prompted = family_of(model), model.model.diffusion_model, guide.features
    if family is not wan or module.img_emb is None:
        raise ValueError(
            f"model: this {family.NAME} has no image branch that takes CLIP features (Wan T2V, Wan 2.2 and "
            "HunyuanVideo have none). Load Wan 2.1 I2V, or connect an SSG Adapter."
        )
    if guide.mask is not None:
        raise ValueError(
            "mask: needs an SSG Adapter; the model's own image branch has none. Connect one, or remove the mask: the "
            "prompted image carries it."
        )
    width = module.img_emb.proj[0].normalized_shape[0]
    if prompted.ndim != 3 or prompted.shape[-1] != width or len(prompted) != 1:
        raise ValueError(
            f"clip_vision_output: features of shape {tuple(prompted.shape)}; the model's image branch takes those of "
            f"one image, of width {width}. Use clip_vision_h."
        )
    if not torch.isfinite(prompted).all():
        raise ValueError("clip_vision_output: features are NaN or infinite. Use a CLIP file in fp32 or bf16.")

    def inputs(forward: Forward) -> dict:
        own = forward.arguments.get("clip_fea")
        rows = [i for i, row in enumerate(forward.rows) if guide.passes == "both" or row == 0]
        if own is None or not rows:
            return {}
        if own.shape[1] < prompted.shape[1]:
            raise ValueError(
                f"clip_vision_output: {prompted.shape[1]} tokens, the start image has {own.shape[1]}. Encode both with "
                "the same CLIP."
            )
        own = own.clone()
        own[rows] = blend(own[rows], prompted.expand(len(rows), -1, -1), guide.strength)
        return {"clip_fea": own}

    def check(run: Run) -> None:
        if "clip_vision_output" not in run.conds:
            raise ValueError(
                f"{NAME}: no conditioning carries CLIP features of a start image to work on. Connect "
                "clip_vision_output of WanImageToVideo, or an SSG Adapter here."
            )

    return edit_inputs(model, NAME, inputs, interval=guide.interval, check=check, active=guide.strength != 0)
