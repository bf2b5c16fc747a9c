"""Where the tokens of one model call lie, and which attention is looked at."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

SiteKind = Literal["self", "text", "image", "joint", "audio", "audio_text", "from_audio", "to_audio"]
AUDIO_QUERIES: tuple[SiteKind, ...] = ("audio", "audio_text", "to_audio")  # of a stream of its own, beside the video's


@dataclass(frozen=True)
class Layout:
    """Video tokens [before][frames x height x width][after], flattened in that order.

    before: reference tokens in front of the grid; after: in-context tokens behind it; both without text.
    text, image: keys of the text and the image cross-attention, 0 where the family has none. On joint attention image
    counts the tokens of a CLIP or SigLIP image in front of the prompt's, glyphs those of quoted words (byT5) between
    both. audio: tokens of the sound that is made along; in joint attention they are the last of `before`, elsewhere
    they have attentions of their own. voice: of these, in front, those of a sound that the model refers to. patch:
    latent cells of a token, height and width; the last row and column of tokens may be padded.
    """

    frames: int
    height: int
    width: int
    before: int = 0
    after: int = 0
    text: int = 0
    image: int = 0
    audio: int = 0
    glyphs: int = 0
    voice: int = 0
    patch: tuple[int, int] = (1, 1)

    @property
    def tokens(self) -> int:
        return self.before + self.frames * self.height * self.width + self.after


@dataclass(frozen=True)
class Crop:
    """The part of the video that a batch row shows (a context window, a conditioning's area), in cells of the latent.

    frames: index in the whole video of each latent frame; a context window may carry one earlier frame in front.
    top, left, height, width: of the part; video: height and width of the whole.
    """

    frames: tuple[int, ...]
    top: int
    left: int
    height: int
    width: int
    video: tuple[int, int]

    @property
    def whole_picture(self) -> bool:
        return (self.height, self.width) == self.video


@dataclass(frozen=True)
class Site:
    """One attention of the model. block counts through the whole model (Hunyuan's single blocks follow its double
    ones).

    kind: self, text and image have the video's queries, joint all tokens'. Of models whose sound has a stream of its
    own: audio is its self-attention, audio_text its look at the prompt, from_audio the video's look at it, to_audio its
    look at the video.

    stream: "side" are VACE's own blocks, which bear the number of the block that they follow.
    """

    kind: SiteKind
    block: int
    blocks: int
    stream: Literal["double", "single", "side"] = "double"


@dataclass(frozen=True)
class TimeRope:
    """How the model turns queries and keys by their place in time (RoPE): channels (first[i], second[i]) of every head
    by freqs[i] radians a latent frame.

    first, second: slices of a head's channels; freqs: [pairs], or [heads, pairs] where heads differ, fp64. following:
    tokens right behind the video that the model places after its last frame.
    """

    first: slice
    second: slice
    freqs: Tensor
    following: int = 0


def video_of(arguments: dict) -> Tensor:
    """The video's latent among the arguments of a call of the model; of those that make sound along it is the first of
    a list."""
    x = arguments["x"]
    return x[0] if isinstance(x, (list, tuple)) else x
