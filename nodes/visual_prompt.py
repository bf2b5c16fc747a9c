"""Visual Prompt: a picture in which a mask says what matters (after SSG-DiT, arXiv 2508.17062)."""

import re

import torch
from comfy_api.latest import io

from ..kernels.visual_prompt import Style, crop, paint, region, stretched
from ..kernels.wording import counted
from .common import SPATIAL_PROMPT as CATEGORY
from .common import rgb


class VisualPromptNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidVisualPrompt",
            display_name="Visual Prompt",
            search_aliases=["highlight", "red circle", "crop to mask", "blur background", "spatial prompt", "SSG-DiT"],
            category=CATEGORY,
            description="Paints a mask into a picture, so that a model which looks at it (CLIP Vision, a vision "
            "language model) attends to the right place. For CLIP Vision, not for a start image: the paint would show "
            "in the video.",
            inputs=[
                io.Image.Input("image", tooltip="A picture, or the frames of a clip. Transparency is kept."),
                io.Mask.Input(
                    "mask", tooltip="One for all frames, or one per frame. Other sizes are stretched to the picture's."
                ),
                io.Combo.Input(
                    "style",
                    options=list(Style.__args__),
                    default="grey",
                    tooltip="What happens outside the mask: darken and grey are published, blur keeps colours. outline "
                    "draws around what the mask marks, crop cuts it out.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Higher paints more; crop: cuts tighter. 0 returns the picture unchanged.",
                ),
                io.Float.Input(
                    "feather",
                    default=4.0,
                    min=0.0,
                    max=512.0,
                    step=1.0,
                    tooltip="Higher softens the mask's edge over more pixels. 0 leaves it as it is.",
                ),
                io.Float.Input(
                    "grey_level",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="For grey: higher is lighter, 0 is black, 1 white.",
                ),
                io.Float.Input(
                    "blur",
                    default=16.0,
                    min=0.0,
                    max=512.0,
                    step=1.0,
                    advanced=True,
                    tooltip="For blur: standard deviation in pixels. Higher hides more detail outside the mask.",
                ),
                io.String.Input(
                    "colour",
                    default="#ff0000",
                    advanced=True,
                    tooltip="For outline: the line's colour as #rrggbb, such as #ff0000 for red.",
                ),
                io.Int.Input(
                    "line_width",
                    default=4,
                    min=1,
                    max=256,
                    advanced=True,
                    tooltip="For outline: higher draws a thicker line, in pixels.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="For outline and crop: what of the mask counts as inside. Higher takes in less.",
                ),
                io.Float.Input(
                    "margin",
                    default=0.1,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    advanced=True,
                    tooltip="For crop: higher leaves more around the region, as a part of its size. All frames share "
                    "one region.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The prompted picture, for CLIP Vision Encode.")],
        )

    @classmethod
    def execute(
        cls,
        image,
        mask,
        style,
        strength=1.0,
        feather=4.0,
        grey_level=0.5,
        blur=16.0,
        colour="#ff0000",
        line_width=4,
        threshold=0.5,
        margin=0.1,
    ) -> io.NodeOutput:
        if strength == 0:
            return io.NodeOutput(image)
        frames, mask = rgb("image", image), mask.float().reshape(-1, *mask.shape[-2:])
        if not torch.isfinite(mask).all():
            raise ValueError("mask: contains NaN or infinite values. Check the node that made it.")
        if len(mask) not in (1, len(frames)):
            raise ValueError(
                f"mask: {len(mask)} masks for {counted(len(frames), 'frame')}. Give one mask, or one per frame."
            )
        if not re.fullmatch(r"#?[0-9a-fA-F]{6}", colour.strip()):
            raise ValueError(f"colour '{colour}': not a colour. Write it as #rrggbb, such as #ff0000 for red.")
        mask = stretched(mask, *frames.shape[1:3]).clamp(0, 1).to(frames.device)
        if style == "crop":
            box = region(mask, threshold, margin)
            if box is None:
                raise ValueError(
                    f"mask: nothing lies above threshold {threshold} (highest {float(mask.max()):.2f}), so there is "
                    "nothing to crop to. Lower threshold."
                )
            return io.NodeOutput(crop(image, box, strength))
        ink = tuple(int(colour.strip().lstrip("#")[i : i + 2], 16) / 255 for i in (0, 2, 4))
        masks = mask.expand(len(frames), -1, -1)  # painted one by one, or a clip's blur is held several times over
        painted = torch.cat(
            [
                paint(f[None], m[None], style, strength, feather, grey_level, blur, ink, line_width, threshold)
                for f, m in zip(frames, masks)
            ]
        )
        return io.NodeOutput(torch.cat((painted, image[..., 3:]), dim=-1) if image.shape[-1] == 4 else painted)
