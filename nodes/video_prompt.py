"""A video as the prompt: Video-As-Prompt (arXiv 2510.20888) beside ComfyUI's own Wan 2.1 I2V."""

import folder_paths
import torch
from comfy_api.latest import io

from ..host.reference import carrying, encode_reference
from ..host.schedule import Interval
from ..kernels.video_prompt import IMAGE, LATENT, TEXT, Selection, frame_indices
from ..patches.video_prompt import VideoPrompt, Windows, apply
from ..patches.video_prompt_expert import extract_expert, load_expert
from .common import (
    DTYPES,
    Expert,
    clip_features,
    model_file,
    model_stamp,
    new_model_patch,
    rgb,
    strength_start_end,
    times_gone,
)
from .common import MODEL_PATCHES as FOLDER

CATEGORY = "semantic video/video prompt"


def expert_input() -> io.Combo.Input:
    return io.Combo.Input(
        "expert_name",
        options=folder_paths.get_filename_list(FOLDER),
        tooltip="A file in models/model_patches: the published checkpoint (any one of its parts, the others beside "
        "it), or an extracted expert.",
    )


class VAPExpertLoaderNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidVAPExpertLoader",
            display_name="VAP Expert Loader",
            category=CATEGORY,
            description="Loads the expert of Video-As-Prompt (ByteDance/Video-As-Prompt-Wan2.1-14B). Of the 41 GB "
            "checkpoint only the 8 GB of the expert are read; VAP Save Expert puts them into a file of their own.",
            search_aliases=["video as prompt", "VAP", "reference video", "motion transfer"],
            inputs=[
                expert_input(),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(DTYPES),
                    default="default",
                    advanced=True,
                    tooltip="How the weights are kept. fp8 halves their memory and loses a little precision.",
                ),
            ],
            outputs=[Expert.Output(display_name="expert", tooltip="For VAP Apply.")],
        )

    @classmethod
    def fingerprint_inputs(cls, expert_name: str | None, **_):
        """Read again when the file has changed."""
        return model_stamp(FOLDER, expert_name)

    @classmethod
    def execute(cls, expert_name: str, weight_dtype: str) -> io.NodeOutput:
        options = {"dtype": DTYPES[weight_dtype]} if DTYPES[weight_dtype] else {}
        return io.NodeOutput(load_expert(model_file(FOLDER, expert_name), options))


class VAPSaveExpertNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidVAPSaveExpert",
            display_name="VAP Save Expert",
            search_aliases=["video as prompt", "VAP", "convert checkpoint", "export expert"],
            category=CATEGORY,
            description="Writes the expert of a Video-As-Prompt checkpoint to a file of its own in "
            "models/model_patches (8 GB instead of 41).",
            is_output_node=True,
            inputs=[
                expert_input(),
                io.String.Input(
                    "filename",
                    default="video_as_prompt_wan2.1_expert",
                    tooltip="Name of the new file, without its ending.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def fingerprint_inputs(cls, expert_name: str | None, filename: str | None):
        """Saved again when the checkpoint has changed, or the file has gone."""
        return [model_stamp(FOLDER, expert_name), times_gone(filename)]

    @classmethod
    def execute(cls, expert_name: str, filename: str) -> io.NodeOutput:
        target = new_model_patch(filename)
        extract_expert(model_file(FOLDER, expert_name), target)
        return io.NodeOutput()


class VAPReferenceNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidVAPReference",
            display_name="VAP Reference",
            search_aliases=["video as prompt", "VAP", "reference video", "motion transfer", "style transfer"],
            category=CATEGORY,
            description="Attaches a reference video to the prompts: its motion, style or effect is what the new video "
            "follows. Put it behind WanImageToVideo. The reference prompt describes the reference video in the style "
            "of your own prompt.",
            inputs=[
                io.Conditioning.Input("positive", tooltip="Your prompt, with the start image (from WanImageToVideo)."),
                io.Conditioning.Input("negative", tooltip="Your negative prompt, with the start image."),
                io.Vae.Input("vae", tooltip="The VAE of Wan 2.1."),
                io.MultiType.Input(
                    "reference_video",
                    types=[io.Image, io.Video],
                    tooltip="The video to follow, as frames or as a video file.",
                ),
                io.Conditioning.Input(
                    "reference_positive",
                    tooltip="What the reference video shows: subject, effect step by step, camera.",
                ),
                io.Conditioning.Input(
                    "reference_negative",
                    tooltip="Negative prompt for the reference, usually the same as negative. Unused with in_negative "
                    "off.",
                ),
                io.ClipVisionOutput.Input(
                    "clip_vision_output",
                    optional=True,
                    tooltip="CLIP vision of the reference's first frame (crop: center). Required by the published "
                    "expert.",
                ),
                io.Int.Input(
                    "width",
                    default=832,
                    min=16,
                    max=8192,
                    step=16,
                    tooltip="Width the reference is stretched to; that of your video.",
                ),
                io.Int.Input(
                    "height",
                    default=480,
                    min=16,
                    max=8192,
                    step=16,
                    tooltip="Height the reference is stretched to; that of your video.",
                ),
                io.Int.Input(
                    "length",
                    default=49,
                    min=5,
                    max=1024,
                    step=4,
                    tooltip="Frames taken from the reference. More costs memory and time; the expert was trained with "
                    "49.",
                ),
                io.Combo.Input(
                    "frames",
                    options=list(Selection.__args__),
                    default="even",
                    tooltip="even: spread over the whole reference, so its speed may change. first: the first frames "
                    "at their own speed.",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=1.0,
                    advanced=True,
                    tooltip="Only with frames = first: the reference's own frame rate, resampled to Wan's 16. 0 takes "
                    "frames as they are.",
                ),
                io.Boolean.Input(
                    "in_negative",
                    default=True,
                    advanced=True,
                    tooltip="On (published), the negative prompt carries the reference too. Off, CFG strengthens it: "
                    "try it where the reference seems ignored.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="Your prompt and the reference."),
                io.Conditioning.Output(display_name="negative", tooltip="Your negative prompt and the reference."),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive,
        negative,
        vae,
        reference_video,
        reference_positive,
        reference_negative,
        width,
        height,
        length,
        frames,
        fps,
        in_negative,
        clip_vision_output=None,
    ) -> io.NodeOutput:
        if not isinstance(reference_video, torch.Tensor):
            reference_video = reference_video.get_components().images
        indices = frame_indices(len(reference_video), length, frames, fps)
        latent = encode_reference(vae, rgb("reference_video", reference_video[indices]), width, height)
        image = {IMAGE: clip_features(clip_vision_output)} if clip_vision_output is not None else {}
        positive = carrying(positive, {LATENT: latent}, {TEXT: reference_positive[0][0]} | image)
        if in_negative:
            negative = carrying(negative, {LATENT: latent}, {TEXT: reference_negative[0][0]} | image)
        return io.NodeOutput(positive, negative)


class VAPApplyNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidVAPApply",
            display_name="VAP Apply",
            search_aliases=["video as prompt", "VAP", "reference video", "motion transfer", "in-context"],
            category=CATEGORY,
            description="Lets the model follow a reference video (Video-As-Prompt, arXiv 2510.20888). The model's own "
            "blocks stay as they are, with your LoRAs and attention settings. Use a shift of 3 to 5 "
            "(ModelSamplingSD3).",
            inputs=[
                io.Model.Input(
                    "model", tooltip="Wan 2.1 I2V 14B, 480P: the model the published expert was trained beside."
                ),
                io.MultiType.Input(
                    "expert",
                    types=[Expert, io.Model],
                    tooltip="From the VAP Expert Loader, or from a GGUF loader (which gives a model).",
                ),
                io.Combo.Input(
                    "windows",
                    options=list(Windows.__args__),
                    default=Windows.__args__[0],
                    advanced=True,
                    tooltip="Only with ComfyUI's context windows. whole reference: each window sees all of it; in "
                    "step: the part at the same point of the video.",
                ),
                *strength_start_end("How strongly the reference is followed: 1 is as published, lower follows less."),
            ],
            outputs=[io.Model.Output(tooltip="The model, following the reference its prompts carry.")],
        )

    @classmethod
    def execute(cls, model, expert, windows, strength, start, end) -> io.NodeOutput:
        return io.NodeOutput(apply(model, expert, VideoPrompt(strength, windows, Interval(start, end))))
