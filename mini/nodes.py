"""Captions of MiniWorld for its mini models. For tests and the demo; hidden outside ComfyUI's developer mode."""

import json

import folder_paths
from comfy_api.latest import ComfyExtension, io

from ..host.weights import read_weights
from .clip import TextEncoder, build

FOLDER = "semantic_video_mini"  # filled by the demo's extra-model-paths file, never by users' models


def clip_files() -> list[str]:
    return folder_paths.get_filename_list(FOLDER) if FOLDER in folder_paths.folder_names_and_paths else []


def load_clip(clip_name: str) -> TextEncoder:
    weights, metadata = read_weights(folder_paths.get_full_path_or_raise(FOLDER, clip_name))
    if "vocabulary" not in metadata:
        raise ValueError(
            f"clip_name {clip_name}: not a mini CLIP (its metadata has no vocabulary). Choose mini_clip.safetensors."
        )
    model = build(json.loads(metadata["vocabulary"]))
    model.load_state_dict({key: value.float() for key, value in weights.items()})
    return TextEncoder(model.eval().requires_grad_(False))


class MiniTextEncodeNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidMiniTextEncode",
            display_name="Mini Text Encode (MiniWorld)",
            category="semantic video/testing",
            description="Encodes a MiniWorld caption with the mini CLIP, for the mini Wan models. Not for real "
            "checkpoints.",
            is_dev_only=True,
            is_experimental=True,
            inputs=[
                io.Combo.Input("clip_name", options=clip_files(), tooltip="The mini CLIP."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="A caption in MiniWorld's words; empty is the unconditional prompt.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="Token features, one per word.")],
        )

    @classmethod
    def execute(cls, clip_name: str, text: str) -> io.NodeOutput:
        clip = load_clip(clip_name)
        return io.NodeOutput(clip.encode_from_tokens_scheduled(clip.tokenize(text)))


class MiniCLIPLoaderNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidMiniCLIPLoader",
            display_name="Mini CLIP as CLIP (MiniWorld)",
            category="semantic video/testing",
            description="The mini CLIP as a CLIP, for nodes that read the tokens of a MiniWorld caption or encode it. "
            "Not for real checkpoints.",
            is_dev_only=True,
            is_experimental=True,
            inputs=[io.Combo.Input("clip_name", options=clip_files(), tooltip="The mini CLIP.")],
            outputs=[io.Clip.Output(tooltip="Encodes as Mini Text Encode does; knows MiniWorld's words only.")],
        )

    @classmethod
    def execute(cls, clip_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_clip(clip_name))


class MiniNodes(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [MiniTextEncodeNode, MiniCLIPLoaderNode]


async def comfy_entrypoint() -> MiniNodes:
    return MiniNodes()
