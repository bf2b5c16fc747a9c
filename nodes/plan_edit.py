"""Plans edited: cut, slowed, held, re-timed and resized; joined, blended and swapped."""

import torch
from comfy_api.latest import io

from ..kernels.plan_mixing import blend, join
from ..kernels.semantic_plan import check, cut, play, resize, retime
from ..kernels.semantic_plan import hold as held  # a widget has the name
from .common import PLANS, Plan

OPERATIONS = ("join", "blend", "swap")


def seconds_input(name: str, tooltip: str, advanced: bool = False):
    return io.Float.Input(
        name, default=0.0, min=0.0, max=100000.0, step=0.01, round=False, advanced=advanced, tooltip=tooltip
    )


class PlanEditNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPlanEdit",
            display_name="Edit Plan",
            category=PLANS,
            description="Changes a plan, in this order: cut to start and end, played at speed, its last moment held, "
            "then another rate and another number of tokens. As it comes, nothing is changed.",
            search_aliases=["cut plan", "trim plan", "retime plan", "hold", "speed", "resize plan", "SemanticGen"],
            inputs=[
                Plan.Input("plan", tooltip="The plan to change."),
                seconds_input("start", "Second at which the part that is kept begins. Higher drops more."),
                seconds_input("end", "Second at which it ends; lower drops more, 0 is the plan's own end."),
                io.Float.Input(
                    "speed",
                    default=1.0,
                    min=0.01,
                    max=100.0,
                    step=0.01,
                    tooltip="Higher shows the same in less time: 2 in half the seconds, 0.5 in twice as many.",
                ),
                seconds_input("hold", "Seconds for which the last token frame stays. Higher makes the plan longer."),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.01,
                    round=False,
                    tooltip="Token frames a second, over the same seconds: higher has more of them. 0 keeps the "
                    "plan's.",
                ),
                io.Int.Input(
                    "rows",
                    default=0,
                    min=0,
                    max=1024,
                    advanced=True,
                    tooltip="Rows of tokens in a frame: higher has more. 0 keeps the plan's.",
                ),
                io.Int.Input(
                    "columns",
                    default=0,
                    min=0,
                    max=1024,
                    advanced=True,
                    tooltip="Columns of tokens in a frame: higher has more. 0 keeps the plan's.",
                ),
            ],
            outputs=[Plan.Output(display_name="plan", tooltip="The changed plan.")],
        )

    @classmethod
    def execute(cls, plan, start=0.0, end=0.0, speed=1.0, hold=0.0, fps=0.0, rows=0, columns=0) -> io.NodeOutput:
        check(plan)
        plan = held(play(cut(plan, start, end), speed), hold)
        plan = retime(plan, fps or plan.fps)
        return io.NodeOutput(resize(plan, rows or plan.tokens.shape[1], columns or plan.tokens.shape[2]))


class PlanCombineNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPlanCombine",
            display_name="Combine Plans",
            category=PLANS,
            description="Makes one plan of two of the same encoder, rate and size. join: the second after the first. "
            "blend: the first moved towards the second. swap: a span of the first becomes that of the second.",
            search_aliases=["join plans", "blend plans", "swap plans", "mix", "concatenate", "SemanticGen"],
            inputs=[
                Plan.Input("plan", tooltip="The first plan; its length stays with blend and swap."),
                Plan.Input("other", tooltip="The second plan."),
                io.Combo.Input(
                    "operation",
                    options=list(OPERATIONS),
                    default="join",
                    tooltip="join: one after the other. blend: both at once, by amount. swap: the second instead of "
                    "the first, from start to end.",
                ),
                io.Float.Input(
                    "amount",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="For blend: higher is more of the second; 0 is the first alone, 1 the second.",
                ),
                seconds_input(
                    "start", "For blend and swap: second at which it begins. Higher keeps more of the first."
                ),
                seconds_input("end", "For blend and swap: second at which it ends, higher takes more; 0: at the end."),
                seconds_input(
                    "fade",
                    "Seconds over which one goes over into the other; higher is softer. With join they overlap for as "
                    "long.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="For blend and swap: where in the picture, one for all frames or several spread over the "
                    "plan.",
                ),
            ],
            outputs=[Plan.Output(display_name="plan", tooltip="One plan of both.")],
        )

    @classmethod
    def execute(
        cls, plan, other, operation="join", amount=0.5, start=0.0, end=0.0, fade=0.0, mask=None
    ) -> io.NodeOutput:
        check(plan)
        check(other, "other")
        if operation == "join":
            return io.NodeOutput(join(plan, other, fade))
        if mask is not None:
            mask = mask.float().reshape(-1, *mask.shape[-2:])
            if 0 in mask.shape or not torch.isfinite(mask).all():
                raise ValueError("mask: empty, NaN or infinite. Check the node that made it.")
        return io.NodeOutput(blend(plan, other, 1.0 if operation == "swap" else amount, start, end, fade, mask))
