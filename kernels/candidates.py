"""Which of several candidates for a window goes on best from the frames before it.

    r = |x_1 - x_0| / (|x_0 - x_-1| + median_i |x_(i+1) - x_i|)        |d|: root mean square over a latent frame

x_-1, x_0: the frames before the window; x_1, x_2, ...: its own. A window that goes on steps over its border as on
either side of it; one that begins anew jumps. The lowest r is kept.

Random search with a verifier is published (Ma et al., arXiv 2501.09732). This verifier, and that it judges at a noise
level of 0.8, where most is decided and two thirds of the steps are done, are our choice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

LEVEL = 0.8  # of a flow model
STILL = 1e-6  # a step below it is none


def unevenness(before: Tensor, own: Tensor) -> Tensor:
    """r of each video [batch]. before: the video before the window, own: the window, [batch, channels, frames, height,
    width] each, of one frame or more; where one of them is a single frame, its side of the sum is 0."""

    def size(step: Tensor) -> Tensor:
        return step.float().square().mean(dim=(1, -2, -1)).sqrt()

    def usual(steps: Tensor) -> Tensor:
        return size(steps).median(dim=1).values if steps.shape[2] else steps.new_zeros(len(steps), dtype=torch.float32)

    over = size(own[:, :, :1] - before[:, :, -1:])[:, 0]
    return over / (usual(before[:, :, -2:].diff(dim=2)) + usual(own.diff(dim=2))).clamp(min=STILL)


def chosen_at(sigmas: Sequence[float], level: float = LEVEL) -> int:
    """Index of the first of falling noise levels that is at most `level`; of the last where none is."""
    return next((i for i, sigma in enumerate(sigmas) if sigma <= level), len(sigmas) - 1)
