"""What a row of the demo's page is; demo_rows.py has them all."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..mini import family as mini
from ..miniworld.caption import caption
from .demo_figures import Average


class Verdict(NamedTuple):
    good: bool
    text: str


@dataclass(frozen=True)
class Given:
    """What a row starts from: frames [time, height, width, 3], or [1, ...] for a picture, and words under it."""

    label: str
    frames: Tensor


@dataclass(frozen=True)
class Take:
    """One clip. api: the graph that makes it; average: over the whole measured set; stills: a label for each picture
    that the graph saves beside the clip."""

    label: str
    api: dict = field(repr=False)
    average: Average | None = None
    stills: tuple[str, ...] = ()


class Row:
    """One technique. main: which of its takes has the technique as it is meant to be used; the first has none of it."""

    key = title = what = nodes = template = measured = limit = ""
    unit = "prompts"
    main = -1
    needs: tuple[str, ...] = ()

    def ready(self) -> bool:
        return mini.has("vae", "clip", *self.needs)

    def items(self) -> list:
        """The measured set, in its order."""
        raise NotImplementedError

    def asked(self, number: int, item) -> list[str]:
        """What is asked for, a line for each part of a story."""
        return [caption(item, number)]

    def given(self, number: int, item) -> list[Given]:
        return []

    def takes(self, number: int, item, inputs: Path) -> list[Take]:
        """The graphs; files that they load go into `inputs`, the server's input folder."""
        raise NotImplementedError

    def judge(self, frames: Tensor, number: int, item) -> Verdict:
        raise NotImplementedError
