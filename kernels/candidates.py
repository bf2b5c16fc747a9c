"""Which of several candidates for a window goes on best from the frames before it.

    r = |x_1 - x_0| / median_i |x_(i+1) - x_i|        |d|: root mean square over a latent frame

x_0: the frame before the window; x_1, x_2, ...: its own. A window that goes on steps over its border as it steps
elsewhere; one that begins anew jumps. The lowest r is kept.

Random search with a verifier is published (Ma et al., arXiv 2501.09732). This verifier, and that it judges at a noise
level of 0.8, where most is decided and two thirds of the steps are done, are our choice.
"""

from collections.abc import Sequence

from torch import Tensor

LEVEL = 0.8  # of a flow model
STILL = 1e-6  # a step below it is none


def unevenness(before: Tensor, own: Tensor) -> Tensor:
    """r of each video [batch]. before: [batch, channels, height, width]; own: [batch, channels, frames, height, width];
    of one frame: |x_1 - x_0|."""

    def size(step: Tensor) -> Tensor:
        return step.float().square().mean(dim=(1, -2, -1)).sqrt()

    over = size(own[:, :, 0] - before)
    inside = size(own.diff(dim=2))
    return over / inside.median(dim=1).values.clamp(min=STILL) if inside.shape[1] else over


def chosen_at(sigmas: Sequence[float], level: float = LEVEL) -> int:
    """Index of the first of falling noise levels that is at most `level`; of the last where none is."""
    return next((i for i, sigma in enumerate(sigmas) if sigma <= level), len(sigmas) - 1)
