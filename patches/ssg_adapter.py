"""SSG Adapter on a MODEL: its branch beside the text (Wan, LTX) or joint (HunyuanVideo, MiniMax H3) attention of the
blocks it was trained for.

Without an adapter, the prompted image goes into the image branch that Wan 2.1 I2V was trained with (nothing to train,
our choice).
"""

import torch
from torch import Tensor

from ..host.call import by_crop
from ..host.editing import Call, attend, edit_attention, left_alone
from ..host.families import family_of, hunyuan, ltx, minimax, wan
from ..host.run import Run
from ..host.weights import attach_weights
from ..kernels.ssg_adapter import Prompt, SSGAdapter, View, crop_mask, token_weights
from .per_frame import per_latent_frame
from .ssg_guide import NAME, Guide
from .ssg_image_branch import into_image_branch

FAMILIES = {"wan": wan, "hunyuan": hunyuan, "ltx": ltx, "minimax": minimax}
# queries that look at once, so that the branch takes less memory than the FFN, for which the host has made room
CHUNK = 2**13


def apply(model, adapter, guide: Guide):
    """A clone of `model` that looks at the prompted image; strength 0 returns the model unchanged. Raises ValueError
    where the parts do not fit.

    adapter: of ssg_adapter_file.py's `load_adapter`, or None for the model's own image branch.
    """
    if adapter is None:
        return into_image_branch(model, guide)
    require_compatible(model, adapter.model, guide)
    family = family_of(model)
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
        out = out.clone()  # the attention's owner may keep its result
        some = max(CHUNK // (area * len(rows)), 1)
        for first in range(0, frames, some):
            span = slice(first, min(first + some, frames))
            tokens = slice(call.before + span.start * area, call.before + span.stop * area)
            k, v, m = (x if len(x) == 1 else x[span] for x in (keys, values, weight))
            added = branch_attention(module, block, call.q[chosen, tokens], k, v, prompt, area)
            out[chosen, tokens] += (added.unflatten(1, (-1, area)) * m).flatten(1, 2)
        return out

    def check(run: Run) -> None:
        per_latent_frame("clip_vision_output", guide.features, run.total_frames, family.first_frames)
        if guide.mask is not None:
            per_latent_frame("mask", guide.mask, run.total_frames, family.first_frames)

    if guide.strength == 0:
        return left_alone(model)
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
    out = module.branch(block, each, *(x.repeat(len(q), 1, 1, 1) for x in (k, v)), prompt, attend)
    return out.unflatten(0, (len(q), -1)).flatten(1, 2)


def prompt_and_weights(module: SSGAdapter, guide: Guide, call: Call) -> tuple[Prompt, Tensor]:
    """Once per call of the model: the prompt of one image or of one per frame of this window, and strength * m, [1 |
    frames, area or 1, 1]."""
    layout, crop = call.forward.layout, call.crop
    total_frames = call.forward.run.total_frames or layout.frames

    def here(name: str, x: Tensor) -> Tensor:
        x = per_latent_frame(name, x, total_frames, call.forward.family.first_frames)
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
    clock = call.forward.family.clock(call.forward.module, call.forward.arguments)
    return module.prompt(features, layout.height, layout.width, view, clock), weight.to(call.q)


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
