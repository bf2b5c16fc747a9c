"""Wan 2.1 / 2.2: self-attention over video tokens, then cross-attention to image features (some I2V models) and to
text.

Sequence of the self-attention: [reference tokens][t x h x w][time_dim_concat frames][in-context tokens].
"""

from math import ceil, prod

import torch
from torch import Tensor, nn

from ..layout import Layout, Site, TimeRope

NAME = "Wan"
REPLACES_FIRST_FRAME = False
HOST_NUMBERS_BLOCKS = True
OWN_WINDOWS = True
REFINES_BEFORE = False
WINDOW_STEP = 2
PLACES_IN_SECONDS = False
SUPPORTED = "Wan 2.1 / 2.2 T2V, I2V, TI2V 5B, Fun Control, Fun Camera, VACE, Phantom"
CLASSES = ("WanModel", "VaceWanModel", "CameraWanModel")
ORDER = ("self", "image", "text")
TEXT_ENCODERS = ("umt5xxl",)  # names of their tokens in a CLIP
IMAGE_BEFORE_TEXT = False


def accepts(module: nn.Module, host_class: str) -> bool:
    return host_class in CLASSES


def blocks(module: nn.Module) -> int:
    return len(module.blocks)


def block_modules(module: nn.Module) -> list[nn.Module]:
    return list(module.blocks)


def block_of_frames(arguments: dict, layout: Layout, frames: list[int]) -> dict | None:
    """`arguments` of a block as patches_replace has them, cut down to `frames`; None where its parts cannot be told:
    tokens beside the video, or modulation of another length."""
    x, modulation, rope = (arguments[name] for name in ("img", "vec", "pe"))
    per_frame = modulation.ndim == 4 and modulation.shape[1] == layout.frames
    if x.shape[1] != layout.frames * layout.height * layout.width or not (
        per_frame or modulation.ndim == 3 or modulation.shape[1] == 1
    ):
        return None

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        split = tensor.unflatten(1, (layout.frames, -1))
        if frames == list(range(frames[0], frames[-1] + 1)):
            return split[:, frames[0] : frames[-1] + 1].flatten(1, 2)
        return split[:, torch.tensor(frames, device=tensor.device)].flatten(1, 2)

    return arguments | {"img": cut(x), "vec": cut(modulation) if per_frame else modulation, "pe": cut(rope)}


def token_modules(module: nn.Module) -> list[nn.Module]:
    return [module.head, *(block.ffn for block in (*module.blocks, *getattr(module, "vace_blocks", ())))]


def width_heads(module: nn.Module) -> tuple[int, int]:
    return module.dim, module.num_heads


def input_channels(module: nn.Module) -> int:
    return module.in_dim


def latent_channels(module: nn.Module) -> int:
    return module.out_dim


def trained_frames(module: nn.Module, frame_rate: float | None = None) -> int:
    """Latent frames of the clips it was trained on: 81 frames, or 121 for the 48-channel 5B model."""
    return 31 if module.out_dim == 48 else 21


def first_frames(latents: int) -> list[int]:
    """The first video frame of each latent frame, then the number of video frames: 0, 1, 5, 9, ..., 4 T - 3."""
    return [0, *range(1, 4 * latents - 2, 4)]


def clip_frames(shape, conds: list[dict]) -> int:
    return shape[2]


def sound_apart(module: nn.Module) -> bool:
    return False


def silence(latent: Tensor) -> None:
    return None


def clock(module: nn.Module, arguments: dict) -> None:
    return None


def mixes_words(module: nn.Module) -> bool:
    return False


def text_refiner(module: nn.Module) -> None:
    return None


def inputs_at_scale(arguments: dict, scale: float) -> dict:
    """Not so: see `time_rope`."""
    return {}


def patch_tokens(shape, patch) -> tuple[int, ...]:
    return tuple(ceil(n / p) for n, p in zip(shape[-len(patch) :], patch))


def time_rope(module: nn.Module, arguments: dict) -> TimeRope:
    """Neighbouring channels make a pair; those of time come first. Frames of `time_dim_concat` (Phantom) stand right
    after the video's last one. The host's own `rope_options` may have stretched time already."""
    stretch = arguments["transformer_options"].get("rope_options", {}).get("scale_t", 1.0)
    behind = arguments.get("time_dim_concat")
    following = prod(patch_tokens(behind.shape, module.patch_size)) if behind is not None else 0
    return first_axis(module.rope_embedder, stretch, following)


def first_axis(embedder: nn.Module, stretch: float = 1.0, following: int = 0) -> TimeRope:
    """Of the host's EmbedND whose first axis is time."""
    channels = embedder.axes_dim[0]
    freqs = stretch * embedder.theta ** -(torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    return TimeRope(slice(0, channels, 2), slice(1, channels, 2), freqs, following)


def layout(module: nn.Module, arguments: dict) -> Layout:
    """arguments: the call's, by name, with the extra keyword arguments merged in."""
    patch = module.patch_size
    grid = patch_tokens(arguments["x"].shape, patch)
    before = after = 0
    reference = arguments.get("reference_latent")
    if module.ref_conv is not None and reference is not None:
        before = prod(n // p for n, p in zip(reference.shape[-2:], patch[1:]))  # a plain convolution: no padding
    if arguments.get("time_dim_concat") is not None:
        after += prod(patch_tokens(arguments["time_dim_concat"].shape, patch))
    after += sum(prod(patch_tokens(latent.shape, patch)) for latent in arguments.get("context_latents") or ())
    clip = arguments.get("clip_fea")
    image = clip.shape[-2] if clip is not None and module.img_emb is not None else 0
    return Layout(
        *grid, before=before, after=after, text=arguments["context"].shape[1], image=image, patch=tuple(patch[1:])
    )


def site(
    module: nn.Module, options: dict, layout: Layout, queries: int, keys: int, dim: int, previous: Site | None
) -> Site | None:
    """Tells the attentions of a block apart by their lengths, and by their order where lengths coincide. None: not one
    of them."""
    if "block_type" not in options or queries != layout.tokens:
        return None
    lengths = {"self": layout.tokens, "image": layout.image, "text": layout.text}
    fits = [kind for kind in ORDER if lengths[kind] == keys]
    if not fits:
        return None
    start = ORDER.index(previous.kind) + 1 if previous else 0
    kind = min(fits, key=lambda kind: (ORDER.index(kind) - start) % len(ORDER))
    block, stream = options["block_index"], "double"
    if previous and previous.block == block:
        again = kind == "self" and previous.kind != "self" and hasattr(module, "vace_blocks")
        stream = "side" if again else previous.stream
    return Site(kind, block, blocks(module), stream)


def rope_axis(layout: Layout, options: dict) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Where the first token of the video stands on the model's RoPE axes (time, height, width), and how far its
    neighbours are apart there. A reference in front of the video is one frame."""
    rope = options.get("rope_options") or {}
    step = tuple(float(rope.get(f"scale_{axis}", 1.0)) for axis in "tyx")
    shift = tuple(float(rope.get(f"shift_{axis}", 0.0)) for axis in "tyx")
    references = layout.before // (layout.height * layout.width)
    return (shift[0] + step[0] * references, *shift[1:]), step
