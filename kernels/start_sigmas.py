"""A schedule that starts, or ends, at exactly one noise level.

The step whose noise level is nearest is moved to it. A step is never squeezed in between: multistep samplers divide by
the length of the step before.
"""

from torch import Tensor


def nearest_step(sigmas: Tensor, sigma: float) -> int:
    """Which step, from 0, of a falling schedule [steps + 1] starts nearest to `sigma`; of two as near the later one."""
    distance = (sigmas[:-1].double() - sigma).abs()
    return int((distance == distance.min()).nonzero()[-1])


def split_at(sigmas: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """(the schedule down to exactly `sigma`, the schedule from exactly `sigma` on); both hold `sigma`."""
    step = nearest_step(sigmas, sigma)
    exact = sigmas.clone()
    exact[step] = sigma
    return exact[: step + 1], exact[step:]
