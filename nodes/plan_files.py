"""Plans kept in files: written to output/plans, read from there and from ComfyUI's input folder."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..host.target_file import target_file
from ..patches.plan_file import load_plan, save_plan
from .common import PLANS, Plan, stamp

FOLDER, IN_OUTPUT = "plans", " [output]"
MOST_FILES = 99999


def plan_names() -> list[str]:
    """Files in the input folder and its folder plans, then those in output/plans, marked as ComfyUI marks them."""
    inputs, outputs = Path(folder_paths.get_input_directory()), Path(folder_paths.get_output_directory())
    given = [*inputs.glob("*.safetensors"), *(inputs / FOLDER).rglob("*.safetensors")]
    made = (outputs / FOLDER).rglob("*.safetensors")
    names = sorted(path.relative_to(inputs).as_posix() for path in given)
    return [*names, *sorted(f"{path.relative_to(outputs).as_posix()}{IN_OUTPUT}" for path in made)]


def plan_path(name: str) -> Path:
    """Raises ValueError for names that no file in those folders can have."""
    if name not in plan_names():
        raise ValueError(
            f"plan_name '{name[:80]}': no such file. Put it into ComfyUI's input folder, or save one with Save Plan, "
            "and refresh."
        )
    return Path(folder_paths.get_annotated_filepath(name))


class PlanSaveNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPlanSave",
            display_name="Save Plan",
            category=PLANS,
            description="Writes a plan to output/plans, with its rate and the name of its encoder. Load Plan reads it.",
            search_aliases=["export plan", "SemanticGen"],
            is_output_node=True,
            inputs=[
                Plan.Input("plan", tooltip="The plan to keep."),
                io.String.Input(
                    "filename",
                    default="plan",
                    tooltip="Name in output/plans, with / for folders. A number is appended: nothing is overwritten.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="plan_name", tooltip="The file's name in the list of Load Plan: plans/... [output]."
                )
            ],
        )

    @classmethod
    def execute(cls, plan, filename="plan") -> io.NodeOutput:
        outputs = Path(folder_paths.get_output_directory())
        target_file(outputs / FOLDER, filename)  # refuses the name as it was given
        for number in range(1, MOST_FILES + 1):
            path = target_file(outputs / FOLDER, f"{filename}_{number:05}")
            if not path.exists():
                break
        save_plan(plan, path)
        relative = path.relative_to(outputs.resolve())
        saved = {"filename": path.name, "subfolder": relative.parent.as_posix(), "type": "output"}
        return io.NodeOutput(f"{relative.as_posix()}{IN_OUTPUT}", ui={"plans": [saved]})


class PlanLoadNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPlanLoad",
            display_name="Load Plan",
            category=PLANS,
            description="Reads a plan that Save Plan wrote, from output/plans or from ComfyUI's input folder.",
            search_aliases=["import plan", "SemanticGen"],
            inputs=[
                io.Combo.Input(
                    "plan_name",
                    options=plan_names(),
                    tooltip="A file in the input folder, or in output/plans. Refresh after saving one.",
                )
            ],
            outputs=[Plan.Output(display_name="plan", tooltip="The plan as it was saved.")],
        )

    @classmethod
    def fingerprint_inputs(cls, plan_name: str):
        """Read again when the file has changed."""
        path = Path(folder_paths.get_annotated_filepath(plan_name))
        return stamp(path) if path.is_file() else plan_name

    @classmethod
    def execute(cls, plan_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_plan(plan_path(plan_name)))
