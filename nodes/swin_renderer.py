"""Long clips at linear cost: temporal windows inside the model."""

from comfy_api.latest import io

from ..host.schedule import Interval
from ..kernels.swin_renderer import Anchors
from ..patches.swin_config import Order, Sound
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
            "shifts them by half, so that neighbours stay in touch. For one story over the whole video set anchors to "
            "rotating and time_scale to 0; for several events at normal speed connect a Prompt Timeline. After "
            "SemanticGen (arXiv 2512.20619); anchors after LVSA (arXiv 2605.31057).",
            search_aliases=["long video", "window attention", "SemanticGen", "LVSA", "sliding window"],
            inputs=[
                io.Model.Input("model", tooltip="A model of Wan, HunyuanVideo, MiniMax H3 or LTX."),
                io.Int.Input(
                    "window",
                    default=0,
                    min=0,
                    max=1024,
                    step=2,  # an odd one cannot shift
                    tooltip="Length of a window in latent frames (4 video frames each, 8 on LTX); even, so that it can "
                    "shift. Higher sees further and costs more. 0 chooses what suits the model and the anchors: just "
                    "above the trained length without anchors (22 for Wan, 34 for HunyuanVideo, 110 for MiniMax H3, 20 "
                    "seconds for LTX-2), 20 with the first frame, 12 with rotating anchors on Wan, 22 where time_scale "
                    "compresses. With a Prompt Timeline: the longest that a span stays whole.",
                ),
                io.Boolean.Input(
                    "shift",
                    default=True,
                    tooltip="Shift the windows by half on every other block. Off, the video falls apart into "
                    "independent pieces. Windows that follow a Prompt Timeline never shift.",
                ),
                io.Combo.Input(
                    "anchors",
                    options=list(Anchors.__args__),
                    default="none",
                    tooltip="Latent frames that all windows see besides their own, to hold subject and style together: "
                    "the first frame, or every n-th frame, moving on by one with each step. They need a window below "
                    "anchor_budget; window 0 sees to it.",
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
                    "length (21 for Wan, 31 for Wan 2.2 5B, 33 for HunyuanVideo, 107 for MiniMax H3, 63 for LTX-2 at "
                    "25 fps), or twice that where time_scale compresses.",
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
                io.Float.Input(
                    "time_scale",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    round=0.0001,
                    optional=True,
                    tooltip="Moves latent frames closer together in the model's sense of time, so that a long video "
                    "spans what it was trained on and tells its prompt once, in slow motion. Lower is closer; 1 leaves "
                    "time as it is; 0 is automatic: just the trained length. Use it with rotating anchors (window and "
                    "budget at 0 then suit it), or with window 1024 for full attention. Not on LTX-2, whose sound "
                    "keeps its own time.",
                ),
                io.Int.Input(
                    "look_back",
                    default=-1,
                    min=-1,
                    max=64,
                    advanced=True,
                    optional=True,
                    tooltip="How many latent frames before its own each window also sees. Higher ties windows "
                    "together more and costs more. -1 is automatic: 1 where windows follow a Prompt Timeline, "
                    "otherwise none.",
                ),
                io.Int.Input(
                    "trained",
                    default=0,
                    min=0,
                    max=1024,
                    advanced=True,
                    optional=True,
                    tooltip="For a model that was retrained on another length: that length in latent frames, which "
                    "all automatic values here follow. Higher means longer windows and less compressed time. 0 takes "
                    "the model family's: 21 for Wan, 33 for HunyuanVideo.",
                ),
                io.Int.Input(
                    "lead_in",
                    default=0,
                    min=0,
                    max=64,
                    advanced=True,
                    optional=True,
                    tooltip="Wan and HunyuanVideo, with a Prompt Timeline: this many latent frames before each window "
                    "go through the model with it and are dropped, so that none begins like a new video. Higher gives "
                    "cleaner first frames and costs more; start with 2. Above 0 windows run one by one, as ComfyUI's "
                    "context windows do, and this takes the place of look_back.",
                ),
                io.Int.Input(
                    "blend",
                    default=0,
                    min=0,
                    max=64,
                    advanced=True,
                    optional=True,
                    tooltip="With a Prompt Timeline: how many latent frames on either side of a border are blended "
                    "from both its windows. Higher makes softer borders, and events that come less surely. "
                    "Above 0 windows run one by one, as with lead_in.",
                ),
                io.Float.Input(
                    "lead_noise",
                    default=0.25,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    optional=True,
                    tooltip="Noise of the lead-in, relative to its window's: 0.25 is a quarter, 1 is the same. It "
                    "then shows what the window before has made so far. Lower tells a window better where things are, "
                    "so that they jump less at its border.",
                ),
                io.Combo.Input(
                    "sound",
                    options=list(Sound.__args__),
                    default="whole",
                    advanced=True,
                    optional=True,
                    tooltip="LTX-2 only. windows: the sound's own attention, and those between sound and video, keep "
                    "to the video's windows of time, so that beyond 20 s nothing is further apart than in training. "
                    "whole: they see all of the video's length.",
                ),
                io.Combo.Input(
                    "order",
                    options=list(Order.__args__),
                    default="together",
                    advanced=True,
                    optional=True,
                    tooltip="With lead_in: one after another finishes each window before the next begins, which then "
                    "continues from finished frames: objects jump less at its border (on a small test model at more "
                    "than a third of the borders, together at half). together takes each step in all windows.",
                ),
                io.Float.Input(
                    "lead_guidance",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    optional=True,
                    tooltip="With lead_in and CFG above 1: how much noise hides the lead-in from the negative prompt, "
                    "so that CFG pulls toward the frames before. Near 1 objects jump less at borders, but fewer "
                    "events come; 0 is off, and little happens up to 0.5. On a small test model 0.85 with 3 restarts "
                    "left jumps at a quarter of the borders; 0.80 of the events came, 0.86 without.",
                ),
                io.Int.Input(
                    "restarts",
                    default=0,
                    min=0,
                    max=16,
                    advanced=True,
                    optional=True,
                    tooltip="With order one after another: how often each window but the first returns to high noise "
                    "and repeats those steps, to fit the frames before it better. Higher fits more surely and costs "
                    "more: each repeats the steps between noise levels 0.97 and 0.85.",
                ),
                io.Int.Input(
                    "candidates",
                    default=1,
                    min=1,
                    max=16,
                    advanced=True,
                    optional=True,
                    tooltip="With order one after another: each window but the first is tried with this many noises, "
                    "and the one that continues the frames before it best is kept. Higher leaves fewer jumps at "
                    "borders and costs more: each try takes the steps down to noise level 0.8. On a small test model "
                    "4, with lead_guidance 0.5, let 0.73 of the borders hold, 0.61 without, in 2.4 times the time, "
                    "for at most a few events in a hundred. 1 is off.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, rendering in windows.")],
        )

    @classmethod
    def execute(
        cls,
        model,
        window,
        shift,
        anchors,
        anchor_interval,
        anchor_budget,
        dense_blocks,
        strength,
        start,
        end,
        time_scale=1.0,
        look_back=-1,
        trained=0,
        lead_in=0,
        blend=0,
        lead_noise=0.25,
        sound="whole",
        order="together",
        lead_guidance=0.0,
        restarts=0,
        candidates=1,
    ) -> io.NodeOutput:
        config = SwinRenderer(
            window,
            shift,
            anchors,
            anchor_interval,
            anchor_budget,
            dense_blocks,
            strength,
            Interval(start, end),
            time_scale,
            look_back,
            trained,
            lead_in,
            blend,
            lead_noise,
            sound,
            order,
            lead_guidance,
            restarts,
            candidates,
        )
        return io.NodeOutput(apply(model, config))
