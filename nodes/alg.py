"""A blurred start image in the first steps: ALG (arXiv 2506.08456)."""

from comfy_api.latest import io

from ..host.schedule import Interval
from ..patches.alg import ALG, Guidance, apply
from .common import GUIDANCE, strength_start_end


class ALGNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidALG",
            display_name="ALG (low-pass start image)",
            category=GUIDANCE,
            description="Makes an image-to-video model move more, by blurring the start image that it sees in the "
            "noisiest steps. After adaptive low-pass guidance (ALG, arXiv 2506.08456). CLIP's view of the image stays "
            "sharp, as published.",
            search_aliases=["motion", "dynamic", "I2V", "blur", "adaptive low-pass guidance", "arXiv 2506.08456"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="Wan 2.1 / 2.2 I2V or HunyuanVideo with a start image. Wan 2.2: its low-noise model has no "
                    "step above the default min_sigma, so only the high-noise model needs the node.",
                ),
                io.Float.Input(
                    "factor",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.005,
                    tooltip="How much of the image's height and width is kept: lower blurs more, 1 not at all. 0 takes "
                    "the published one: 0.4 for Wan (2.1 I2V 14B), 0.625 for HunyuanVideo (I2V). Wan 2.2 and "
                    "HunyuanVideo 1.5 have no published value and get their family's.",
                ),
                io.Combo.Input(
                    "guidance",
                    options=list(Guidance.__args__),
                    default=Guidance.__args__[0],
                    tooltip="With CFG. two passes: positive and negative both see the blurred image, at no cost; a "
                    "variant of ours. three passes: as published, one more pass with the sharp image in the steps in "
                    "which it acts. At CFG 1 there is one pass, and this does not matter.",
                ),
                io.Float.Input(
                    "min_sigma",
                    default=-1.0,
                    min=-1.0,
                    max=1.0,
                    step=0.001,
                    advanced=True,
                    tooltip="Acts only at noise levels above this, whatever the schedule. Higher stops earlier, 0 "
                    "leaves it to start and end. -1 takes where the published steps end: 0.952 for Wan (0 to 0.20 of "
                    "50 steps at shift 5), 0.994 for HunyuanVideo (0 to 0.04 of 50 at shift 7).",
                ),
                *strength_start_end(
                    "How much of the blur to use: 1 is all of factor, lower brings factor nearer to 1."
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, seeing its start image blurred at first.")],
        )

    @classmethod
    def execute(cls, model, factor, guidance, min_sigma, strength, start, end) -> io.NodeOutput:
        lowest = None if min_sigma < 0 else min_sigma
        return io.NodeOutput(apply(model, ALG(factor, guidance, strength, Interval(start, end), lowest)))
