"""Sharper cross-attention in the first steps: AlignVid (arXiv 2512.01334)."""

from comfy_api.latest import io

from ..host.schedule import Interval
from ..kernels.alignvid import GAMMA, MIN_SIGMA
from ..patches.alignvid import AlignVid, apply
from .common import GUIDANCE, min_sigma_input, strength_start_end


class AlignVidNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidAlignVid",
            display_name="AlignVid",
            category=GUIDANCE,
            description="Makes an image-to-video model listen to its prompt in the noisiest steps, by sharpening its "
            "attention to text and image. After AlignVid (arXiv 2512.01334), at no cost, at any CFG.",
            search_aliases=["prompt adherence", "I2V", "attention scaling", "arXiv 2512.01334"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A model of Wan, HunyuanVideo, MiniMax H3 or LTX. "
                    "Wan 2.2: its low-noise model has no step above the default "
                    "min_sigma, so only the high-noise model needs the node.",
                ),
                io.Float.Input(
                    "gamma",
                    default=GAMMA,
                    min=0.5,
                    max=3.0,
                    step=0.05,
                    tooltip="How sharp: 1 changes nothing, higher looks at fewer words and image parts. 1.35 is "
                    "published for Wan 2.1 I2V 14B and FramePack; other models have no published value. With an image "
                    "branch (Wan 2.1 I2V) the text is sharpened by gamma squared, as in the published code.",
                ),
                io.String.Input(
                    "blocks",
                    default="auto",
                    advanced=True,
                    tooltip="Blocks in which it acts, such as 0-3,38; more blocks act more. auto: the published ones "
                    "on a Wan of 40 blocks and on a HunyuanVideo of 60 (FramePack's), and all blocks of other models, "
                    "which have no published list. HunyuanVideo's single blocks are counted on from its double blocks.",
                ),
                min_sigma_input(MIN_SIGMA, "0.9 is published."),
                *strength_start_end("How much of gamma to use: 1 is all of it."),
            ],
            outputs=[io.Model.Output(tooltip="The model, with sharper attention.")],
        )

    @classmethod
    def execute(cls, model, gamma, blocks, min_sigma, strength, start, end) -> io.NodeOutput:
        return io.NodeOutput(apply(model, AlignVid(gamma, blocks, strength, Interval(start, end, min_sigma))))
