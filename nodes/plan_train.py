"""Training a Plan Adapter on a folder of videos: training/plan_adapter.py, with ComfyUI's own loaders in front."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..host.vision import tower_of
from ..patches.plan_weights import load_plan_adapter
from ..training.plan import Plan as TrainingPlan
from ..training.plan_adapter import Settings
from ..training.plan_folder import PlanFolder, Shape
from ..training.plan_videos import COMPRESSOR, AdapterShape, train_adapter_on_videos
from ..training.ssg_model import blocks_of
from ..training.validation import PATIENCE
from .common import (
    PLANS,
    Clip,
    PlanAdapter,
    Tower,
    described,
    folder_input,
    new_model_patch,
    number,
    plot,
    resume_input,
    training_stamp,
    validation_inputs,
)


class PlanAdapterTrainNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPlanAdapterTrain",
            display_name="Plan Adapter Train",
            category=PLANS,
            description="Trains a compressor and a Plan Adapter on a folder of videos with captions, beside a model "
            "that stays as it is. Put Swin Renderer before it, to train on windows. Videos are encoded once and kept; "
            "can be cancelled and resumed. Writes <filename>.safetensors and <filename>_compressor.safetensors into "
            "models/model_patches.",
            search_aliases=["SemanticGen", "finetune"],
            is_output_node=True,
            is_experimental=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model the adapter is for, Wan T2V or HunyuanVideo, as it will sample."
                ),
                io.Vae.Input("vae", tooltip="The model's own VAE."),
                io.Clip.Input("clip", tooltip="The model's own text encoder, from Load CLIP."),
                io.MultiType.Input(
                    "encoder",
                    types=[Tower, Clip, io.ClipVision, io.Clip],
                    tooltip="The vision tower whose features become plans, as in Semantic Encoder.",
                ),
                folder_input(),
                io.String.Input(
                    "filename", default="my_plan_adapter", tooltip="Name of the adapter's file, without its ending."
                ),
                number(io.Int, "width", 832, 16, 8192, "Videos are resized to cover it. More costs memory.", 16),
                number(io.Int, "height", 480, 16, 8192, "Videos are resized to cover it. Higher costs memory.", 16),
                number(io.Int, "length", 161, 5, 4097, "Frames from the start of each video, 4 n + 1. More costs.", 4),
                number(io.Float, "fps", 16.0, 1.0, 240.0, "Frames per second to take. Higher shows less time.", 1.0),
                number(
                    io.Float, "plan_fps", 0.8, 0.01, 240.0, "Token frames a second. Higher follows faster change.", 0.01
                ),
                number(io.Int, "steps", 2000, 1, 1000000, "Higher trains longer; the rate falls to zero over them."),
                number(io.Int, "batch_size", 1, 1, 1024, "Videos a step. Higher is steadier and costs memory."),
                number(
                    io.Float, "learning_rate", 0.0003, 0.0, 1.0, "Higher learns faster; too high, and it fails.", 1e-5
                ),
                number(io.Int, "seed", 0, 0, 2**64 - 1, "Of first weights, order and noise. Another is not better."),
                resume_input(),
                number(io.Int, "dims", 8, 1, 4096, "Of a plan's tokens. Higher keeps more.", advanced=True),
                number(io.Int, "rank", 64, 1, 4096, "Higher learns more detail; a larger file.", advanced=True),
                number(io.Int, "seen", 5, 1, 64, "Token frames that a frame sees. Higher sees further.", advanced=True),
                io.String.Input(
                    "blocks",
                    default="",
                    advanced=True,
                    tooltip="Blocks that get a branch, such as 0-19 or 0,4,8; more learn more. Empty is all.",
                ),
                number(
                    io.Int,
                    "rows",
                    0,
                    0,
                    1024,
                    "Rows of a plan, fewer than the encoder gives: more is finer. 0 keeps them.",
                    advanced=True,
                ),
                number(
                    io.Int,
                    "columns",
                    0,
                    0,
                    1024,
                    "Columns of a plan, fewer than the encoder gives: more is finer. 0 keeps them.",
                    advanced=True,
                ),
                io.Boolean.Input(
                    "offloading",
                    default=False,
                    advanced=True,
                    tooltip="On leaves the model's weights in main memory: less GPU memory, more time.",
                ),
                *validation_inputs(),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="On takes far less memory and a third more time.",
                ),
            ],
            outputs=[
                PlanAdapter.Output(display_name="adapter", tooltip="For Plan Adapter Apply."),
                io.Image.Output(display_name="loss_plot", tooltip="The losses, on a logarithmic axis."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str | None, filename: str | None, **_):
        """Trained again when the folder has changed, or the file has gone."""
        return training_stamp(folder, filename, (COMPRESSOR,))

    @classmethod
    def execute(
        cls,
        model,
        vae,
        clip,
        encoder,
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
        dims=8,
        rank=64,
        seen=5,
        blocks="",
        rows=0,
        columns=0,
        offloading=False,
        validation=0.1,
        validate_every=50,
        patience=PATIENCE,
        checkpoint_minutes=5.0,
        gradient_checkpointing=True,
    ) -> io.NodeOutput:
        remedy = "delete it, or turn resume on"
        target = new_model_patch(filename, may_exist=resume, remedy=remedy, beside=(COMPRESSOR,))
        shape = AdapterShape(dims, rank, seen, blocks_of(model, blocks), rows, columns)
        work = Path(folder_paths.get_output_directory()) / "semantic_video" / "training"
        frames = Shape(width, height, length, fps, plan_fps)
        videos = PlanFolder(folder, frames, clip, tower_of(encoder), work / "plans", vae, model=model)
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
        settings = Settings(
            checkpointing=gradient_checkpointing, offload=offloading, every=validate_every, patience=patience
        )
        state = train_adapter_on_videos(
            videos, model, target, plan, described(seed, steps), shape, validation, settings
        )
        return io.NodeOutput(load_plan_adapter(target), plot(state, filename))
