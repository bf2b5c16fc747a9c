"""Trains a Semantic Planner on plans and their texts: the one core of the node and of `run.py train planner`.

    loss = mean |v' - (eps - z0)|^2        z0: normalised plans; levels of kernels/flow_matching.py, shifted

The compressor that made the plans is trained before and stands still (SemanticGen, arXiv 2512.20619, section 3.1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor, autocast

from ..host.frozen_model import in_training
from ..kernels.flow_matching import noised, shifted, stratified, velocity_error, weighted_losses
from ..kernels.plan_spec import PlannerSpec
from ..kernels.planner import Planner, initialise
from .loop import Export
from .plan import Plan, State
from .validation import Validation, train_validated

TEXT_DROPOUT = 0.1  # for CFG; unpublished, our choice


@dataclass(frozen=True)
class Batch:
    """plans: [n, time, rows, columns, dims], as encoders make them; text, silent: text features of their captions and
    of the empty one, [n | 1, tokens, text_width]; said, silent_said: which of these tokens are no padding, bool [n | 1,
    tokens], or None for all."""

    plans: Tensor
    text: Tensor
    silent: Tensor
    said: Tensor | None = None
    silent_said: Tensor | None = None


Draw = Callable[[Random], Batch]


def losses(
    planner: Planner, draw: Draw, rng: Random, dtype: torch.dtype | None = None, dropout: float = TEXT_DROPOUT
) -> dict[str, Tensor]:
    """ "loss" of one batch. dtype: of autocast, None for none; dropout: chance that a text is left out."""
    batch = draw(rng)
    generator = torch.Generator().manual_seed(rng.getrandbits(60))
    z0 = planner.normal(batch.plans)
    noise = torch.randn(z0.shape, generator=generator).to(z0)
    s = shifted(stratified(len(z0), generator), planner.spec.shift).to(z0)
    s = s[torch.randperm(len(s), generator=generator).to(s.device)]
    left_out = torch.tensor([rng.random() < dropout for _ in range(len(z0))], device=z0.device)
    text = torch.where(left_out[:, None, None], batch.silent.to(z0), batch.text.to(z0))
    sees = None
    if batch.said is not None:
        said = torch.where(left_out[:, None], batch.silent_said.to(z0.device), batch.said.to(z0.device))
        sees = said[:, None].expand(-1, z0.shape[1], -1)
    with autocast(z0.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        velocity = planner(noised(z0, noise, s), s, text, sees)
    error = velocity_error(*(x.movedim(-1, 1) for x in (velocity, z0, noise)))
    return weighted_losses(error, s)


def train_planner(
    spec: PlannerSpec,
    plans: Tensor,
    draw: Draw,
    plan: Plan,
    export: Export,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    validate: Draw | None = None,
    every: int = 50,
    patience: int = 0,
) -> tuple[dict[str, Tensor], State]:
    """Trains until the plan is done or validation gets no better; returns the averaged weights. plans: some, [n, ...,
    dims], by which all are normalised. export: as in `train_validated`. validate: draws of plans that are not learnt
    from; every, patience: as in validation.py. When the user interrupts, the last checkpoint stays. Raises ValueError
    as `train` does."""
    with in_training():
        planner = Planner(spec, device=device)
        initialise(planner, plan.seed)
        planner.normalise(plans)
        bar = comfy.utils.ProgressBar(plan.steps or 1000)

        def loss_of(step: int, done: float) -> dict[str, Tensor]:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update_absolute(step if plan.steps else int(1000 * done))
            return losses(planner, draw, Random(f"{plan.seed}/{step}/planner"), dtype)

        kept = None
        if validate is not None:

            def held_out(rng: Random) -> Tensor:
                return losses(planner, validate, rng, dtype, dropout=0.0)["loss"]

            kept = Validation(held_out, every, patience)
        weights, state = train_validated(plan, planner, loss_of, export, kept)
        bar.update_absolute(bar.total)
    return weights, state
