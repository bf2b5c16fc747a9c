"""A plan: few semantic tokens a second that say what a long video shows, before any pixel of it is drawn."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SemanticPlan:
    """tokens: [time, height, width, dims] float32, in order of time. fps: token frames a second.

    encoder: names what made the tokens (vision tower and compressor), so that plans of different kinds do not mix.
    """

    tokens: Tensor
    fps: float
    encoder: str

    @property
    def seconds(self) -> float:
        return self.tokens.shape[0] / self.fps
