"""Prompts for spans of time: a long video that tells a story."""

from math import inf

from comfy_api.latest import io

from ..host.schedule import Interval
from ..kernels.prompt_timeline import Span, check_spans, parse_timeline
from ..patches.prompt_timeline import PromptTimeline, apply
from ..patches.timeline_text import encoded, joined, spoken_span, timeline_of
from .common import LONG_VIDEO, strength_start_end

STRENGTH = "How much a frame listens to its own span alone: lower lets in the texts of all spans, which costs time."


def model_input():
    return io.Model.Input(
        "model",
        tooltip="A model of Wan, HunyuanVideo, MiniMax H3 or LTX. Before or behind Swin Renderer, whose windows "
        "follow the spans.",
    )


def fps_and_hand_over() -> list:
    return [
        io.Float.Input(
            "fps",
            default=16.0,
            min=1.0,
            max=120.0,
            step=0.01,
            tooltip="Frames per second at which the video is saved: 16 for Wan, 24 for HunyuanVideo, Wan 2.2 5B and "
            "MiniMax H3, that of LTXVConditioning for LTX. Higher makes a span of the same seconds longer in frames.",
        ),
        io.Float.Input(
            "hand_over",
            default=0.0,
            min=0.0,
            max=10.0,
            step=0.05,
            advanced=True,
            tooltip="Seconds around a border over which both spans' texts are blended. Higher is softer. With windows "
            "even one latent frame of it cost events where it was measured, so 0 is the default.",
        ),
    ]


class PromptTimelineNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPromptTimeline",
            display_name="Prompt Timeline",
            category=LONG_VIDEO,
            description="Prompts for spans of time: each frame listens to the text of its span alone, so that events "
            "happen when they should. One line per span. In long videos use it together with Swin Renderer: on full "
            "attention alone it changes little. HunyuanVideo 1's pooled prompt has no place in time and is the mean "
            "of all spans'.",
            search_aliases=["prompt travel", "prompt schedule", "prompt relay", "story", "long video", "multi prompt"],
            inputs=[
                model_input(),
                io.Clip.Input("clip", tooltip="The CLIP that encodes the prompts, one by one."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="One line per span, in seconds: '0-2.5: a cat sits'. The last may leave its end open: "
                    "'5-: it sleeps'. A line 'all: ...' stands in front of every prompt; # begins a comment.",
                ),
                *fps_and_hand_over(),
                *strength_start_end(STRENGTH),
            ],
            outputs=[
                io.Model.Output(tooltip="The model, parting the texts of a timeline. It needs the conditioning too."),
                io.Conditioning.Output(tooltip="All texts with their times: the positive prompt."),
            ],
        )

    @classmethod
    def execute(cls, model, clip, text, fps, hand_over, strength, start, end) -> io.NodeOutput:
        config = PromptTimeline(fps, hand_over, strength, Interval(start, end))
        spans = parse_timeline(text)
        check_spans(spans, fps, hand_over)  # before anything is encoded
        timeline = encoded(clip, spans)
        return io.NodeOutput(apply(model, timeline, config), timeline)


class TimelineSpanNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidTimelineSpan",
            display_name="Timeline Span",
            category=LONG_VIDEO,
            description="Adds a span of time with a prompt of its own, encoded by any node, to a timeline. Chain one "
            "per span, in order; the last goes to Apply Prompt Timeline and to the sampler.",
            search_aliases=["prompt travel", "prompt schedule", "story", "prompt timeline"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="What happens in this span: the text of one prompt."),
                io.Float.Input(
                    "from_second",
                    default=0.0,
                    min=0.0,
                    max=36000.0,
                    step=0.05,
                    tooltip="Second of the video at which the span begins; the span before must end there. Higher is "
                    "later.",
                ),
                io.Float.Input(
                    "to_second",
                    default=0.0,
                    min=0.0,
                    max=36000.0,
                    step=0.05,
                    tooltip="Where it ends. Higher is later; 0 leaves it open, for the last span.",
                ),
                io.Conditioning.Input("timeline", optional=True, tooltip="The spans before it; empty for the first."),
            ],
            outputs=[io.Conditioning.Output(tooltip="The timeline up to the end of this span.")],
        )

    @classmethod
    def execute(cls, conditioning, from_second, to_second, timeline=None) -> io.NodeOutput:
        if timeline is not None:
            timeline_of(timeline)
        span = Span(from_second, to_second if to_second != 0 else inf)
        return io.NodeOutput(joined(timeline, spoken_span(conditioning, span)))


class PromptTimelineApplyNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPromptTimelineApply",
            display_name="Apply Prompt Timeline",
            category=LONG_VIDEO,
            description="Lets a model follow a timeline made elsewhere: by Timeline Span, or by Prompt Timeline for "
            "another model, such as the second one of Wan 2.2.",
            search_aliases=["prompt travel", "prompt schedule", "story", "Wan 2.2 low noise"],
            inputs=[
                model_input(),
                io.Conditioning.Input(
                    "timeline", tooltip="From Timeline Span or Prompt Timeline; connect it to the sampler too."
                ),
                *fps_and_hand_over(),
                *strength_start_end(STRENGTH),
            ],
            outputs=[io.Model.Output(tooltip="The model, parting the texts of a timeline.")],
        )

    @classmethod
    def execute(cls, model, timeline, fps, hand_over, strength, start, end) -> io.NodeOutput:
        return io.NodeOutput(apply(model, timeline, PromptTimeline(fps, hand_over, strength, Interval(start, end))))
