"""What an SSG Adapter, or the model's own image branch, looks at, and how much."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..host.call import Call
from ..host.schedule import ALWAYS, Interval

NAME = "SSG Adapter"
Passes = Literal["both", "conditional"]


@dataclass(frozen=True, eq=False)
class Guide:
    """What to look at, and how much.

    features: CLIP features of the prompted image, [1 | frames, n, clip_width]; mask: where to look, [1 | frames, any
    height, any width], 0..1, or None for everywhere. frames: one per latent frame of the clip, or one per video frame,
    of which every fourth is taken. strength: 1 = as trained, 0 = the unpatched model. passes: which of the sampler's
    passes look; "conditional" is then strengthened by CFG.
    """

    features: Tensor
    mask: Tensor | None = None
    strength: float = 1.0
    passes: Passes = "both"
    interval: Interval = ALWAYS

    def __post_init__(self):
        if self.passes not in Passes.__args__:
            raise ValueError(f"passes '{self.passes}': choose one of {', '.join(Passes.__args__)}.")
        if not 0.0 <= self.strength <= 2.0:
            raise ValueError(f"strength {self.strength}: must be from 0 (the model as it is) to 2 (twice as trained).")
        if self.mask is not None and (
            self.mask.ndim != 3 or 0 in self.mask.shape or not torch.isfinite(self.mask).all()
        ):
            raise ValueError(
                f"mask: shape {tuple(self.mask.shape)}, empty or with NaN or infinite values. Give masks [frames, "
                "height, width] of 0 to 1."
            )

    def rows(self, call: Call) -> list[int]:
        """The rows of an attention call that look."""
        return list(range(len(call.q))) if self.passes == "both" else call.positive_rows
