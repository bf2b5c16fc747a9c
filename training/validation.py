"""Validation of a training: the loss of the averaged weights on videos that are not learnt from, and the end of what
gets no better."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn

from .loop import Enough, Export, LossOf, train
from .parallel import means
from .plan import Plan, State

BATCHES = 4  # always the same, with the same noise
PATIENCE = 8


@dataclass(frozen=True)
class Validation:
    """loss: of a batch of videos that are not learnt from. every: steps between validations; patience: how many without
    a better one end the training, 0 for never."""

    loss: Callable[[Random], Tensor]
    every: int = 50
    patience: int = 0


def stopping(module: nn.Module, plan: Plan, export: Export, validation: Validation) -> Enough:
    """`enough` of `train`: validates every so many steps, exports what is better than ever before, and ends the
    training when nothing has been for `patience` validations."""

    def enough(weights: dict[str, Tensor], state: State) -> bool:
        if state.step % validation.every:
            return False
        curve = state.curves.setdefault("validation", [])
        best_step, best = min(
            (point for point in curve if math.isfinite(point[1])), key=lambda point: point[1], default=(0, math.inf)
        )
        value = loss_of(module, weights, plan, validation)
        curve.append((state.step, value))
        if value < best:
            export(weights, state)
            return False
        since = sum(step > best_step for step, _ in curve)
        return validation.patience > 0 and since >= validation.patience

    return enough


def loss_of(module: nn.Module, weights: dict[str, Tensor], plan: Plan, validation: Validation) -> float:
    """Mean loss of the averaged weights."""
    now = {key: value.detach().clone() for key, value in module.state_dict().items()}
    module.load_state_dict(weights)
    with torch.no_grad():
        values = [float(validation.loss(Random(f"{plan.seed}/{i}/validation"))) for i in range(BATCHES)]
    module.load_state_dict(now)
    return means([sum(values) / len(values)])[0]


def train_validated(
    plan: Plan, module: nn.Module, loss_of_step: LossOf, export: Export, validation: Validation | None
) -> tuple[dict[str, Tensor], State]:
    """`train`, with validation or without: the file is written when validation is better than ever before, else every
    plan.export_minutes; and at the end where it never was. Returns as `train`."""
    if validation is None:
        weights, state = train(plan, module, loss_of_step, export if plan.export_minutes else None)
        exported = bool(plan.export_minutes)
    else:
        weights, state = train(plan, module, loss_of_step, enough=stopping(module, plan, export, validation))
        exported = "validation" in state.curves
    if not exported:
        export(weights, state)
    return weights, state
