"""Long clips at linear cost: temporal windows inside the model."""

from comfy_api.latest import io

from ..host.schedule import Interval
from ..kernels.swin_renderer import Anchors
from ..patches.swin_renderer import SwinRenderer, apply
from .common import strength_start_end


class SwinRendererNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidSwinRenderer",
            display_name="Swin Renderer",
            category="semantic video/long video",
            description="Renders clips longer than the model was trained on, in one pass and at a cost that grows with "
            "their length, not with its square: each block attends within windows of time, and every other block "
            "shifts them by half, so that neighbours stay in touch. After SemanticGen (arXiv 2512.20619); anchors "
            "after LVSA (arXiv 2605.31057). Clips that fit into one window are untouched.",
            search_aliases=["long video", "window attention", "SemanticGen", "LVSA", "sliding window"],
            inputs=[
                io.Model.Input("model", tooltip="A model of Wan, HunyuanVideo, MiniMax H3 or LTX."),
                io.Int.Input(
                    "window",
                    default=0,
                    min=0,
                    max=1024,
                    step=1,
                    tooltip="Length of a window in latent frames (4 video frames each, 8 on LTX); even, so that it can "
                    "shift. Higher sees further and costs more. 0 chooses what suits the model and the anchors: just "
                    "above the trained length without anchors (22 for Wan, 34 for HunyuanVideo, 110 for MiniMax "
                    "H3, 20 seconds for LTX-2), 20 with the first frame, 12 "
                    "with rotating anchors on Wan.",
                ),
                io.Boolean.Input(
                    "shift",
                    default=True,
                    tooltip="Shift the windows by half on every other block. Off, the video falls apart into "
                    "independent pieces.",
                ),
                io.Combo.Input(
                    "anchors",
                    options=list(Anchors.__args__),
                    default="none",
                    tooltip="Latent frames that all windows see besides their own, to hold subject and style together: "
                    "the first frame, or every n-th frame, moving on by one with each step. They need a window below "
                    "the trained length; window 0 sees to it.",
                ),
                io.Int.Input(
                    "anchor_interval",
                    default=0,
                    min=0,
                    max=1024,
                    advanced=True,
                    tooltip="For rotating anchors: one in so many latent frames is an anchor. Higher means fewer "
                    "anchors. 0 takes as many as anchor_budget allows.",
                ),
                io.Int.Input(
                    "anchor_budget",
                    default=0,
                    min=0,
                    max=1024,
                    advanced=True,
                    tooltip="How many latent frames a window and its anchors may have together. Higher allows more "
                    "anchors, but more frames than the model was trained on blur the picture. 0 takes the trained "
                    "length: 21 for Wan, 31 for Wan 2.2 5B, 33 for HunyuanVideo, 107 for MiniMax H3, 63 for "
                    "LTX-2 at 25 fps.",
                ),
                io.String.Input(
                    "dense_blocks",
                    default="",
                    advanced=True,
                    tooltip="Blocks that keep full attention, such as 0-3,38. More blocks tie the video together "
                    "better and cost more. HunyuanVideo's single blocks are counted on from its double blocks.",
                ),
                *strength_start_end(
                    "How much of windowed attention to use: 1 is windows only; below 1 blends in full attention, which "
                    "then has to be computed as well."
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, rendering in windows.")],
        )

    @classmethod
    def execute(
        cls, model, window, shift, anchors, anchor_interval, anchor_budget, dense_blocks, strength, start, end
    ) -> io.NodeOutput:
        config = SwinRenderer(
            window, shift, anchors, anchor_interval, anchor_budget, dense_blocks, strength, Interval(start, end)
        )
        return io.NodeOutput(apply(model, config))
