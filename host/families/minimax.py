"""MiniMax H3: joint attention over text, references, sound and video; one prompt a call.

Sequence of every attention: [text][keyframes][references, video and sound][sound, two channels][t x h x w].
"""

from copy import copy
from math import prod

from torch import Tensor, nn

from ..layout import Layout, Site, video_of
from .wan import clip_frames as clip_frames
from .wan import mixes_words as mixes_words
from .wan import patch_tokens
from .wan import sound_apart as sound_apart  # its sound is among the video's tokens
from .wan import text_refiner as text_refiner

NAME = "MiniMax H3"
SUPPORTED = "MiniMax H3 (needs ComfyUI 0.30 or later)"
REPLACES_FIRST_FRAME = False  # keyframes are tokens of their own, beside the latent
HOST_NUMBERS_BLOCKS = False
OWN_WINDOWS = False  # its latent holds the sound, too
REFINES_BEFORE = True
WINDOW_STEP = 10  # two of the chunks of 17 video frames in which its autoencoder works
PLACES_IN_SECONDS = False
TEXT_ENCODERS = ("qwen3vl_32b",)  # names of their tokens in a CLIP
IMAGE_BEFORE_TEXT = True  # pictures of references stand in front of the prompt
time_rope = None  # places in units of 1/40 s that text and references share, listed for each call
MOVING = ("cond", "cond_audio", "audio", "video")  # the host's names: keyframes with their sound, sound, video
rope_axis = None
CHUNK = (0, 1, 5, 9, 13)  # first video frames of the five latent frames of a chunk of 17


def accepts(module: nn.Module, host_class: str) -> bool:
    return host_class == "MiniMaxH3Model"


def blocks(module: nn.Module) -> int:
    return len(module.blocks)


def block_modules(module: nn.Module) -> list[nn.Module]:
    return list(module.blocks)


def block_of_frames(arguments: dict, layout: Layout, frames: list[int]) -> None:
    """The text of a block asks all of the video at once."""


def token_modules(module: nn.Module) -> list[nn.Module]:
    """None: text, sound and video go through them in one."""
    return []


def width_heads(module: nn.Module) -> tuple[int, int]:
    """Wider than its tokens: 56 heads of 128 beside 5376. Read of the module, as its files may be quantised."""
    attention = module.blocks[0].attn
    return attention.heads * attention.head_dim, attention.heads


def input_channels(module: nn.Module) -> int:
    return module.latents_dim


def latent_channels(module: nn.Module) -> int:
    return module.latents_dim


def trained_frames(module: nn.Module, frame_rate: float | None = None) -> int:
    """Latent frames of the longest videos it was trained on: 362 frames, 15 s at its 24 a second."""
    return 107


def first_frames(latents: int) -> list[int]:
    """0, 1, 5, 9, 13, 17, 18, 22, ...: 17 video frames are five latent frames, and 17 k + 5 are 5 k + 2."""
    return [17 * (i // 5) + CHUNK[i % 5] for i in range(latents + 1)]


def inputs_at_scale(arguments: dict, scale: float) -> dict:
    """Video, sound and keyframes move together; text and references stay."""
    payload = arguments["minimax_payload"]
    packed = copy(payload["layout"])
    packed.position_ids = places = packed.position_ids.clone()
    times, start = places[:, 0], places[packed.segments[-1][0], 0].clone()  # the video is the last
    for first, past, kind in packed.segments:
        if kind in MOVING:
            times[first:past] = start + scale * (times[first:past] - start)
    return {"minimax_payload": payload | {"layout": packed}}


def silence(latent: Tensor) -> Tensor:
    """Two channels, 40 latent frames a second, at 24 video frames a second."""
    return latent.new_zeros(len(latent), 32, 2, round(first_frames(latent.shape[2])[-1] * 40 / 24))


def clock(module: nn.Module, arguments: dict) -> tuple[Tensor, float]:
    """The video starts behind the text, one unit a token, and the references, a latent frame of sound a unit: 40 a
    second."""
    start = float(arguments["context"].shape[1])
    for block in (arguments.get("minimax_payload") or {}).get("refs") or ():
        videos = first_frames(block["latent_t"])[-1] * 5 / 3 if block["kind"].startswith("video") else 0.0
        start += 1.0 if block["kind"] == "image" else max(float(block["ref_audio_t"]), videos)
    return module.rope.inv_freq, start


def layout(module: nn.Module, arguments: dict) -> Layout:
    grid = patch_tokens(video_of(arguments).shape, module.patch_size)
    payload = arguments.get("minimax_payload") or {}
    audio = prod(arguments["x"][1].shape[2:]) if isinstance(arguments["x"], (list, tuple)) else 0
    before = _published(arguments, payload, audio, prod(grid))
    if before is None:
        videos, sounds = (payload.get(f"cond_{kind}_latents") or () for kind in ("video", "audio"))
        before = audio + sum(prod(n // p for n, p in zip(x.shape[-3:], module.patch_size)) for x in videos)
        before += sum(prod(x.shape[2:]) for x in sounds)
    return Layout(*grid, before=before, audio=audio, patch=tuple(module.patch_size[1:]))


def _published(arguments: dict, payload: dict, audio: int, grid: int) -> int | None:
    """Tokens between text and video as the host itself lists them, in its options (0.35 and later) or beforehand; None
    where it has no list for a call of these lengths and makes one in it."""
    text = arguments["context"].shape[1]
    for packed in (arguments["transformer_options"].get("minimax_h3_layout"), payload.get("layout")):
        segments = getattr(packed, "segments", None)
        if not segments:
            continue
        lengths = {kind: past - first for first, past, kind in segments if kind in ("text", "audio", "video")}
        if lengths == {"text": text, "audio": audio, "video": grid}:
            return segments[-1][0] - text
    return None


def site(
    module: nn.Module, options: dict, layout: Layout, queries: int, keys: int, dim: int, previous: Site | None
) -> Site | None:
    """Every attention of a block is joint; the token refiner, which runs before the blocks, has no number."""
    if "block_index" not in options or queries <= layout.tokens:
        return None
    return Site("joint", options["block_index"], blocks(module))
