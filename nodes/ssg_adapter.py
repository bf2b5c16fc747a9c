"""A picture that says where to look, followed by the video: SSG Adapter (after SSG-DiT, arXiv 2508.17062)."""

import folder_paths
from comfy_api.latest import io

from ..host.schedule import Interval
from ..patches.ssg_adapter import apply
from ..patches.ssg_adapter_file import load_adapter
from ..patches.ssg_guide import Guide, Passes
from .common import DTYPES, Adapter, clip_features, model_file, model_stamp, strength_start_end, weight_dtype
from .common import MODEL_PATCHES as FOLDER
from .common import SPATIAL_PROMPT as CATEGORY


class SSGAdapterLoaderNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidSSGAdapterLoader",
            display_name="SSG Adapter Loader",
            category=CATEGORY,
            description="Loads an SSG Adapter: a small attention branch that lets a frozen Wan, HunyuanVideo, MiniMax "
            "H3 or LTX look at a prompted image.",
            search_aliases=["SSG-DiT", "IP-Adapter", "image prompt"],
            inputs=[
                io.Combo.Input(
                    "adapter_name",
                    options=folder_paths.get_filename_list(FOLDER),
                    tooltip="A file in models/model_patches, made for the model you use it with.",
                ),
                weight_dtype(),
            ],
            outputs=[Adapter.Output(display_name="adapter", tooltip="For SSG Adapter Apply.")],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter_name: str | None, **_):
        """Read again when the file has changed."""
        return model_stamp(FOLDER, adapter_name)

    @classmethod
    def execute(cls, adapter_name: str, weight_dtype: str = "default") -> io.NodeOutput:
        return io.NodeOutput(load_adapter(model_file(FOLDER, adapter_name), DTYPES[weight_dtype]))


class SSGAdapterApplyNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidSSGAdapterApply",
            display_name="SSG Adapter Apply",
            category=CATEGORY,
            description="Lets the video look at a prompted image (from Visual Prompt): what it shows, and where. With "
            "an adapter on the model it was trained for; without one on Wan 2.1 I2V, whose own image branch then sees "
            "the prompted image.",
            search_aliases=["SSG-DiT", "IP-Adapter", "image prompt", "spatial prompt"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model the adapter was trained for; without an adapter, Wan 2.1 I2V."
                ),
                io.ClipVisionOutput.Input(
                    "clip_vision_output",
                    tooltip="CLIP features of the prompted image: CLIP Vision Encode with crop none, or CLIP Image "
                    "Features. Of one image, or of one per frame.",
                ),
                Adapter.Input(
                    "adapter",
                    optional=True,
                    tooltip="From the SSG Adapter Loader. Without one, the model's own image branch is used.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where in the video the adapter acts, one for all frames or one per frame: white fully, "
                    "black not at all.",
                ),
                io.Combo.Input(
                    "passes",
                    options=list(Passes.__args__),
                    default=Passes.__args__[0],
                    tooltip="Which CFG passes use the image. both: positive and negative. conditional: positive only, "
                    "so CFG strengthens it.",
                ),
                *strength_start_end(
                    "How strongly the prompted image is followed: 1 is as trained, higher exaggerates.", maximum=2.0
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, looking at the prompted image.")],
        )

    @classmethod
    def execute(
        cls, model, clip_vision_output, passes="both", strength=1.0, start=0.0, end=1.0, adapter=None, mask=None
    ) -> io.NodeOutput:
        mask = mask.reshape(-1, *mask.shape[-2:]) if mask is not None else None
        guide = Guide(clip_features(clip_vision_output), mask, strength, passes, Interval(start, end))
        return io.NodeOutput(apply(model, adapter, guide))
