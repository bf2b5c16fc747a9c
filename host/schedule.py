"""Which denoising steps a patch acts on."""

from dataclasses import dataclass
from math import inf

EPSILON = 1e-5  # of sigma: schedules and percent_to_sigma round differently
WHOLE = 0.98  # of the highest sigma: where a run of the whole schedule starts at the latest (our choice)


@dataclass(frozen=True)
class Interval:
    """A part of the whole schedule in fractions, 0 = first step, 1 = end; a step at `start` is in, a step at `end` is
    not.

    Fractions become sigmas, so that the same interval means the same noise levels on both experts of Wan 2.2 and on a
    part of a schedule. Of the steps within, only those at a noise level above `min_sigma` are in.
    """

    start: float = 0.0
    end: float = 1.0
    min_sigma: float = 0.0

    def __post_init__(self):
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise ValueError(f"start {self.start}, end {self.end}: must satisfy 0 <= start <= end <= 1.")
        if not 0.0 <= self.min_sigma <= 1.0:
            raise ValueError(f"min_sigma {self.min_sigma}: must be a noise level, from 0 (the end) to 1 (pure noise).")

    def sigmas(self, model_sampling) -> tuple[float, float]:
        """Highest and lowest sigma, the latter exclusive; the schedule's own ends are open."""
        high = inf if self.start <= 0.0 else float(model_sampling.percent_to_sigma(self.start)) + EPSILON
        low = -inf if self.end >= 1.0 else float(model_sampling.percent_to_sigma(self.end)) + EPSILON
        return high, max(low, self.min_sigma + EPSILON) if self.min_sigma else low

    def contains(self, sigma: float, model_sampling) -> bool:
        high, low = self.sigmas(model_sampling)
        return low < sigma <= high and self.start < self.end

    def in_run(self, sigmas: list[float], model_sampling) -> bool:
        """Whether any step of a run at `sigmas` is in."""
        return any(self.contains(sigma, model_sampling) for sigma in sigmas[:-1])

    def in_another_part(self, sigmas: list[float], model_sampling) -> bool:
        """Whether `sigmas`, of a run over a part of the schedule (an expert of Wan 2.2, denoise below 1), leave out all
        of this interval."""
        high, low = self.sigmas(model_sampling)
        starts_late = sigmas[0] < WHOLE * float(model_sampling.sigma_max)
        before, after = low >= sigmas[0] and starts_late, high <= sigmas[-1] and sigmas[-1] > 0
        return self.start < self.end and (before or after)


ALWAYS = Interval()
