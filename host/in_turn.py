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
    until(noise levels), by index, they are rated by what they are thought to be without noise: rate(the video before,
    the window's own frames), [batch, channels, frames, height, width] each, -> [batch]. Of each video the lowest goes
    on."""

    count: int
    until: Callable[[Sequence[float]], int]
    rate: Callable[[Tensor, Tensor], Tensor]


ALONE = Search(1, lambda levels: len(levels) - 1, lambda before, own: torch.zeros(len(own)))


def own_frames(window: Window) -> list[int]:
    """The frames of a window whose answer counts."""
    return [frame for frame, weight in zip(window.frames, window.weights) if weight > 0]


def one_after_another(
    executor, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
):
    """A run of the sampler for each window, where they take turns."""
    options = extra_args["model_options"]
    handler = options.get("context_handler")
    in_turn = getattr(handler, "in_turn", False)
    windows = handler.plan(noise.shape[2], options["transformer_options"]) if in_turn else []

    def run(leg: Leg, tell: Callable | None, noise: Tensor, given: Tensor | None) -> Tensor:
        part = sigmas[leg[0] : leg[1] + 1]
        return executor(guider, part, extra_args, tell, noise, given, denoise_mask, disable_pbar)

    if len(windows) < 2:
        return run((0, len(sigmas)), callback, noise, latent_image)
    levels, search = sigmas.tolist(), handler.search or ALONE
    legs = handler.legs(levels)
    if not noise.any():  # a run without noise of its own goes on: it has no other beginnings, and does not go back
        search, legs = ALONE, [(0, len(levels) - 1)]
    runs = _Runs(run, levels, legs, search, noise, latent_image, extra_args.get("seed") or 0)
    runs.report_to(callback, len(windows))
    video, finished = torch.zeros_like(noise), torch.zeros_like(noise)
    try:
        for number, window in enumerate(windows):
            handler.turn, own = Turn(number, finished.clone()), own_frames(window)
            found = runs.best(finished, own) if number and runs.denoised is not None else runs.whole()
            clean = found if levels[-1] == 0 or runs.denoised is None else runs.denoised
            video[:, :, own], finished[:, :, own] = found[:, :, own].to(video), clean[:, :, own].to(video)
    finally:
        handler.turn = None
    return video


class _Runs:
    """The sampler's runs for one video. noise, given: what a run begins with. denoised: what the last step took for the
    video without noise; None where the sampler does not tell, so that windows have no restarts and no candidates."""

    def __init__(
        self,
        run: Callable,
        levels: list[float],
        legs: list[Leg],
        search: Search,
        noise: Tensor,
        given: Tensor | None,
        seed: int,
    ):
        self.run, self.levels, self.search, self.noise, self.given = run, levels, search, noise, given
        top, self.end = legs[-1]
        self.choice = max(search.until(levels), top + 1)
        self.trial = [*legs[:-1], (top, self.choice)]  # of each candidate
        self.random = torch.Generator().manual_seed(seed)
        self._fresh()  # what the host has drawn for the run
        self.denoised: Tensor | None = None

    def report_to(self, callback: Callable | None, windows: int) -> None:
        """callback: told of each step of all runs."""
        each = self.search.count * sum(last - first for first, last in self.trial) + self.end - self.choice
        self.callback, self.total = callback, self.end + each * (windows - 1)
        self.before = self.until = 0  # steps of the runs before this one, and with it

    def whole(self) -> Tensor:
        """A window at the end of the schedule, straight through it."""
        return self._through((0, self.end), self.noise, self.given)

    def best(self, finished: Tensor, own: list[int]) -> Tensor:
        """The same of the best candidate for the frames `own`."""
        for number in range(self.search.count):
            one = self._tried(self._fresh() if number else self.noise)
            rating = self.search.rate(finished[:, :, : own[0]].to(one[1]), one[1][:, :, own])
            if number == 0:
                found, lowest = one, rating
            else:
                better = (rating < lowest).view(-1, 1, 1, 1, 1)
                found = [torch.where(better, new, old) for new, old in zip(one, found)]
                lowest = torch.minimum(rating, lowest)
        found, self.denoised = found
        if self.choice == self.end:
            return found
        level = self.levels[self.choice]
        noise = (1 - level) * (found - self.denoised) / level  # of a flow model that is `found` at this level
        return self._through((self.choice, self.end), noise, self.denoised)

    def _tried(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Where a candidate is when it is judged, and what it is thought to be. Each leg but the first goes on from
        what the one before thought, under fresh noise."""
        found = self._through(self.trial[0], noise, self.given)
        for leg in self.trial[1:]:
            found = self._through(leg, self._fresh(), self.denoised)
        return found, self.denoised

    def _fresh(self) -> Tensor:
        return torch.randn(self.noise.shape, generator=self.random).to(self.noise)

    def _through(self, leg: Leg, noise: Tensor, given: Tensor | None) -> Tensor:
        self.before, self.until = self.until, self.until + leg[1] - leg[0]
        return self.run(leg, self._tell, noise, given)

    def _tell(self, step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        self.denoised = denoised
        if self.callback is not None:
            self.callback(min(self.before + step, self.total - 1), denoised, x, self.total)
