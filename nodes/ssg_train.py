"""Training an SSG Adapter on a folder of videos: training/ssg_adapter.py, with ComfyUI's own loaders in front."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..patches.ssg_adapter_file import load_adapter
from ..training.plan import Plan
from ..training.ssg_adapter import Settings, train_on_videos
from ..training.ssg_model import blocks_of
from ..training.validation import PATIENCE
from ..training.video_encoding import Encoders, Shape
from ..training.video_folder import VideoFolder
from .common import (
    SPATIAL_PROMPT as CATEGORY,
)
from .common import (
    Adapter,
    Clip,
    described,
    folder_input,
    new_model_patch,
    plot,
    resume_input,
    training_stamp,
)

STYLES = ("grey", "darken", "blur")


class SSGAdapterTrainNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidSSGAdapterTrain",
            display_name="SSG Adapter Train",
            category=CATEGORY,
            description="Trains an SSG Adapter on a folder of videos with captions, beside a model that stays as it "
            "is. Videos are encoded once and kept; what was trained is saved every few minutes, so that it can be "
            "cancelled and resumed. Writes models/model_patches/<filename>.safetensors.",
            search_aliases=["SSG-DiT", "IP-Adapter training", "finetune"],
            is_output_node=True,
            is_experimental=True,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model the adapter is for: Wan (T2V, I2V), HunyuanVideo (T2V), MiniMax H3 or LTX. Its "
                    "weights are not changed.",
                ),
                io.Vae.Input("vae", tooltip="The model's own VAE."),
                io.Clip.Input("clip", tooltip="The model's own text encoder, from Load CLIP."),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="Encodes the prompted image; the adapter later needs features of the same model. Without "
                    "it, mask_clip encodes.",
                ),
                Clip.Input(
                    "mask_clip",
                    optional=True,
                    tooltip="What finds the caption in the first frame, as CLIP Spatial Mask does. Without it, the "
                    "whole frame is shown.",
                ),
                folder_input(),
                io.String.Input(
                    "filename", default="my_ssg_adapter", tooltip="Name of the adapter's file, without its ending."
                ),
                io.Int.Input(
                    "width",
                    default=832,
                    min=16,
                    max=8192,
                    step=16,
                    tooltip="Videos are resized to cover it and cropped in the middle. More costs memory and time.",
                ),
                io.Int.Input(
                    "height",
                    default=480,
                    min=16,
                    max=8192,
                    step=16,
                    tooltip="Videos are resized to cover width x height and cropped in the middle. Higher costs memory "
                    "and time.",
                ),
                io.Int.Input(
                    "length",
                    default=49,
                    min=1,
                    max=1025,
                    tooltip="Frames from the start of each video: 4 n + 1 of Wan and HunyuanVideo, 8 n + 1 of LTX, "
                    "17 n + 5 of MiniMax H3. More costs memory and time.",
                ),
                io.Float.Input(
                    "fps",
                    default=16.0,
                    min=0.0,
                    max=240.0,
                    step=1.0,
                    tooltip="Frames per second to take: 16 for Wan, 24 for HunyuanVideo and MiniMax H3, 25 for LTX. "
                    "Higher shows less time. 0 takes the frames as they are.",
                ),
                io.Combo.Input(
                    "style",
                    options=list(STYLES),
                    default=STYLES[0],
                    tooltip="How Visual Prompt paints the mask; use the same with the adapter.",
                ),
                io.Int.Input(
                    "steps",
                    default=2000,
                    min=1,
                    max=1000000,
                    tooltip="Higher trains longer; the learning rate falls to zero over them.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=1024,
                    tooltip="Videos a step. Higher learns more steadily and costs memory and time.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.0003,
                    min=0.0,
                    max=1.0,
                    step=0.00001,
                    tooltip="Step size. Higher learns faster; too high, and the loss rises or stays flat.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    tooltip="Seed of initial weights, order of videos and noise. Another gives another adapter, not a "
                    "better one.",
                ),
                resume_input(),
                io.Int.Input(
                    "rank",
                    default=128,
                    min=1,
                    max=4096,
                    advanced=True,
                    tooltip="Higher learns more detail and makes a larger file.",
                ),
                io.Int.Input(
                    "token_width",
                    default=1280,
                    min=8,
                    max=8192,
                    step=8,
                    advanced=True,
                    tooltip="Channels of the image's tokens. Higher keeps more of what CLIP sees and makes a larger "
                    "file.",
                ),
                io.String.Input(
                    "blocks",
                    default="",
                    advanced=True,
                    tooltip="Blocks that get a branch, such as 0-19 or 0,4,8; more learn more. Empty is all.",
                ),
                io.Float.Input(
                    "validation",
                    default=0.1,
                    min=0.0,
                    max=0.5,
                    step=0.05,
                    advanced=True,
                    tooltip="Share of the videos held back to measure with. Higher measures better and leaves fewer to "
                    "learn from; 0: none.",
                ),
                io.Int.Input(
                    "validate_every",
                    default=50,
                    min=1,
                    max=100000,
                    advanced=True,
                    tooltip="Steps between two validations. Higher costs less time. The file is written when "
                    "validation is better than before.",
                ),
                io.Int.Input(
                    "patience",
                    default=PATIENCE,
                    min=0,
                    max=1000,
                    advanced=True,
                    tooltip="Validations without a better one that end the training. Higher waits longer; 0 never ends "
                    "it early.",
                ),
                io.Float.Input(
                    "checkpoint_minutes",
                    default=5.0,
                    min=0.0,
                    max=600.0,
                    step=1.0,
                    advanced=True,
                    tooltip="Minutes between checkpoints. Cancelling loses no more. Higher writes less often.",
                ),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=True,
                    advanced=True,
                    tooltip="On takes far less memory and a third more time.",
                ),
                io.Boolean.Input(
                    "offloading",
                    default=False,
                    advanced=True,
                    tooltip="On leaves the model's weights in main memory and fetches them block by block: less GPU "
                    "memory, more time.",
                ),
            ],
            outputs=[
                Adapter.Output(display_name="adapter", tooltip="For SSG Adapter Apply."),
                io.Image.Output(
                    display_name="loss_plot", tooltip="Loss of training and of validation, on a logarithmic axis."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str | None, filename: str | None, **_):
        """Trained again when the folder has changed, or the file has gone."""
        return training_stamp(folder, filename)

    @classmethod
    def execute(
        cls,
        model,
        vae,
        clip,
        folder,
        filename,
        width,
        height,
        length,
        fps,
        style,
        steps,
        batch_size,
        learning_rate,
        seed,
        resume,
        rank=128,
        token_width=1280,
        blocks="",
        validation=0.1,
        validate_every=50,
        patience=PATIENCE,
        checkpoint_minutes=5.0,
        gradient_checkpointing=True,
        offloading=False,
        clip_vision=None,
        mask_clip=None,
    ) -> io.NodeOutput:
        target = new_model_patch(filename, may_exist=resume, remedy="delete it, or turn resume on")
        chosen = blocks_of(model, blocks)
        work = Path(folder_paths.get_output_directory()) / "semantic_video" / "training"
        videos = VideoFolder(
            folder,
            Shape(width, height, length, fps, style),
            Encoders(vae, clip, clip_vision, mask_clip),
            model,
            work / "clips",
        )
        plan = Plan(
            filename,
            work,
            steps=steps,
            batch=batch_size,
            seed=seed,
            rate=learning_rate,
            resume=resume,
            checkpoint_minutes=checkpoint_minutes,
        )

        settings = Settings(None, validate_every, patience, gradient_checkpointing, offloading)
        options = {"rank": rank, "blocks": chosen, "token_width": token_width}
        state = train_on_videos(videos, target, plan, described(seed, steps), validation, settings, **options)
        return io.NodeOutput(load_adapter(target), plot(state, filename))
