"""Restarts of a sampler: down to a low noise level, with fresh noise up to a high one, and down again.

    x0: what the video is thought to be at sigma_low        x = (1 - sigma_high) x0 + sigma_high eps

Each round goes back over what the steps in between decided (Restart sampling, arXiv 2306.14878), so that what is made
agrees better with what is given, here with the frames that lead in (as in RePaint, arXiv 2201.09865). Between which
levels is our choice.
"""

from collections.abc import Sequence

HIGH, LOW = 0.97, 0.85  # of a flow model; in between it decides where things are


def legs(sigmas: Sequence[float], restarts: int, high: float = HIGH, low: float = LOW) -> list[tuple[int, int]]:
    """First and last level, by index, of the runs that go `restarts` times from the first level of at most `low` back
    to the first of at most `high`.

    sigmas: falling levels [steps + 1]. A schedule that does not reach from one to the other has one leg.
    """
    end = len(sigmas) - 1
    top = next((i for i, sigma in enumerate(sigmas) if sigma <= high), end)
    bottom = next((i for i, sigma in enumerate(sigmas) if sigma <= low), end)
    if restarts < 1 or bottom - top < 1 or sigmas[bottom] > low:
        return [(0, end)]
    return [(0, bottom), *[(top, bottom)] * (restarts - 1), (top, end)]
