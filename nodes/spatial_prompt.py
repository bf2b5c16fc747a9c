"""Spatial prompting: where a text is in the frames, and frames that say so.

After SSG-DiT (arXiv 2508.17062); the mask is that of Attention Prompting on Image (arXiv 2409.17143).
"""
import re

import folder_paths
import torch
from comfy_api.latest import io

from ..host.clip_loading import ACTIVATIONS, join_clip, load_clip
from ..kernels.clip_mask import Fit, Fusion, Patches
from ..kernels.visual_prompt import Style, crop, paint, region, stretched
from ..patches.clip_features import encode
from ..patches.spatial_mask import SpatialMask, find, phrases_of, preview

CATEGORY = "semantic video/spatial prompt"
FOLDER = "clip_vision"  # ComfyUI's own loader reads the image tower of the same files
Clip = io.Custom("SEMVID_CLIP")


def rgb(name: str, image: torch.Tensor) -> torch.Tensor:
    """[n, height, width, 3] of an IMAGE: alpha is dropped, grey repeated. Raises ValueError for what is no picture."""
    if image.ndim != 4 or 0 in image.shape or image.shape[-1] not in (1, 3, 4):
        raise ValueError(f"{name}: shape {tuple(image.shape)}; an image is [frames, height, width, 1, 3 or 4 channels], with at least one frame and pixel.")
    if not torch.isfinite(image).all():
        raise ValueError(f"{name}: contains NaN or infinite values. Check the node that made it.")
    return image[..., :3].expand(-1, -1, -1, 3).float().clamp(0, 1)


class CLIPLoaderNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidCLIPLoader",
            display_name="CLIP Loader (both towers)",
            category=CATEGORY,
            description="Loads a whole CLIP, image and text tower, for CLIP Spatial Mask: a .safetensors of open_clip or of Hugging Face's CLIPModel. "
                        "OpenAI's ViT-L-14-336 is what the method was published with.",
            search_aliases=["open_clip", "CLIPModel", "spatial prompt"],
            inputs=[
                io.Combo.Input("clip_name", options=[name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(".safetensors")],
                               tooltip="A file in models/clip_vision that holds both towers."),
                io.Combo.Input("activation", options=list(ACTIVATIONS), default="auto", advanced=True,
                               tooltip="What the file's tensors cannot tell. auto asks the config beside the file, else takes quick_gelu up to ViT-L "
                                       "(OpenAI) and "
                                       "gelu above. Choose gelu for LAION's or DataComp's B and L models without a config."),
            ],
            outputs=[Clip.Output(display_name="clip", tooltip="For CLIP Spatial Mask.")],
        )

    @classmethod
    def execute(cls, clip_name: str, activation: str = "auto") -> io.NodeOutput:
        return io.NodeOutput(load_clip(folder_paths.get_full_path_or_raise(FOLDER, clip_name), activation))


class CLIPFromHostNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidCLIPFromHost",
            display_name="CLIP from Host Models",
            category=CATEGORY,
            description="Joins a CLIP Vision and a CLIP that ComfyUI has loaded already, without a second copy: clip_vision_l (ViT-L-14) with clip_l, "
                        "also the clip_l inside an SDXL, SD3, FLUX or HunyuanVideo text encoder. Both must come from the same CLIP.",
            inputs=[io.ClipVision.Input("clip_vision", tooltip="From Load CLIP Vision: the image tower, with its projection."),
                    io.Clip.Input("clip", tooltip="From Load CLIP or a checkpoint: its text tower of the same CLIP is used, clip_l for ViT-L-14.")],
            outputs=[Clip.Output(display_name="clip", tooltip="For CLIP Spatial Mask.")],
        )

    @classmethod
    def execute(cls, clip_vision, clip) -> io.NodeOutput:
        return io.NodeOutput(join_clip(clip_vision, clip))


class CLIPSpatialMaskNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidCLIPSpatialMask",
            display_name="CLIP Spatial Mask",
            category=CATEGORY,
            description="Finds in each frame what the text speaks of, with nothing but CLIP (Attention Prompting on Image, arXiv 2409.17143). "
                        "Feeds Visual Prompt, or any node that takes a mask.",
            search_aliases=["attention prompting", "text to mask", "heat map", "segment"],
            inputs=[
                Clip.Input("clip", tooltip="From CLIP Loader (both towers) or CLIP from Host Models."),
                io.Image.Input("image", tooltip="A picture, or the frames of a clip. Transparency is ignored."),
                io.String.Input("text", multiline=True, default="",
                                tooltip="What to find, in plain words, one phrase per line. Each line gives a mask of its own. More than 75 tokens are "
                                        "read in parts."),
                io.Float.Input("contrast", default=5.0, min=0.1, max=50.0, step=0.5,
                               tooltip="Higher cuts harder between what is meant and what is not. 1 to 10 are published."),
                io.Int.Input("filter", default=3, min=1, max=31, step=2,
                             tooltip="Side of a mean filter in patches, odd. Higher gives smoother, larger regions; 1 is none."),
                io.Float.Input("temporal_smoothing", default=0.0, min=0.0, max=100.0, step=0.5,
                               tooltip="Higher steadies the mask over more frames (deviation of a Gaussian, in frames); fast motion then smears. 0 is none."),
                io.Combo.Input("fit", options=list(Fit.__args__), default="squash",
                               tooltip="How a picture becomes CLIP's square. squash sees all of it at full resolution; letterbox keeps its proportions; "
                                       "center crop is as published: it does not see the sides and stretches the mask over them."),
                io.Combo.Input("fusion", options=list(Fusion.__args__), default="soft or", advanced=True,
                               tooltip="soft or is as published: what either map marks. product keeps what both mark. The others show one map."),
                io.Int.Input("class_block", default=-2, min=-128, max=127, advanced=True,
                             tooltip="Block whose class attention is read, -1 is the last. Higher is closer to meaning, lower to layout. -2 is published."),
                io.Int.Input("patch_block", default=-2, min=-128, max=127, advanced=True,
                             tooltip="Block after which the patches are read, -1 is the last. Higher is closer to meaning, lower to layout. -2 is published."),
                io.Combo.Input("patches", options=list(Patches.__args__), default="negated", optional=True, advanced=True,
                               tooltip="How the patch map counts. negated is published, for OpenAI's CLIP and its like. direct is for a CLIP whose patches "
                                       "were trained to speak of their own place; then product is the fusion to use."),
            ],
            outputs=[io.Mask.Output(display_name="mask", tooltip="One per frame: the union of all lines."),
                     io.Image.Output(display_name="heat_map", tooltip="The union over the frames, blue to red."),
                     io.Mask.Output(display_name="line_masks", is_output_list=True, tooltip="A list with one batch of masks per line of text."),
                     io.Float.Output(display_name="scores", is_output_list=True, tooltip="A list with CLIP's mean cosine between frames and text per line.")],
        )

    @classmethod
    def execute(cls, clip, image, text, contrast=5.0, filter=3, temporal_smoothing=0.0, fit="squash", fusion="soft or", class_block=-2,
                patch_block=-2, patches="negated") -> io.NodeOutput:
        if filter % 2 == 0:
            raise ValueError(f"filter {filter}: must be odd, so that the mask does not shift. Use {filter - 1} or {filter + 1}.")
        frames = rgb("image", image)
        masks, scores = find(clip, frames, phrases_of(text), SpatialMask(class_block, patch_block, contrast, filter, fusion, fit, temporal_smoothing, patches))
        return io.NodeOutput(masks.amax(0), preview(frames, masks), list(masks), scores.mean(1).tolist())


class VisualPromptNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidVisualPrompt",
            display_name="Visual Prompt",
            category=CATEGORY,
            description="Paints a mask into a picture, so that a model which looks at it (CLIP Vision, a vision language model) attends to the right place. "
                        "For CLIP Vision, not for a start image: the paint would show in the video.",
            inputs=[
                io.Image.Input("image", tooltip="A picture, or the frames of a clip. Transparency is kept."),
                io.Mask.Input("mask", tooltip="One for all frames, or one per frame. Other sizes are stretched to the picture's."),
                io.Combo.Input("style", options=list(Style.__args__), default="grey",
                               tooltip="What happens outside the mask: darken and grey are published, blur keeps colours. outline draws around what the "
                                       "mask marks, crop cuts it out."),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.05,
                               tooltip="Higher paints more; crop: cuts tighter. 0 returns the picture unchanged."),
                io.Float.Input("feather", default=4.0, min=0.0, max=512.0, step=1.0,
                               tooltip="Higher softens the mask's edge over more pixels. 0 leaves it as it is."),
                io.Float.Input("grey_level", default=0.5, min=0.0, max=1.0, step=0.05, advanced=True,
                               tooltip="For grey: higher is lighter, 0 is black, 1 white."),
                io.Float.Input("blur", default=16.0, min=0.0, max=512.0, step=1.0, advanced=True, tooltip="For blur: higher leaves less to see, in pixels."),
                io.String.Input("colour", default="#ff0000", advanced=True, tooltip="For outline: as #rrggbb; higher digits are brighter."),
                io.Int.Input("line_width", default=4, min=1, max=256, advanced=True, tooltip="For outline: higher draws a thicker line, in pixels."),
                io.Float.Input("threshold", default=0.5, min=0.0, max=1.0, step=0.05, advanced=True,
                               tooltip="For outline and crop: what of the mask counts as inside. Higher takes in less."),
                io.Float.Input("margin", default=0.1, min=0.0, max=10.0, step=0.05, advanced=True,
                               tooltip="For crop: higher leaves more around the region, as a part of its size. All frames share one region."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The prompted picture, for CLIP Vision Encode.")],
        )

    @classmethod
    def execute(cls, image, mask, style, strength=1.0, feather=4.0, grey_level=0.5, blur=16.0, colour="#ff0000", line_width=4, threshold=0.5,
                margin=0.1) -> io.NodeOutput:
        if strength == 0:
            return io.NodeOutput(image)
        frames, mask = rgb("image", image), mask.float().reshape(-1, *mask.shape[-2:])
        if not torch.isfinite(mask).all():
            raise ValueError("mask: contains NaN or infinite values. Check the node that made it.")
        if len(mask) not in (1, len(frames)):
            raise ValueError(f"mask: {len(mask)} masks for {len(frames)} frames. Give one mask, or one per frame.")
        if not re.fullmatch(r"#?[0-9a-fA-F]{6}", colour.strip()):
            raise ValueError(f"colour '{colour}': not a colour. Write it as #rrggbb, such as #ff0000 for red.")
        mask = stretched(mask, *frames.shape[1:3]).clamp(0, 1).to(frames.device)
        if style == "crop":
            box = region(mask, threshold, margin)
            if box is None:
                raise ValueError(f"mask: nothing lies above threshold {threshold} (highest {float(mask.max()):.2f}), so there is nothing to crop to. "
                                 "Lower threshold.")
            return io.NodeOutput(crop(image, box, strength))
        ink = tuple(int(colour.strip().lstrip("#")[i:i + 2], 16) / 255 for i in (0, 2, 4))
        masks = mask.expand(len(frames), -1, -1)  # painted one by one, or a clip's blur is held several times over
        painted = torch.cat([paint(f[None], m[None], style, strength, feather, grey_level, blur, ink, line_width, threshold) for f, m in zip(frames, masks)])
        return io.NodeOutput(torch.cat((painted, image[..., 3:]), dim=-1) if image.shape[-1] == 4 else painted)


class CLIPImageFeaturesNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidCLIPImageFeatures",
            display_name="CLIP Image Features",
            category=CATEGORY,
            description="What CLIP sees in a picture, as CLIP Vision Encode gives it, but from the CLIP of this pack, and always of the whole picture.",
            search_aliases=["clip vision encode"],
            inputs=[Clip.Input("clip", tooltip="From CLIP Loader (both towers) or CLIP from Host Models."),
                    io.Image.Input("image", tooltip="A picture, or the frames of a clip, squashed to CLIP's square. Transparency is ignored.")],
            outputs=[io.ClipVisionOutput.Output(display_name="clip_vision_output", tooltip="For SSG Adapter Apply, or any node that takes CLIP vision.")],
        )

    @classmethod
    def execute(cls, clip, image) -> io.NodeOutput:
        return io.NodeOutput(encode(clip, rgb("image", image)))
