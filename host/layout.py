"""Where the tokens of one model call lie, and which attention is looked at."""

from dataclasses import dataclass
from typing import Literal

SiteKind = Literal["self", "text", "image", "joint"]


@dataclass(frozen=True)
class Layout:
    """Video tokens [before][frames x height x width][after], flattened in that order.

    before: reference tokens in front of the grid; after: in-context tokens behind it; both without text.
    text, image: keys of the text and the image cross-attention, 0 where the family has none. On joint attention image
    counts the tokens of a CLIP or SigLIP image in front of the prompt's, glyphs those of quoted words (byT5) between
    both. patch: latent cells of a token, height and width; the last row and column of tokens may be padded.
    """

    frames: int
    height: int
    width: int
    before: int = 0
    after: int = 0
    text: int = 0
    image: int = 0
    glyphs: int = 0
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

    stream: "side" are VACE's own blocks, which bear the number of the block that they follow.
    """

    kind: SiteKind
    block: int
    blocks: int
    stream: Literal["double", "single", "side"] = "double"
