"""Less attention to the first frame in the first steps: DyMoS (arXiv 2605.19398)."""

from math import ceil

from comfy_api.latest import io

from ..host.schedule import Interval
from ..kernels.dymos import GAMMA, MIN_SIGMA
from ..patches.dymos import DyMoS, apply
from .common import GUIDANCE, min_sigma_input, strength_start_end


class DyMoSNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidDyMoS",
            display_name="DyMoS",
            category=GUIDANCE,
            description="Makes an image-to-video model move more, by letting it look less at its first frame in the "
            "noisiest steps; or, with a negative gamma, holds it to that frame. After DyMoS (arXiv 2605.19398). It "
            "acts on the positive prompt's pass. Attention backends that take no masks (Sage, Flash) fall back to "
            "PyTorch's in those steps.",
            search_aliases=["motion", "dynamic", "I2V", "first frame", "arXiv 2605.19398"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A model of Wan, HunyuanVideo or LTX. "
                    "Wan 2.2: its low-noise model has no step above the default "
                    "min_sigma, so only the high-noise model needs the node.",
                ),
                io.Float.Input(
                    "gamma",
                    default=GAMMA,
                    min=-5.0,
                    max=5.0,
                    step=0.05,
                    tooltip="Higher looks less at the first frame and moves more; below 0 binds to it. 0.6 is "
                    "published for Wan 2.2 I2V 14B; other models have no published value.",
                ),
                min_sigma_input(
                    ceil(MIN_SIGMA * 1000) / 1000, "0.953 keeps the published steps, 0 to 7 of 40 at shift 5."
                ),
                *strength_start_end("How much of gamma to use: 1 is all of it."),
            ],
            outputs=[io.Model.Output(tooltip="The model, looking less at its first frame.")],
        )

    @classmethod
    def execute(cls, model, gamma, min_sigma, strength, start, end) -> io.NodeOutput:
        return io.NodeOutput(apply(model, DyMoS(gamma, strength, Interval(start, end, min_sigma))))
