"""SSG Adapter without an adapter: the prompted image goes into the image branch that Wan 2.1 I2V was trained with
(nothing to train, our choice)."""

import torch

from ..host.editing import edit_inputs
from ..host.families import family_of, wan
from ..host.forward import Forward
from ..host.run import Run
from ..kernels.ssg_adapter import blend
from .ssg_guide import NAME, Guide


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
