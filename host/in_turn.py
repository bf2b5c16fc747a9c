"""Windows of a long video one after another: the sampler goes through all of its steps for the first window, then for
the second, and so on. The frames of windows before are then finished; those of windows to come wait.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Leg = tuple[int, int]  # a run of the sampler over part of a schedule: its first and its last noise level, by index


class Window(NamedTuple):
    """frames: latent frames that go through the model, in order; weights: of their answers; first, last: those that it
    is of, one past the last."""

    frames: Sequence[int]
    weights: Sequence[float]
    first: int
    last: int


class Turn(NamedTuple):
    """Of the window with this number; finished: frames of those before it without noise, elsewhere 0."""

    number: int
    finished: Tensor


@dataclass(frozen=True)
class Search:
    """For the best of so many candidates for a window. Each begins with other noise; where the schedule is at a level,
    until(noise levels), by index, they are rated by what they are thought to be without noise: rate(the frame before
    [batch, channels, height, width], the window's own frames [batch, channels, frames, height, width]) -> [batch]. For
    each video the lowest goes on."""

    count: int
    until: Callable[[Sequence[float]], int]
    rate: Callable[[Tensor, Tensor], Tensor]


def own_frames(window: Window) -> list[int]:
    """The frames of a window whose answer counts."""
    return [frame for frame, weight in zip(window.frames, window.weights) if weight > 0]


def one_after_another(
    executor, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
):
    """A run of the sampler for each window, where they take turns. In all but the first it goes the legs of the
    schedule, each from what the one before thought the video is; a sampler that does not tell goes one leg."""
    options = extra_args["model_options"]
    handler, whole = options.get("context_handler"), (0, len(sigmas) - 1)
    in_turn = getattr(handler, "in_turn", False)
    windows = handler.plan(noise.shape[2], options["transformer_options"]) if in_turn else []
    if len(windows) < 2:
        return executor(guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar)

    def run(leg: Leg, tell: Callable, noise: Tensor, given: Tensor | None) -> Tensor:
        part = sigmas[leg[0] : leg[1] + 1]
        return executor(guider, part, extra_args, tell, noise, given, denoise_mask, disable_pbar)

    legs, search = handler.legs(sigmas.tolist()), handler.search
    if search is None or not noise.any():  # without noise of its own a run has no other beginnings
        search = Search(1, lambda levels: len(levels) - 1, lambda before, own: torch.zeros(len(own)))
    (top, end), until = legs[-1], max(search.until(sigmas.tolist()), legs[-1][0] + 1)
    trial, rest = [*legs[:-1], (top, until)], (until, end)
    length = search.count * sum(last - first for first, last in trial) + end - until
    steps = _Steps(run, callback, whole[1] + length * (len(windows) - 1))
    random = torch.Generator().manual_seed(extra_args.get("seed") or 0)
    video, finished = torch.zeros_like(noise), torch.zeros_like(noise)

    def fresh() -> Tensor:
        return torch.randn(noise.shape, generator=random).to(noise)

    def tried(noise: Tensor) -> tuple[Tensor, Tensor]:
        """Where one candidate is at the end of the trial, and what it is thought to be."""
        found = steps(trial[0], noise, latent_image)
        for leg in trial[1:]:
            found = steps(leg, fresh(), steps.denoised)
        return found, steps.denoised

    def best(own: list[int]) -> Tensor:
        """The window at the end of the schedule."""
        chosen = lowest = None
        for number in range(search.count):
            found = tried(fresh() if number else noise)
            rating = search.rate(finished[:, :, own[0] - 1].to(found[1]), found[1][:, :, own])
            better = torch.ones_like(rating, dtype=torch.bool) if lowest is None else rating < lowest
            lowest = rating if lowest is None else torch.where(better, rating, lowest)
            rows = better.view(-1, 1, 1, 1, 1)
            chosen = found if chosen is None else [torch.where(rows, a, b) for a, b in zip(found, chosen)]
        found, steps.denoised = chosen
        if until == end:
            return found
        level = sigmas[until]
        return steps(rest, ((1 - level) * (found - steps.denoised)) / level, steps.denoised)

    try:
        for number, window in enumerate(windows):
            handler.turn, own = Turn(number, finished.clone()), own_frames(window)
            alone = number == 0 or steps.denoised is None
            found = steps(whole, noise, latent_image) if alone else best(own)
            clean = found if float(sigmas[-1]) == 0 or steps.denoised is None else steps.denoised
            video[:, :, own], finished[:, :, own] = found[:, :, own].to(video), clean[:, :, own].to(video)
    finally:
        handler.turn = None
    return video


class _Steps:
    """Runs of a sampler over parts of a schedule. Its callback tells how far all of them are. total: their steps;
    denoised: what the last step took for the video without noise."""

    def __init__(self, run: Callable, callback: Callable | None, total: int):
        self.run, self.callback, self.total = run, callback, total
        self.before = self.until = 0  # steps of the runs before this one, and with it
        self.denoised: Tensor | None = None

    def __call__(self, leg: Leg, noise: Tensor, given: Tensor | None) -> Tensor:
        self.before, self.until = self.until, self.until + leg[1] - leg[0]
        return self.run(leg, self._tell, noise, given)

    def _tell(self, step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        self.denoised = denoised
        if self.callback is not None:
            self.callback(self.before + step, denoised, x, self.total)
