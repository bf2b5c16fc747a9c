"""HunyuanVideo 1 (double, then single blocks) and 1.5 (double blocks only): joint attention over text and video.

Sequence of every attention: [text][reference tokens][t x h x w].
"""

from math import prod

from torch import nn

from ..layout import Layout, Site, TimeRope
from .wan import clip_frames as clip_frames
from .wan import clock as clock
from .wan import first_axis, patch_tokens
from .wan import first_frames as first_frames  # the same stride in time
from .wan import inputs_at_scale as inputs_at_scale
from .wan import mixes_words as mixes_words
from .wan import silence as silence
from .wan import sound_apart as sound_apart

NAME = "HunyuanVideo"
REPLACES_FIRST_FRAME = True  # the start image may stand in the latent itself ("v2 (replace)")
HOST_NUMBERS_BLOCKS = True
OWN_WINDOWS = True
REFINES_BEFORE = False
WINDOW_STEP = 2
PLACES_IN_SECONDS = False
SUPPORTED = "HunyuanVideo 1 T2V, I2V and HunyuanVideo 1.5"
TEXT_ENCODERS = ("llama", "qwen25_7b")  # names of their tokens in a CLIP
IMAGE_BEFORE_TEXT = True  # with a start image, the text features of HunyuanVideo 1 begin with those of the image


def accepts(module: nn.Module, host_class: str) -> bool:
    return host_class == "HunyuanVideo" and len(module.patch_size) == 3  # two axes: HunyuanImage


def blocks(module: nn.Module) -> int:
    return len(module.double_blocks) + len(module.single_blocks)


def block_modules(module: nn.Module) -> list[nn.Module]:
    return [*module.double_blocks, *module.single_blocks]


def block_of_frames(arguments: dict, layout: Layout, frames: list[int]) -> None:
    """The text of a block asks all of the video at once."""


def token_modules(module: nn.Module) -> list[nn.Module]:
    """Single blocks have none: their first layer makes queries, keys, values and hidden channels in one."""
    return [block.img_mlp for block in module.double_blocks]


def width_heads(module: nn.Module) -> tuple[int, int]:
    return module.hidden_size, module.num_heads


def input_channels(module: nn.Module) -> int:
    return module.in_channels


def latent_channels(module: nn.Module) -> int:
    return module.out_channels


def trained_frames(module: nn.Module, frame_rate: float | None = None) -> int:
    """Latent frames of the clips it was trained on: 129 frames."""
    return 33


def time_rope(module: nn.Module, arguments: dict) -> TimeRope:
    """Neighbouring channels make a pair; those of time come first. Text stands at time 0, a reference image at -1."""
    return first_axis(module.pe_embedder)


def text_refiner(module: nn.Module) -> nn.Module:
    return module.txt_in


def layout(module: nn.Module, arguments: dict) -> Layout:
    grid = patch_tokens(arguments["x"].shape, module.patch_size)
    reference = arguments.get("ref_latent")
    before = prod(patch_tokens(reference.shape, module.patch_size)) if reference is not None else 0
    clip = arguments.get("clip_fea")
    image = clip.shape[-2] if clip is not None and module.vision_in is not None else 0
    quoted = arguments.get("txt_byt5")
    glyphs = quoted.shape[1] if quoted is not None and module.byt5_in is not None else 0
    return Layout(*grid, before=before, image=image, glyphs=glyphs, patch=tuple(module.patch_size[1:]))


def site(
    module: nn.Module, options: dict, layout: Layout, queries: int, keys: int, dim: int, previous: Site | None
) -> Site | None:
    """Every attention of a block is joint; the token refiner, which runs before the blocks, has no block type."""
    if "block_type" not in options or queries <= layout.tokens:
        return None
    stream = options["block_type"]
    block = options["block_index"] + (len(module.double_blocks) if stream == "single" else 0)
    return Site("joint", block, blocks(module), stream)


def rope_axis(layout: Layout, options: dict) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """The video begins at 0 on every axis, in steps of 1, whatever stands in front of it; the host has no
    rope_options here."""
    return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
