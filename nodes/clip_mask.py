"""CLIP Spatial Mask: where a text is in the frames (Attention Prompting on Image, arXiv 2409.17143)."""

from comfy_api.latest import io

from ..kernels.clip_mask import Fit, Fusion, Patches
from ..patches.clip_mask import SpatialMask, find, phrases_of, preview
from .common import SPATIAL_PROMPT as CATEGORY
from .common import Clip, rgb


class CLIPSpatialMaskNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidCLIPSpatialMask",
            display_name="CLIP Spatial Mask",
            category=CATEGORY,
            description="Finds in each frame what the text speaks of, with nothing but CLIP (Attention Prompting on "
            "Image, arXiv 2409.17143). Feeds Visual Prompt, or any node that takes a mask.",
            search_aliases=["attention prompting", "text to mask", "heat map", "segment"],
            inputs=[
                Clip.Input("clip", tooltip="From CLIP Loader (both towers) or CLIP from Host Models."),
                io.Image.Input("image", tooltip="A picture, or the frames of a clip. Transparency is ignored."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="What to find, in plain words, one phrase per line. Each line gives a mask of its own. "
                    "More than 75 tokens are read in parts.",
                ),
                io.Float.Input(
                    "contrast",
                    default=5.0,
                    min=0.1,
                    max=50.0,
                    step=0.5,
                    tooltip="Higher makes the mask more black and white, lower leaves soft edges. Published: 1 to 10.",
                ),
                io.Int.Input(
                    "filter",
                    default=3,
                    min=1,
                    max=31,
                    step=2,
                    tooltip="Side of a mean filter in patches, odd. Higher gives smoother, larger regions; 1 is none.",
                ),
                io.Float.Input(
                    "temporal_smoothing",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    tooltip="Higher steadies the mask over more frames (deviation of a Gaussian, in frames); fast "
                    "motion then smears. 0 is none.",
                ),
                io.Combo.Input(
                    "fit",
                    options=list(Fit.__args__),
                    default="squash",
                    tooltip="How a picture becomes CLIP's square. squash sees all of it at full resolution; letterbox "
                    "keeps its proportions; center crop is as published: it does not see the sides and stretches the "
                    "mask over them.",
                ),
                io.Combo.Input(
                    "fusion",
                    options=list(Fusion.__args__),
                    default="soft or",
                    advanced=True,
                    tooltip="How class map and patch map are joined. soft or (published) keeps what either marks, "
                    "product what both mark; the others show one map.",
                ),
                io.Int.Input(
                    "class_block",
                    default=-2,
                    min=-128,
                    max=127,
                    advanced=True,
                    tooltip="Block whose class attention is read, -1 is the last. Higher is closer to meaning, lower "
                    "to layout. -2 is published.",
                ),
                io.Int.Input(
                    "patch_block",
                    default=-2,
                    min=-128,
                    max=127,
                    advanced=True,
                    tooltip="Block after which the patches are read, -1 is the last. Higher is closer to meaning, "
                    "lower to layout. -2 is published.",
                ),
                io.Combo.Input(
                    "patches",
                    options=list(Patches.__args__),
                    default="negated",
                    optional=True,
                    advanced=True,
                    tooltip="Sign of the patch map. negated (published) suits OpenAI's CLIP; direct suits CLIPs "
                    "trained to describe each patch, with fusion product.",
                ),
            ],
            outputs=[
                io.Mask.Output(display_name="mask", tooltip="One per frame: the union of all lines."),
                io.Image.Output(display_name="heat_map", tooltip="The union over the frames, blue to red."),
                io.Mask.Output(
                    display_name="line_masks",
                    is_output_list=True,
                    tooltip="A list with one batch of masks per line of text.",
                ),
                io.Float.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="A list with CLIP's mean cosine between frames and text per line.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        clip,
        image,
        text,
        contrast=5.0,
        filter=3,
        temporal_smoothing=0.0,
        fit="squash",
        fusion="soft or",
        class_block=-2,
        patch_block=-2,
        patches="negated",
    ) -> io.NodeOutput:
        if filter % 2 == 0:
            raise ValueError(
                f"filter {filter}: must be odd, so that the mask does not shift. Use {filter - 1} or {filter + 1}."
            )
        frames = rgb("image", image)
        masks, scores = find(
            clip,
            frames,
            phrases_of(text),
            SpatialMask(class_block, patch_block, contrast, filter, fusion, fit, temporal_smoothing, patches),
        )
        return io.NodeOutput(masks.amax(0), preview(frames, masks), list(masks), scores.mean(1).tolist())
