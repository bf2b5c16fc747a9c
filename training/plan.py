"""How long and how to train, where a training stands, and the learning rate that follows from both."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ..host.target_file import target_file


@dataclass
class Plan:
    """name: of the checkpoint and the plot in `cache`, folders allowed, such as "cats/small". minutes, steps: where the
    training ends, None where it is not limited by it; the rate follows the further of the two, so that it always ends
    at zero. resume: continue from the checkpoint, where there is one. checkpoint_minutes: how much an interruption
    costs at most.

    Raises ValueError, as `target_file`, for a name that cannot be a file's.
    """

    name: str
    cache: Path
    minutes: float | None = None
    steps: int | None = None
    batch: int = 8
    seed: int = 0
    rate: float = 2e-3
    warmup: int = 100
    ema: float = 0.999
    decay: float = 0.01
    resume: bool = False
    export_minutes: float | None = None
    held_out: int = 200
    scenes: int = 40000
    checkpoint_minutes: float = 2.0

    def __post_init__(self):
        target_file(self.cache, self.name, "name")

    @property
    def checkpoint(self) -> Path:
        return self.cache / f"{self.name}.safetensors"

    @property
    def picture(self) -> Path:
        """Of the loss curves."""
        return self.cache / f"{self.name}.png"


@dataclass
class State:
    """Where a training stands. curves: for each loss, (step, mean over the steps since the point before)."""

    step: int = 0
    seconds: float = 0.0
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """The last point of "loss"; NaN before the first."""
        curve = self.curves.get("loss")
        return curve[-1][1] if curve else math.nan


def random_at(seed: int, step: int, salt: int = 0) -> Random:
    """The random numbers of one step, so that a resumed run goes on with batches it has not seen. Random hashes strings
    the same on every machine."""
    return Random(f"{seed}/{step}/{salt}")


def progress(plan: Plan, state: State) -> float:
    """Fraction of the plan done, 0..1. ValueError if the plan has no end."""
    if plan.minutes is None and plan.steps is None:
        raise ValueError(f"{plan.name}: give --minutes or --steps")
    parts = [state.seconds / 60 / plan.minutes] if plan.minutes else []
    parts += [state.step / plan.steps] if plan.steps else []
    return min(max(parts), 1.0)


def rate_at(plan: Plan, state: State) -> float:
    """The learning rate: linear warm-up, then half a cosine down to zero (our choice).

    Not torch's LambdaLR, which maps a count of steps to a factor: this one follows the clock as well, is of two
    optimizers at once, and goes on from a `State` that was read, whose clock stood still meanwhile.
    """
    warmup = min(plan.warmup, plan.steps // 5 + 1) if plan.steps else plan.warmup
    rising = min((state.step + 1) / warmup, 1.0)
    falling = 0.5 * (1 + math.cos(math.pi * progress(plan, state)))
    return plan.rate * rising * falling
