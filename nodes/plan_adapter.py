"""Plan Adapter: a video that follows a semantic plan."""

import folder_paths
from comfy_api.latest import io

from ..host.schedule import Interval
from ..patches.plan_adapter import Passes, PlanGuide, apply
from ..patches.plan_weights import load_plan_adapter
from .common import (
    DTYPES,
    MODEL_PATCHES,
    PLANS,
    Plan,
    PlanAdapter,
    model_file,
    model_stamp,
    strength_start_end,
    weight_dtype,
)


class PlanAdapterLoaderNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPlanAdapterLoader",
            display_name="Plan Adapter Loader",
            category=PLANS,
            description="Loads a Plan Adapter: weights through which the model they were trained for follows semantic "
            "plans. None has been published; train one with Plan Adapter Train.",
            search_aliases=["SemanticGen"],
            inputs=[
                io.Combo.Input(
                    "adapter_name",
                    options=folder_paths.get_filename_list(MODEL_PATCHES),
                    tooltip="A plan adapter in models/model_patches.",
                ),
                weight_dtype(),
            ],
            outputs=[PlanAdapter.Output(display_name="adapter", tooltip="For Plan Adapter Apply.")],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter_name: str | None, **_):
        """Read again when the file has changed."""
        return model_stamp(MODEL_PATCHES, adapter_name)

    @classmethod
    def execute(cls, adapter_name: str, weight_dtype: str = "default") -> io.NodeOutput:
        return io.NodeOutput(load_plan_adapter(model_file(MODEL_PATCHES, adapter_name), DTYPES[weight_dtype]))


class PlanAdapterApplyNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPlanAdapterApply",
            display_name="Plan Adapter Apply",
            category=PLANS,
            description="Lets the video follow a plan: each frame looks at the plan around its own time. With Swin "
            "Renderer, before or behind it, windows of a long video tell one story.",
            search_aliases=["SemanticGen", "long video", "story"],
            inputs=[
                io.Model.Input("model", tooltip="The model the adapter was trained for, in windows or not."),
                PlanAdapter.Input("adapter", tooltip="From the Plan Adapter Loader."),
                Plan.Input(
                    "plan",
                    tooltip="From Semantic Planner, or from Semantic Encoder with the compressor that was trained "
                    "with the adapter, with as many rows and columns as in training (Edit Plan).",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.01,
                    tooltip="0 spreads the plan over the whole video, whatever its length. Above, the video's frames "
                    "per second: higher makes the video shorter in seconds, and plan and video must be equally long.",
                ),
                io.Combo.Input(
                    "passes",
                    options=list(Passes.__args__),
                    default=Passes.__args__[0],
                    advanced=True,
                    tooltip="Which CFG passes see the plan. both: positive and negative, as trained. conditional: "
                    "positive only, so CFG strengthens it.",
                ),
                *strength_start_end(
                    "How strongly the plan is followed: 1 is as trained, higher exaggerates.", maximum=2.0
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, following the plan.")],
        )

    @classmethod
    def execute(cls, model, adapter, plan, fps=0.0, passes="both", strength=1.0, start=0.0, end=1.0) -> io.NodeOutput:
        return io.NodeOutput(apply(model, adapter, PlanGuide(plan, strength, fps, passes, Interval(start, end))))
