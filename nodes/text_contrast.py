"""What the prompt says here, not everywhere: for image-to-video at CFG 1."""

from comfy_api.latest import io

from ..host.schedule import Interval
from ..patches.text_contrast import TextContrast, apply
from .common import GUIDANCE, strength_start_end


class TextContrastNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidTextContrast",
            display_name="Text Contrast (experimental)",
            category=GUIDANCE,
            description="Makes an image-to-video model follow its prompt better, at the cost of one pass: what the "
            "prompt says to a place is emphasised against what it says to all places. Made for CFG 1 with distilled "
            "LoRAs. If you can afford CFG 2, it gains as much at twice the cost, and the two do not clearly add up; at "
            "CFG 4 the gain is not clear. No paper: our own, found on a small model.",
            search_aliases=["prompt adherence", "I2V", "lightning", "CFG 1", "focal guidance"],
            is_experimental=True,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A model of Wan, HunyuanVideo, MiniMax H3 or LTX. "
                    "Place this after LoRAs and shift, on both of Wan 2.2.",
                ),
                io.Boolean.Input(
                    "keep_norm",
                    default=True,
                    tooltip="On, each token keeps the strength of its text attention and only its direction changes: "
                    "the start image stays as it is. Off, the prompt is followed more, and the start image a little "
                    "less.",
                ),
                io.String.Input(
                    "blocks",
                    default="",
                    advanced=True,
                    tooltip="Blocks in which it acts, such as 0-3,38. More blocks act more. Empty: all of them, which "
                    "was best where it was measured.",
                ),
                *strength_start_end("How much contrast: higher follows the prompt more, above 1 costs objects.", 2.0),
                io.Boolean.Input(
                    "per_cfg",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="On, strength is divided by the sampler's CFG, which multiplies it. Off, at CFG 4 it cost "
                    "objects 0.05 and the first frame 0.6 dB, and gained nothing. At CFG 1 there is no difference.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, with contrast in its text attention.")],
        )

    @classmethod
    def execute(cls, model, keep_norm, blocks, strength, start, end, per_cfg=True) -> io.NodeOutput:
        return io.NodeOutput(apply(model, TextContrast(strength, keep_norm, blocks, Interval(start, end), per_cfg)))
