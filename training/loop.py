"""A training loop that can be stopped at any time and continued: time-planned rate, EMA, progress bar, atomic
checkpoints, loss plot.

Matrices are trained by Muon (torch's own, since 2.9; a convolution counts as the matrix [out, in x taps]), the rest by
AdamW: in equal time on the mini VAE, Muon reached half the loss.

Nothing is pickled: a checkpoint is a safetensors file of weights, EMA and optimizer moments, with the counters in its
metadata.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from safetensors import safe_open
from torch import Tensor, nn
from tqdm import tqdm

from ..host.weights import require_fit, save_weights
from .loss_plot import loss_plot

LOG_STEPS = 10
LEAST_MATRIX = 8  # rows and columns


@dataclass
class Plan:
    """How long and how to train. The rate follows the further of steps / steps planned and minutes / minutes planned,
    so that it always ends at zero. minutes or steps None: not limited by it. cache: folder of checkpoints; resume:
    continue from there if there is one. checkpoint_minutes: how much an interruption costs at most."""

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


@dataclass
class State:
    """Where training stands. curves: for each loss, (step, mean over the LOG_STEPS before it)."""

    step: int = 0
    seconds: float = 0.0
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def random_at(seed: int, step: int, salt: int = 0) -> Random:
    """Chance of one step: a resumed run goes on with batches it has not seen. Random hashes strings the same on every
    machine."""
    return Random(f"{seed}/{step}/{salt}")


def progress(plan: Plan, state: State) -> float:
    """Fraction of the plan done, 0..1. ValueError if the plan has no end."""
    if plan.minutes is None and plan.steps is None:
        raise ValueError(f"{plan.name}: give --minutes or --steps")
    parts = [state.seconds / 60 / plan.minutes] if plan.minutes else []
    parts += [state.step / plan.steps] if plan.steps else []
    return min(max(parts), 1.0)


def rate_at(plan: Plan, state: State) -> float:
    """Linear warm-up, then half a cosine down to zero (our choice)."""
    warmup = min(plan.warmup, plan.steps // 5 + 1) if plan.steps else plan.warmup
    return plan.rate * min((state.step + 1) / warmup, 1.0) * 0.5 * (1 + math.cos(math.pi * progress(plan, state)))


class Average:
    """Exponential moving average of a module's weights; young averages forget faster."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.weights = decay, {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        now = module.state_dict()
        torch._foreach_lerp_(list(self.weights.values()), [now[k] for k in self.weights], 1 - decay)


def checkpoint_path(plan: Plan) -> Path:
    return plan.cache / f"{plan.name}.safetensors"


class Optimizer:
    """Muon for what is a matrix, AdamW for norms, biases, embeddings of few rows; one rate for both."""

    def __init__(self, module: nn.Module, plan: Plan):
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        muon = hasattr(torch.optim, "Muon")
        self.matrices = [p for p in self.parameters if muon and p.ndim > 1 and min(p.flatten(1).shape) >= LEAST_MATRIX]
        chosen = {id(p) for p in self.matrices}
        self.views = [nn.Parameter(p.data.flatten(1)) for p in self.matrices]  # share their memory
        rest = [p for p in self.parameters if id(p) not in chosen]
        self.parts = {
            "muon": torch.optim.Muon(self.views, lr=plan.rate, weight_decay=plan.decay, adjust_lr_fn="match_rms_adamw")
            if self.views
            else None,
            "adam": torch.optim.AdamW(rest, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0, foreach=True)
            if rest
            else None,
        }
        self.parts = {name: part for name, part in self.parts.items() if part}

    def step(self, rate: float) -> None:
        for view, matrix in zip(self.views, self.matrices):
            view.grad = None if matrix.grad is None else matrix.grad.flatten(1)
        for part in self.parts.values():
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def zero_grad(self) -> None:
        for parameter in (*self.parameters, *self.views):
            parameter.grad = None

    def moments(self) -> dict[str, Tensor]:
        return {
            f"{name}.{i}.{k}": v
            for name, part in self.parts.items()
            for i, values in part.state_dict()["state"].items()
            for k, v in values.items()
        }

    def load_moments(self, tensors: dict[str, Tensor]) -> None:
        found: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in self.parts}
        for key, value in tensors.items():
            name, i, k = key.split(".", 2)
            found[name].setdefault(int(i), {})[k] = value
        for name, part in self.parts.items():
            part.load_state_dict(part.state_dict() | {"state": found[name]})


def save_checkpoint(plan: Plan, state: State, module: nn.Module, average: Average, optimizer: Optimizer) -> None:
    tensors = {f"model.{k}": v.clone() for k, v in module.state_dict().items()} | {
        f"ema.{k}": v for k, v in average.weights.items()
    }
    tensors |= {f"optimizer.{k}": v for k, v in optimizer.moments().items()}
    save_weights(tensors, checkpoint_path(plan), {"state": json.dumps(state.__dict__)})


def load_checkpoint(plan: Plan, module: nn.Module, average: Average, optimizer: Optimizer) -> State:
    """Fills all three and returns the counters. ValueError if the checkpoint is of another model."""
    with safe_open(checkpoint_path(plan), "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118  (not a dict)
        state = State(**json.loads(file.metadata()["state"]))
    weights = {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}
    require_fit(module, weights, checkpoint_path(plan), "Move it away, or train without --resume.")
    module.load_state_dict(weights)
    average.weights = {k[4:]: v for k, v in tensors.items() if k.startswith("ema.")}
    optimizer.load_moments({k[10:]: v for k, v in tensors.items() if k.startswith("optimizer.")})
    return state


def train(
    plan: Plan,
    module: nn.Module,
    loss_of: Callable[[int, float], dict[str, Tensor]],
    export: Callable[[dict[str, Tensor], State], None] | None = None,
    enough: Callable[[dict[str, Tensor], State], bool] | None = None,
) -> tuple[dict[str, Tensor], State]:
    """Trains the parameters of `module` that require gradients, until the plan is done; returns the averaged weights.

    loss_of(step, progress) gives named losses; "loss" is minimised, the rest is shown. It should draw its batch from
    (seed, step), so that a resumed run sees new ones. export(averaged weights, state) is called every
    plan.export_minutes and at the end, enough(averaged weights, state) after every step: True ends the training early.
    What either of them, or loss_of, raises ends it too; the last checkpoint stays.
    """
    optimizer = Optimizer(module, plan)
    average, state = Average(module, plan.ema), State()
    if plan.resume and checkpoint_path(plan).exists():
        state = load_checkpoint(plan, module, average, optimizer)
    sums: dict[str, list[float]] = {}
    saved = exported = begun = time.monotonic()
    already = state.seconds
    bar = tqdm(
        total=100.0,
        desc=plan.name,
        mininterval=5,
        bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed}<{remaining} {postfix}",
    )
    stopped = False
    while (done := progress(plan, state)) < 1 and not stopped:
        losses = loss_of(state.step, done)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(optimizer.parameters, 1.0)
        if torch.isfinite(norm):  # one bad batch must not end a night's run
            optimizer.step(rate_at(plan, state))
        optimizer.zero_grad()
        average.update(module, state.step)
        for name, value in losses.items():
            sums.setdefault(name, []).append(float(value.detach()))
        state.step += 1
        state.seconds = already + time.monotonic() - begun
        bar.set_postfix_str(
            f"step {state.step} " + " ".join(f"{k} {sum(v) / len(v):.4f}" for k, v in sums.items()), refresh=False
        )
        bar.update(100 * progress(plan, state) - bar.n)
        if state.step % LOG_STEPS == 0:
            _log(state, sums)
        stopped = bool(enough and enough(average.weights, state))
        if time.monotonic() - saved > 60 * plan.checkpoint_minutes:
            save_checkpoint(plan, state, module, average, optimizer)
            saved = time.monotonic()
        if export and plan.export_minutes and time.monotonic() - exported > 60 * plan.export_minutes:
            export(average.weights, state)
            exported = time.monotonic()
    _log(state, sums)
    bar.close()
    save_checkpoint(plan, state, module, average, optimizer)
    plot(state, plan.cache / f"{plan.name}.png", plan.name)
    if export:
        export(average.weights, state)
    return average.weights, state


def _log(state: State, sums: dict[str, list[float]]) -> None:
    for name, values in sums.items():
        if values:
            state.curves.setdefault(name, []).append((state.step, sum(values) / len(values)))
    sums.clear()


def plot(state: State, path: Path, title: str) -> None:
    """The loss curves as a PNG."""
    loss_plot(state.curves, title).save(path)
