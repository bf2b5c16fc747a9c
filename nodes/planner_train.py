"""Training a Semantic Planner on a folder of videos: training/planner.py, with ComfyUI's own loaders in front."""

from pathlib import Path

import comfy.model_management
import folder_paths
import torch
from comfy_api.latest import io

from ..host.vision import tower_of
from ..patches.plan_file import load_compressor
from ..patches.plan_weights import load_planner
from ..training.plan import Plan as TrainingPlan
from ..training.plan_folder import PlanFolder, Shape
from ..training.plan_videos import PlannerShape, train_planner_on_videos
from ..training.validation import PATIENCE
from .common import (
    MODEL_PATCHES,
    PLANS,
    Clip,
    Planner,
    Tower,
    described,
    folder_input,
    model_file,
    model_stamp,
    new_model_patch,
    number,
    plot,
    resume_input,
    training_stamp,
    validation_inputs,
)


class PlannerTrainNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPlannerTrain",
            display_name="Semantic Planner Train",
            category=PLANS,
            description="Trains a Semantic Planner on a folder of videos with captions: from a prompt it then draws "
            "the plan of a whole video. It starts from nothing, so it wants many videos; train the Plan Adapter first, "
            "whose compressor makes the plans. Videos are encoded once and kept; can be cancelled and resumed. Writes "
            "models/model_patches/<filename>.safetensors.",
            search_aliases=["SemanticGen", "plan model", "finetune"],
            is_output_node=True,
            is_experimental=True,
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the prompts it will read, from Load CLIP."),
                io.MultiType.Input(
                    "encoder",
                    types=[Tower, Clip, io.ClipVision, io.Clip],
                    tooltip="The vision tower that the compressor was trained on, as in Semantic Encoder.",
                ),
                io.Combo.Input(
                    "compressor_name",
                    options=folder_paths.get_filename_list(MODEL_PATCHES),
                    tooltip="What Plan Adapter Train has written beside the adapter: <filename>_compressor.",
                ),
                folder_input(),
                io.String.Input(
                    "filename", default="my_planner", tooltip="Name of the planner's file, without its ending."
                ),
                number(io.Int, "width", 832, 16, 8192, "As of the adapter. Higher makes larger plans.", 16),
                number(io.Int, "height", 480, 16, 8192, "As of the adapter. Higher makes larger plans.", 16),
                number(
                    io.Int, "length", 161, 5, 4097, "Frames from the start of each video, 4 n + 1. More plan longer.", 4
                ),
                number(io.Float, "fps", 16.0, 1.0, 240.0, "Frames per second to take. Higher shows less time.", 1.0),
                number(
                    io.Float, "plan_fps", 0.8, 0.01, 240.0, "Token frames a second. Higher follows faster change.", 0.01
                ),
                number(io.Int, "steps", 20000, 1, 10000000, "Higher trains longer; the rate falls to zero over them."),
                number(io.Int, "batch_size", 16, 1, 4096, "Videos a step. Higher is steadier and costs memory."),
                number(
                    io.Float, "learning_rate", 0.001, 0.0, 1.0, "Higher learns faster; too high, and it fails.", 1e-5
                ),
                number(io.Int, "seed", 0, 0, 2**64 - 1, "Of first weights, order and noise. Another is not better."),
                resume_input(),
                number(io.Int, "channels", 512, 8, 8192, "Higher learns more; a larger file.", 8, advanced=True),
                number(io.Int, "heads", 8, 1, 128, "Attention heads; more look at more at once.", advanced=True),
                number(io.Int, "blocks", 12, 1, 200, "Higher learns more; a larger file.", advanced=True),
                number(
                    io.Int,
                    "rows",
                    0,
                    0,
                    1024,
                    "Rows of a plan, as the adapter has. More is finer.",
                    advanced=True,
                ),
                number(
                    io.Int,
                    "columns",
                    0,
                    0,
                    1024,
                    "Columns of a plan, as the adapter has. More is finer.",
                    advanced=True,
                ),
                *validation_inputs(),
            ],
            outputs=[
                Planner.Output(display_name="planner", tooltip="For Semantic Planner."),
                io.Image.Output(display_name="loss_plot", tooltip="The losses, on a logarithmic axis."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, compressor_name: str | None, folder: str | None, filename: str | None, **_):
        """Trained again when the compressor or the folder has changed, or the file has gone."""
        return [model_stamp(MODEL_PATCHES, compressor_name), *training_stamp(folder, filename)]

    @classmethod
    def execute(
        cls,
        clip,
        encoder,
        compressor_name,
        folder,
        filename,
        width,
        height,
        length,
        fps,
        plan_fps,
        steps,
        batch_size,
        learning_rate,
        seed,
        resume,
        channels=512,
        heads=8,
        blocks=12,
        rows=0,
        columns=0,
        validation=0.1,
        validate_every=50,
        patience=PATIENCE,
        checkpoint_minutes=5.0,
    ) -> io.NodeOutput:
        target = new_model_patch(filename, may_exist=resume, remedy="delete it, or turn resume on")
        shape = PlannerShape(channels, heads, blocks, rows=rows, columns=columns)
        tower, compressor = tower_of(encoder), load_compressor(model_file(MODEL_PATCHES, compressor_name))
        work = Path(folder_paths.get_output_directory()) / "semantic_video" / "training"
        frames = Shape(width, height, length, fps, plan_fps)
        videos = PlanFolder(folder, frames, clip, tower, work / "plans", compressor=compressor)
        plan = TrainingPlan(
            filename,
            work,
            steps=steps,
            batch=batch_size,
            seed=seed,
            rate=learning_rate,
            resume=resume,
            checkpoint_minutes=checkpoint_minutes,
        )
        device = comfy.model_management.get_torch_device()
        dtype = None if device.type == "cpu" else torch.bfloat16
        state = train_planner_on_videos(
            videos, target, plan, described(seed, steps), shape, validation, validate_every, patience, device, dtype
        )
        return io.NodeOutput(load_planner(target), plot(state, filename))
