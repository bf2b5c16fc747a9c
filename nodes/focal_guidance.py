"""Keywords of the prompt made louder in the blocks that need it."""

from comfy_api.latest import io

from ..host.schedule import Interval
from ..kernels.focal_guidance import Fit
from ..kernels.keywords import parse
from ..patches.focal_guidance import CacheOf, FocalGuidance, apply
from .common import GUIDANCE, strength_start_end


class FocalGuidanceNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidFocalGuidance",
            display_name="Focal Guidance",
            category=GUIDANCE,
            description="Makes keywords of the prompt louder inside the model, in blocks of your choice: for image to "
            "video that ignores its prompt, at no extra pass, so also at CFG 1 with distilled LoRAs. After Focal "
            "Guidance (arXiv 2601.07287), whose formulas and constants are not published. What we measured on small "
            "models: on one that ignores its prompt keyword_weight 3 helps (0.43 to 0.66), on an ordinary one it is "
            "too much, and 1.5 beside Text Contrast is best (0.74 to 0.83). The cache above 0 made prompts be followed "
            "less.",
            search_aliases=["prompt adherence", "prompt weighting", "attention", "keyword", "semantic weak layers"],
            is_experimental=True,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A model of Wan (of 2.2, both experts, each its own), HunyuanVideo, MiniMax H3 or LTX; on "
                    "LTX-2 without keywords.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The CLIP that encoded the prompt. Needed for everything but the cache.",
                ),
                io.String.Input("text", multiline=True, default="", tooltip="The positive prompt, word for word."),
                io.String.Input(
                    "keywords",
                    default="",
                    tooltip="Words or phrases of the prompt to make louder, separated by commas. Empty: all that a "
                    "stop list leaves of an English prompt, nouns, verbs and adjectives. Fewer words gain more.",
                ),
                io.Float.Input(
                    "keyword_weight",
                    default=3.0,
                    min=0.1,
                    max=20.0,
                    step=0.1,
                    tooltip="How many times as much attention keywords get, against all else. Higher is followed more "
                    "and can break shapes: 3 for a model that ignores its prompt, 1.5 for one that mostly follows it; "
                    "1 is as the model has it. Whole numbers (with strength 1) suit fast attention backends.",
                ),
                io.Mask.Input(
                    "region",
                    optional=True,
                    tooltip="Where in the video to act: one for all frames or one per frame, in the video's "
                    "proportions (for example from CLIP Spatial Mask). In our measurements no better than none. On "
                    "HunyuanVideo it doubles the attention of these blocks.",
                ),
                io.Float.Input(
                    "cache",
                    default=0.0,
                    min=-1.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much of the attention map of the last source block replaces the block's own; below 0 "
                    "moves away from it. Measured: 0.06 to 0.12 worse above 0; slightly below 0 better by 0.05, at the "
                    "cost of the first frame. 0 is off.",
                ),
                io.String.Input(
                    "blocks",
                    default="",
                    tooltip="Blocks to act in, such as 0,2-4: weak_blocks of the Semantic Layer Probe. Empty: all.",
                ),
                io.String.Input(
                    "source_blocks",
                    default="",
                    tooltip="For the cache: blocks whose maps are carried on, responsive_blocks of the probe. Each "
                    "weak block needs one before it.",
                ),
                io.Float.Input(
                    "anchor",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Wan 2.1 I2V: how much of the start image's features in the region joins the keywords' "
                    "own. Higher ties words to what the image shows. Measured: no gain, or harm. 0 is off.",
                ),
                io.Combo.Input(
                    "clip_fit",
                    options=list(Fit.__args__),
                    default=Fit.__args__[0],
                    advanced=True,
                    tooltip="For anchor: the crop that CLIP Vision Encode was set to (none is squash, center is center "
                    "crop).",
                ),
                *strength_start_end(
                    "How much of all this: an exponent of keyword_weight, a factor of cache and anchor."
                ),
                io.Combo.Input(
                    "cache_of",
                    options=list(CacheOf.__args__),
                    default=CacheOf.__args__[0],
                    optional=True,
                    advanced=True,
                    tooltip="For the cache. keywords: only how attention is shared out between the keywords, as in the "
                    "source blocks on average; all else, padding too, keeps what it has. Needs two keywords or more.",
                ),
                io.Boolean.Input(
                    "per_cfg",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="On, strength is divided by the sampler's CFG, which multiplies it. Off, at CFG 4 it cost "
                    "the first frame 2 dB beside Text Contrast, and gained nothing. At CFG 1 there is no difference.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, hearing its keywords.")],
        )

    @classmethod
    def execute(
        cls,
        model,
        text="",
        keywords="",
        keyword_weight=3.0,
        cache=0.0,
        blocks="",
        source_blocks="",
        anchor=0.0,
        clip_fit="squash",
        strength=1.0,
        start=0.0,
        end=1.0,
        cache_of="whole map",
        per_cfg=True,
        clip=None,
        region=None,
    ) -> io.NodeOutput:
        config = FocalGuidance(
            text=text,
            keywords=tuple(parse(keywords)),
            weight=keyword_weight,
            region=None if region is None else region.reshape(-1, *region.shape[-2:]),
            anchor=anchor,
            fit=clip_fit,
            cache=cache,
            blocks=blocks,
            source_blocks=source_blocks,
            cache_of=cache_of,
            strength=strength,
            interval=Interval(start, end),
            per_cfg=per_cfg,
        )
        return io.NodeOutput(apply(model, clip, config))
