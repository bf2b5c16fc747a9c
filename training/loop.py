"""A training loop that can be stopped at any time and continued: time-planned rate, averaged weights, progress bar,
atomic checkpoints, loss plot."""

import logging
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ..host.feedback import say
from . import parallel
from .checkpoint import load_checkpoint, save_checkpoint
from .loss_plot import loss_plot
from .optimizer import Optimizer
from .plan import Plan, State, progress, rate_at

LOG_STEPS = 10
MOST_BAD_STEPS = 20  # in a row
NOT_FINITE = "its gradients are NaN or infinite"
LossOf = Callable[[int, float], dict[str, Tensor]]  # (step, progress) -> named losses
Export = Callable[[dict[str, Tensor], State], None]
Enough = Callable[[dict[str, Tensor], State], bool]
CAUSES = (
    "Likely causes: a learning rate too high; a model, VAE or CLIP in fp16 or fp8 that overflows; videos whose latents "
    "are NaN or far out of range"
)


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """torch's exponential moving average of a module's parameters; a young average forgets faster: after n updates,
    (1 + n) / (10 + n) of it stays, and at most `decay`."""

    def update(averages: list[Tensor], parameters: list[Tensor], count: Tensor) -> None:
        n = int(count)
        torch._foreach_lerp_(averages, parameters, 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(module, multi_avg_fn=update)


def train(
    plan: Plan, module: nn.Module, loss_of: LossOf, export: Export | None = None, enough: Enough | None = None
) -> tuple[dict[str, Tensor], State]:
    """Trains the parameters of `module` that require gradients, until the plan is done; returns the averaged weights.

    loss_of(step, progress) gives named losses; "loss" is minimised, the rest is shown. It should draw its batch from
    (seed, step), so that a resumed run sees new ones. export(averaged weights, state) is called every
    plan.export_minutes and at the end, enough(averaged weights, state) after every step: True ends the training early.
    What either of them, or loss_of, raises ends it too; the last checkpoint stays. Raises ValueError before the first
    step for a checkpoint that cannot be resumed (`load_checkpoint`), and after MOST_BAD_STEPS steps in a row whose
    gradients are not finite; fewer are left out with a warning.

    In several processes (parallel.py), all take every step together, and the first alone exports, saves and shows;
    plan.batch is of all together. ValueError where it cannot be shared.
    """
    parallel.require_shares(plan.batch)
    optimizer = Optimizer(module, plan.rate, plan.decay)
    parallel.same_start(optimizer.parameters)
    average, state = averaged(module, plan.ema), State()
    if plan.resume and plan.checkpoint.exists():
        state = load_checkpoint(plan.checkpoint, module, average, optimizer)
    parallel.require_same_step(state.step)
    first = parallel.first()
    weights = average.module.state_dict()  # shares its memory
    sums: dict[str, list[float]] = {}
    saved = exported = begun = time.monotonic()
    already, bad, warned = state.seconds, 0, False
    bar = tqdm(
        total=100.0,
        desc=plan.name,
        mininterval=5,
        disable=not first,
        bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed}<{remaining} {postfix}",
    )
    stopped = False
    while (done := progress(plan, state)) < 1 and not stopped:
        with parallel.together():
            losses = loss_of(state.step, done)
            losses["loss"].backward()
        parallel.mean_gradients(optimizer.parameters)
        norm = nn.utils.clip_grad_norm_(optimizer.parameters, 1.0)
        if torch.isfinite(norm):
            bad = 0
            optimizer.step(rate_at(plan, state))
        else:  # one bad batch must not end a night's run
            bad += 1
            if first and not warned:
                say(f"{plan.name}: step {state.step} left out, {NOT_FINITE}", logging.WARNING)
            warned = True
            if bad == MOST_BAD_STEPS:
                raise ValueError(_nothing_learnt(plan, state))
        optimizer.zero_grad()
        average.update_parameters(module)
        values = [float(value.detach()) for value in losses.values()]
        *values, state.seconds = parallel.means([*values, already + time.monotonic() - begun])
        for name, value in zip(losses, values):
            sums.setdefault(name, []).append(value)
        state.step += 1
        _show(bar, plan, state, sums)
        if state.step % LOG_STEPS == 0:
            _log(state, sums)
        stopped = bool(enough and enough(weights, state))
        if first and time.monotonic() - saved > 60 * plan.checkpoint_minutes:
            save_checkpoint(plan.checkpoint, state, module, average, optimizer)
            saved = time.monotonic()
        if first and export and plan.export_minutes and time.monotonic() - exported > 60 * plan.export_minutes:
            export(weights, state)
            exported = time.monotonic()
    _log(state, sums)
    bar.close()
    if first:
        save_checkpoint(plan.checkpoint, state, module, average, optimizer)
        loss_plot(state.curves, f"{plan.name}, {state.step} steps").save(plan.picture)
        if export:
            export(weights, state)
    return weights, state


def _nothing_learnt(plan: Plan, state: State) -> str:
    return (
        f"{plan.name}: the gradients of {MOST_BAD_STEPS} steps in a row, up to step {state.step}, are NaN or infinite, "
        f"so nothing was learnt in them. {CAUSES}. Lower the rate ({plan.rate:g}) or load them in bf16 or fp32, then "
        "resume from the last checkpoint or train anew."
    )


def _show(bar: tqdm, plan: Plan, state: State, sums: dict[str, list[float]]) -> None:
    means = (f"{name} {sum(values) / len(values):.4f}" for name, values in sums.items())
    bar.set_postfix_str(f"step {state.step} {' '.join(means)}", refresh=False)
    bar.update(100 * progress(plan, state) - bar.n)


def _log(state: State, sums: dict[str, list[float]]) -> None:
    for name, values in sums.items():
        if values:
            state.curves.setdefault(name, []).append((state.step, sum(values) / len(values)))
    sums.clear()
