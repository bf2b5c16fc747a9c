"""semantic-video: prompts that are followed, in space and over time, for Wan and HunyuanVideo in ComfyUI."""

from comfy_api.latest import ComfyExtension, io

from .nodes import NODES

WEB_DIRECTORY = "./web"


class SemanticVideo(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> SemanticVideo:
    return SemanticVideo()
