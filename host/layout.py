"""Where the tokens of one model call lie, and which attention is looked at."""

from dataclasses import dataclass
from typing import Literal

SiteKind = Literal["self", "text", "image", "joint"]


@dataclass(frozen=True)
class Layout:
    """Video tokens [before][frames x height x width][after], flattened in that order.

    before: reference tokens in front of the grid; after: in-context tokens behind it; both without text.
    text, image: keys of the text and the image cross-attention, 0 where the family has none. On joint attention image
    counts the tokens of a CLIP or SigLIP image in front of the prompt's.
    """

    frames: int
    height: int
    width: int
    before: int = 0
    after: int = 0
    text: int = 0
    image: int = 0

    @property
    def tokens(self) -> int:
        return self.before + self.frames * self.height * self.width + self.after


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
