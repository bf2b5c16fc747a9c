"""Semantic Planner: a long video's plan from text alone."""

import folder_paths
from comfy_api.latest import io

from ..patches.plan_weights import load_planner
from ..patches.planner import PlanRequest, sample
from ..patches.semantic_plan import preview
from .common import DTYPES, MODEL_PATCHES, PLANS, Plan, Planner, model_file, model_stamp, weight_dtype


class PlannerLoadNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPlannerLoad",
            display_name="Semantic Planner Loader",
            category=PLANS,
            description="Loads a Semantic Planner: a small model that draws the plan of a whole video from a prompt. "
            "None has been published; train one with Semantic Planner Train.",
            search_aliases=["SemanticGen", "plan model"],
            inputs=[
                io.Combo.Input(
                    "planner_name",
                    options=folder_paths.get_filename_list(MODEL_PATCHES),
                    tooltip="A planner in models/model_patches.",
                ),
                weight_dtype(),
            ],
            outputs=[Planner.Output(display_name="planner", tooltip="For Semantic Planner.")],
        )

    @classmethod
    def fingerprint_inputs(cls, planner_name: str | None, **_):
        """Read again when the file has changed."""
        return model_stamp(MODEL_PATCHES, planner_name)

    @classmethod
    def execute(cls, planner_name: str, weight_dtype: str = "default") -> io.NodeOutput:
        return io.NodeOutput(load_planner(model_file(MODEL_PATCHES, planner_name), DTYPES[weight_dtype]))


class PlannerSampleNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPlannerSample",
            display_name="Semantic Planner",
            category=PLANS,
            description="Draws the plan of a whole video from a prompt, or from a timeline of prompts: every token "
            "sees the whole video, so that what is told later fits what came before. Plan Adapter Apply renders it. "
            "After SemanticGen (arXiv 2512.20619).",
            search_aliases=["SemanticGen", "long video", "story", "plan"],
            inputs=[
                Planner.Input("planner", tooltip="From the Semantic Planner Loader."),
                io.Conditioning.Input(
                    "positive",
                    tooltip="What happens: one prompt, or a timeline (Prompt Timeline, Timeline Span), of which each "
                    "token frame reads its own span. Of the text encoder that the planner was trained with.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What should not happen; usually the empty prompt. Without it cfg does nothing.",
                ),
                io.Float.Input(
                    "seconds",
                    default=5.0,
                    min=0.1,
                    max=3600.0,
                    step=0.01,
                    tooltip="Length of the video. Higher plans a longer one; far beyond what it was trained on, a "
                    "planner repeats itself.",
                ),
                io.Int.Input(
                    "steps",
                    default=30,
                    min=1,
                    max=1000,
                    tooltip="Higher draws more carefully and takes longer.",
                ),
                io.Float.Input(
                    "cfg",
                    default=4.0,
                    min=1.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Higher follows the prompt more closely. 1 leaves the negative prompt out, in half the "
                    "time.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of the noise. Another number gives another plan.",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Token frames a second. Higher follows faster change; 0 is what the planner was trained "
                    "on, and best.",
                ),
                io.Int.Input(
                    "rows",
                    default=0,
                    min=0,
                    max=1024,
                    advanced=True,
                    tooltip="Tokens of a frame from top to bottom. Higher draws finer; 0 is what the planner was "
                    "trained on.",
                ),
                io.Int.Input(
                    "columns",
                    default=0,
                    min=0,
                    max=1024,
                    advanced=True,
                    tooltip="Tokens of a frame from left to right. Higher draws finer; 0 is what the planner was "
                    "trained on.",
                ),
                io.Float.Input(
                    "shift",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Higher spends more steps at high noise, where the story is decided; 0 is as trained.",
                ),
            ],
            outputs=[
                Plan.Output(display_name="plan", tooltip="For Plan Adapter Apply, Edit Plan or Save Plan."),
                io.Image.Output(display_name="preview", tooltip="A picture for each token frame."),
            ],
        )

    @classmethod
    def execute(
        cls, planner, positive, seconds, steps, cfg, seed, fps=0.0, rows=0, columns=0, shift=0.0, negative=None
    ) -> io.NodeOutput:
        request = PlanRequest(seconds, fps, rows, columns, steps, cfg, seed, shift)
        plan = sample(planner, positive, negative, request)
        return io.NodeOutput(plan, preview(plan))
