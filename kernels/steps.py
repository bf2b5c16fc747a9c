"""Steps of a published sampling script as noise levels, which mean the same on any schedule."""


def shifted_sigma(fraction: float, shift: float) -> float:
    """Noise level, 1 to 0, of a flow model after `fraction` of its schedule, 0 to 1.

    shift * s / (1 + (shift - 1) * s), s = 1 - fraction.
    """
    s = 1.0 - fraction
    return shift * s / (1.0 + (shift - 1.0) * s)


def step_sigma(step: int, steps: int, shift: float) -> float:
    """Noise level at which step number `step`, from 0, of `steps` begins, evenly spaced as in the official scripts."""
    return shifted_sigma(step / steps, shift)
