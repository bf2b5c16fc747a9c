"""LTX-Video, and LTX-2 / 2.3 / 2.5, which make sound along: self-attention, then cross-attention to the prompt; the
sound has a stream of its own with the same two, and each stream looks at the other.

Sequence of the self-attention: [t x h x w][guide frames, of which some tokens may be left out].
"""

from math import prod

from torch import nn

from ..layout import Layout, Site, SiteKind, video_of
from .wan import clock as clock
from .wan import silence as silence  # without sound the models that make it leave its stream out
from .wan import text_refiner as text_refiner

NAME = "LTX"
SUPPORTED = "LTX-Video, LTX-2 / 2.3 / 2.5"
REPLACES_FIRST_FRAME = True  # the start image may stand in the latent itself, beside a noise mask
HOST_NUMBERS_BLOCKS = False
OWN_WINDOWS = False  # their latents may hold guides and sound
REFINES_BEFORE = True  # with sound: a connector mixes them with registers
WINDOW_STEP = 2
PLACES_IN_SECONDS = True
CLASSES = ("LTXVModel", "LTXAVModel")
TEXT_ENCODERS = ("t5xxl", "gemma3_12b", "gemma4")  # names of their tokens in a CLIP
IMAGE_BEFORE_TEXT = False
ORDER: tuple[SiteKind, ...] = ("self", "text", "audio", "audio_text", "from_audio", "to_audio")
FRAME_RATE = 25.0  # the host's, where a conditioning names none
time_rope = None  # it makes places, in seconds, of the frame rate
rope_axis = None
SECONDS = {"LTXVModel": 257 / FRAME_RATE, "LTXAVModel": 20.0}  # of the longest videos they were trained on


def accepts(module: nn.Module, host_class: str) -> bool:
    return host_class in CLASSES


def blocks(module: nn.Module) -> int:
    return len(module.transformer_blocks)


def block_modules(module: nn.Module) -> list[nn.Module]:
    return list(module.transformer_blocks)


def block_of_frames(arguments: dict, layout: Layout, frames: list[int]) -> None:
    """Not known yet: its blocks also get the sound and the places of guides."""


def token_modules(module: nn.Module) -> list[nn.Module]:
    """None yet."""
    return []


def width_heads(module: nn.Module) -> tuple[int, int]:
    return module.inner_dim, module.num_attention_heads


def input_channels(module: nn.Module) -> int:
    return module.in_channels


def latent_channels(module: nn.Module) -> int:
    return module.in_channels


def sound_apart(module: nn.Module) -> bool:
    return hasattr(module, "audio_attention_head_dim")


def trained_frames(module: nn.Module, frame_rate: float | None = None) -> int:
    """Positions are in seconds, so the latent frames depend on the rate: 257 video frames at 25 a second of
    LTX-Video, 20 s of the others, of which 4 frames more still hold (measured by users of LTX-2)."""
    seconds = SECONDS["LTXAVModel" if sound_apart(module) else "LTXVModel"]
    return (int(seconds * (frame_rate or FRAME_RATE)) + 4 + 7) // 8


def first_frames(latents: int) -> list[int]:
    """0, 1, 9, 17, ..., 8 T - 7."""
    return [0, *range(1, 8 * latents - 6, 8)]


def inputs_at_scale(arguments: dict, scale: float) -> dict:
    """As if so many more frames went into a second: guides as well, but not the sound of those that make it."""
    return {"frame_rate": arguments["frame_rate"] / scale}


def clip_frames(shape, conds: list[dict]) -> int:
    """Guides are frames appended to the latent; the places of all their tokens come with the prompts."""
    guides = next((entry["keyframe_idxs"] for entry in conds if entry.get("keyframe_idxs") is not None), None)
    return shape[2] - (0 if guides is None else guides.shape[2] // prod(shape[3:]))


def mixes_words(module: nn.Module) -> bool:
    """The connector of the models with sound lets the prompt's tokens and learnt registers, 1024 together, see one
    another in both directions before the blocks."""
    return sound_apart(module)


def layout(module: nn.Module, arguments: dict) -> Layout:
    """Tokens of guides that a mask below 0 marks do not come to the blocks."""
    x = video_of(arguments)
    frames = clip_frames(x.shape, [arguments])
    grid, after = (frames, *x.shape[3:]), 0
    if frames < x.shape[2]:
        mask = arguments["denoise_mask"]
        left_out = (mask[0] < 0).any(0)[frames:].expand(-1, *x.shape[3:])
        after = int((~left_out).sum())
    audio = voice = 0
    if isinstance(arguments["x"], (list, tuple)) and len(arguments["x"]) > 1:
        reference = arguments.get("ref_audio")
        voice = 0 if reference is None else reference["tokens"].shape[1]
        audio = arguments["x"][1].shape[2] + voice
    return Layout(*grid, after=after, text=arguments["context"].shape[1], audio=audio, voice=voice)


def site(
    module: nn.Module, options: dict, layout: Layout, queries: int, keys: int, dim: int, previous: Site | None
) -> Site | None:
    """Tells the attentions of a block apart by their heads' channels and their lengths, and by their order where both
    coincide. None: not one of them, or one of guide frames alone, which see all."""
    if "block_index" not in options:
        return None
    grid = layout.frames * layout.height * layout.width
    lengths = {  # of queries and keys
        "self": ((layout.tokens, layout.tokens), (grid, layout.tokens)),
        "text": ((layout.tokens, layout.text),),
        "audio": ((layout.audio, layout.audio),),
        "audio_text": ((layout.audio, layout.text),),
        "from_audio": ((layout.tokens, layout.audio),),
        "to_audio": ((layout.audio, layout.tokens),),
    }
    possible = ORDER[:2] if dim == module.attention_head_dim else ()
    if layout.audio and dim == module.audio_attention_head_dim:
        possible += ORDER[2:]
    off = _left_out(options)
    fits = [kind for kind in possible if (queries, keys) in lengths[kind] and kind not in off]
    block = options["block_index"]
    here = previous is not None and previous.block == block
    start = ORDER.index(previous.kind) + 1 if here else 0
    guides = here and previous.kind == "self" and queries < layout.tokens and "self" in fits  # after the video's turn
    if not fits or guides:
        return None
    kind = min(fits, key=lambda kind: (ORDER.index(kind) - start) % len(ORDER))
    return Site(kind, block, blocks(module))


def _left_out(options: dict) -> set[SiteKind]:
    """Attentions that the host was told to leave out, of this block or of all."""
    off: set[SiteKind] = {"self", "audio"} if options.get("stg_skip_self_attn") else set()
    if not options.get("a2v_cross_attn", True):
        off.add("from_audio")
    if not options.get("v2a_cross_attn", True):
        off.add("to_audio")
    return off
