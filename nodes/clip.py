"""CLIP for spatial prompting: loaded whole from one file, joined from ComfyUI's own models, and what it sees of a
picture."""

import folder_paths
from comfy_api.latest import io

from ..host.clip_config import ACTIVATIONS
from ..host.clip_from_host import join_clip
from ..host.clip_loading import load_clip
from ..patches.clip_mask import encode
from .common import SPATIAL_PROMPT as CATEGORY
from .common import Clip, model_file, rgb

FOLDER = "clip_vision"  # ComfyUI's own loader reads the image tower of the same files


class CLIPLoaderNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidCLIPLoader",
            display_name="CLIP Loader (both towers)",
            category=CATEGORY,
            description="Loads a whole CLIP, image and text tower, for CLIP Spatial Mask: a .safetensors of open_clip "
            "or of Hugging Face's CLIPModel. OpenAI's ViT-L-14-336 is what the method was published with.",
            search_aliases=["open_clip", "CLIPModel", "spatial prompt"],
            inputs=[
                io.Combo.Input(
                    "clip_name",
                    options=[name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(".safetensors")],
                    tooltip="A file in models/clip_vision that holds both towers.",
                ),
                io.Combo.Input(
                    "activation",
                    options=list(ACTIVATIONS),
                    default="auto",
                    advanced=True,
                    tooltip="What the file's tensors cannot tell. auto asks the config beside the file, else takes "
                    "quick_gelu up to ViT-L (OpenAI) and gelu above. Choose gelu for LAION's or DataComp's B and L "
                    "models without a config.",
                ),
            ],
            outputs=[Clip.Output(display_name="clip", tooltip="For CLIP Spatial Mask.")],
        )

    @classmethod
    def execute(cls, clip_name: str, activation: str = "auto") -> io.NodeOutput:
        return io.NodeOutput(load_clip(model_file(FOLDER, clip_name), activation))


class CLIPFromHostNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidCLIPFromHost",
            display_name="CLIP from Host Models",
            search_aliases=["open_clip", "clip vision", "convert CLIP", "spatial prompt"],
            category=CATEGORY,
            description="Joins a CLIP Vision and a CLIP that ComfyUI has loaded already, without a second copy: "
            "clip_vision_l (ViT-L-14) with clip_l, also the clip_l inside an SDXL, SD3, FLUX or HunyuanVideo text "
            "encoder. Both must come from the same CLIP.",
            inputs=[
                io.ClipVision.Input(
                    "clip_vision", tooltip="From Load CLIP Vision: the image tower, with its projection."
                ),
                io.Clip.Input(
                    "clip",
                    tooltip="From Load CLIP or a checkpoint: its text tower of the same CLIP is used, clip_l for "
                    "ViT-L-14.",
                ),
            ],
            outputs=[Clip.Output(display_name="clip", tooltip="For CLIP Spatial Mask.")],
        )

    @classmethod
    def execute(cls, clip_vision, clip) -> io.NodeOutput:
        return io.NodeOutput(join_clip(clip_vision, clip))


class CLIPImageFeaturesNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidCLIPImageFeatures",
            display_name="CLIP Image Features",
            category=CATEGORY,
            description="What CLIP sees in a picture, as CLIP Vision Encode gives it, but from the CLIP of this pack, "
            "and always of the whole picture.",
            search_aliases=["clip vision encode"],
            inputs=[
                Clip.Input("clip", tooltip="From CLIP Loader (both towers) or CLIP from Host Models."),
                io.Image.Input(
                    "image",
                    tooltip="A picture, or the frames of a clip, squashed to CLIP's square. Transparency is ignored.",
                ),
            ],
            outputs=[
                io.ClipVisionOutput.Output(
                    display_name="clip_vision_output",
                    tooltip="For SSG Adapter Apply, or any node that takes CLIP vision.",
                )
            ],
        )

    @classmethod
    def execute(cls, clip, image) -> io.NodeOutput:
        return io.NodeOutput(encode(clip, rgb("image", image)))
