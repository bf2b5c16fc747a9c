"""Semantic Encoder: what a video shows as a plan of few tokens (after SemanticGen, arXiv 2512.20619), and how a plan
looks."""

import folder_paths
import torch
from comfy_api.latest import io

from ..host.qwen_folder import folder_path, load_qwen_tower, tower_folders
from ..host.vision import tower_of
from ..kernels.plan_colours import colours_of
from ..kernels.semantic_plan import check, require_encoder
from ..patches.plan_file import load_compressor
from ..patches.semantic_plan import described, encode_video, preview
from .common import MODEL_PATCHES, PLANS, Clip, Plan, Tower, model_file, model_stamp, rgb

NONE, ENDING = "none", ".safetensors"


class VisionTowerLoaderNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidVisionTowerLoader",
            display_name="Vision Tower Loader",
            category=PLANS,
            description="Loads the vision tower of a Qwen2.5-VL from its folder, as Hugging Face has it; nothing is "
            "downloaded, and the language model in it is not read. If ComfyUI has loaded Qwen2.5-VL as a text encoder "
            "already, connect that CLIP to Semantic Encoder instead.",
            search_aliases=["Qwen2.5-VL", "qwen vl vision", "vision encoder"],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=tower_folders(),
                    tooltip="A folder in models/text_encoders with config.json and .safetensors, such as "
                    "Qwen2.5-VL-3B-Instruct. SemanticGen was published with the 72B and the 3B.",
                )
            ],
            outputs=[Tower.Output(display_name="encoder", tooltip="For Semantic Encoder.")],
        )

    @classmethod
    def execute(cls, folder: str) -> io.NodeOutput:
        return io.NodeOutput(load_qwen_tower(folder_path(folder)))


class SemanticEncoderNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidSemanticEncoder",
            display_name="Semantic Encoder",
            category=PLANS,
            description="What a video shows, as a plan: few tokens a second from a vision tower, made smaller by a "
            "trained compressor. A plan can be looked at, compared, saved, cut and mixed; to render one takes a plan "
            "adapter that was trained with the same tower and compressor.",
            search_aliases=["SemanticGen", "video features", "plan", "Qwen2.5-VL", "CLIP vision"],
            inputs=[
                io.MultiType.Input(
                    "encoder",
                    types=[Tower, Clip, io.ClipVision, io.Clip],
                    tooltip="Who looks: a Vision Tower, a CLIP of either kind, CLIP Vision, or a CLIP that carries "
                    "Qwen2.5-VL (Qwen-Image's, HunyuanVideo 1.5's). CLIP sees each frame alone, squashed to its "
                    "square; Qwen two at a time, in the video's shape.",
                ),
                io.MultiType.Input(
                    "video", types=[io.Image, io.Video], tooltip="The video, as frames or as a video file."
                ),
                io.Float.Input(
                    "fps",
                    default=16.0,
                    min=0.01,
                    max=1000.0,
                    step=0.01,
                    tooltip="Frames a second of the frames; a video file brings its own. Higher: the same frames are "
                    "a shorter time.",
                ),
                io.Float.Input(
                    "plan_fps",
                    default=1.0,
                    min=0.01,
                    max=240.0,
                    step=0.01,
                    tooltip="Token frames a second. Higher follows faster change and makes a larger plan. Published: "
                    "0.8 (two frames each, 1.6 a second). A plan adapter expects the rate it was trained with.",
                ),
                io.Combo.Input(
                    "compressor",
                    options=[NONE, *(f for f in folder_paths.get_filename_list(MODEL_PATCHES) if f.endswith(ENDING))],
                    tooltip="A trained compressor in models/model_patches, of this encoder. none keeps the tower's own "
                    "features, hundreds of numbers a token: for looking at and editing.",
                ),
                io.Int.Input(
                    "longest_side",
                    default=0,
                    min=0,
                    max=8192,
                    step=28,
                    advanced=True,
                    tooltip="For Qwen: pixels of the longer side that it looks at, one token for 28 x 28. Higher sees "
                    "smaller things and makes a larger plan; 0 is the video's own size. CLIP has one size.",
                ),
            ],
            outputs=[
                Plan.Output(display_name="plan", tooltip="For a plan adapter, Edit Plan, Combine Plans or Save Plan."),
                io.Image.Output(
                    display_name="preview",
                    tooltip="A picture for each token frame: its three strongest directions as red, green and blue.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, compressor: str | None, **_):
        """Read again when the file has changed."""
        return model_stamp(MODEL_PATCHES, compressor)

    @classmethod
    def execute(cls, encoder, video, fps, plan_fps, compressor=NONE, longest_side=0) -> io.NodeOutput:
        if not isinstance(video, torch.Tensor):
            components = video.get_components()
            video, fps = components.images, float(components.frame_rate)
        frames = rgb("video", video)
        loaded = None if compressor == NONE else load_compressor(model_file(MODEL_PATCHES, compressor))
        plan = encode_video(tower_of(encoder), frames, fps, plan_fps, longest_side, loaded)
        return io.NodeOutput(plan, preview(plan))


class PlanPreviewNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidPlanPreview",
            display_name="Preview Plan",
            category=PLANS,
            description="A plan as pictures, one for each token frame: its three strongest directions as red, green "
            "and blue. Two plans can be painted in the same colours, and compared.",
            search_aliases=["PCA", "show plan", "compare plans", "SemanticGen"],
            inputs=[
                Plan.Input("plan", tooltip="The plan to show."),
                Plan.Input(
                    "like",
                    optional=True,
                    tooltip="A plan whose colours are used and that the plan is compared with, of the same encoder. "
                    "Without it the plan has its own colours.",
                ),
                io.Int.Input(
                    "pixels",
                    default=16,
                    min=1,
                    max=256,
                    tooltip="Higher draws larger pictures: the side of a token, in pixels.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="preview", tooltip="One picture for each token frame."),
                io.String.Output(
                    display_name="info",
                    tooltip="Length, rate, size and encoder; and with like, how alike the two are, over time.",
                ),
            ],
        )

    @classmethod
    def execute(cls, plan, pixels=16, like=None) -> io.NodeOutput:
        check(plan)
        if like is None:
            return io.NodeOutput(preview(plan, pixels=pixels), described(plan))
        check(like, "like")
        require_encoder(like, plan.encoder, plan.tokens.shape[-1], "like")
        return io.NodeOutput(preview(plan, colours_of(like.tokens), pixels), described(plan, like))
