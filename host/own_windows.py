"""Windows of a technique's own in place of ComfyUI's context windows: the host runs the model on one after the other,
with the parts of the conditioning that belong to it, and puts their answers together by weights. So what a step holds
beside the latent is one window's.

One after another (in_turn.py), the sampler goes through all of its steps for the first window, then for the second.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import comfy.context_windows as core
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .in_turn import Leg, Search, Turn, Window, one_after_another, own_frames
from .run import RUN
from .schedule import ALWAYS, Interval

NAME = "semantic_video_windows"
CUT_ALREADY = "model: ComfyUI's context windows cut the video already. Remove that node, or set lead_in and blend to 0."
# noisy frames, what they are thought to be, sigma, whether for the negative prompt -> frames
Ahead = Callable[[Tensor, Tensor, float, bool], Tensor]


Plan = Callable[[int, dict], list[Window]]  # frames of the video, transformer options -> windows; below two: none


class OwnWindows(core.IndexListContextHandler):
    """plan: what to do in a run; interval: of the schedule in which it is done. ahead: what becomes of the frames with
    which a window begins and whose answer is dropped (weight 0), by what the windows before have answered in this step,
    for each conditioning its own; None: they stay as they are. in_turn: one window after another, so that those before
    have answered for good; the interval is then the whole schedule. apart: whether the negative prompt is shown other
    frames than the positive one. legs: noise levels -> the runs of the sampler that windows in turn take, except the
    first; search: among how many candidates for each of those to choose, and how; None: the one."""

    def __init__(
        self,
        plan: Plan,
        interval: Interval,
        ahead: Ahead | None = None,
        in_turn: bool = False,
        apart: bool = False,
        legs: Callable[[list[float]], list[Leg]] = lambda sigmas: [(0, len(sigmas) - 1)],
        search: Search | None = None,
    ):
        fuse = core.ContextFuseMethod(NAME, self._weights)
        super().__init__(core.ContextSchedule(NAME, None), fuse, dim=2, causal_window_fix=False)
        self.plan, self.interval, self.ahead, self.in_turn, self.apart = plan, interval, ahead, in_turn, apart
        self.legs, self.search = legs, search
        self.turn: Turn | None = None
        self._shares: dict[tuple[int, ...], Sequence[float]] = {}
        self._answers: list[Tensor] = []  # of each conditioning, of the windows of this step so far

    def together(self) -> "OwnWindows":
        """The same, each step in all windows."""
        return OwnWindows(self.plan, self.interval, self.ahead, apart=self.apart)

    def frames_at_once(self, total: int, options: dict) -> int:
        """Latent frames of the longest window in a video of `total`."""
        windows = self.plan(total, options)
        return max(len(window.frames) for window in windows) if len(windows) > 1 else total

    def should_use_context(self, model, conds, x_in: Tensor, timestep: Tensor, model_options: dict) -> bool:
        inside = self.interval.contains(float(timestep.max()), model.model_sampling)
        return inside and len(self.plan(x_in.shape[self.dim], model_options["transformer_options"])) > 1

    def get_context_windows(self, model, x_in: Tensor, model_options: dict) -> list[core.IndexListContextWindow]:
        total = x_in.shape[self.dim]
        windows = self.plan(total, model_options["transformer_options"])
        self._shares = {tuple(window.frames): window.weights for window in windows}
        now = windows if self.turn is None else [windows[self.turn.number]]
        return [_Own(window, dim=self.dim, total_frames=total) for window in now]

    def execute(self, calc_cond_batch, model, conds, x_in: Tensor, timestep: Tensor, model_options: dict):
        try:
            answers = super().execute(calc_cond_batch, model, conds, x_in, timestep, model_options)
        finally:  # the host leaves the last window in the options, and itself the model
            model_options["transformer_options"].pop("context_window", None)
            self._answers, self._model = [], None
        if self.turn is None:
            return answers
        waiting = torch.ones(x_in.shape[self.dim], dtype=torch.bool, device=x_in.device)
        waiting[own_frames(self.plan(len(waiting), model_options["transformer_options"])[self.turn.number])] = False
        finished = self.turn.finished.to(x_in)  # so that the sampler leaves them what they are
        return [torch.where(waiting.view(-1, 1, 1), finished, answer) for answer in answers]

    def get_resized_cond(self, cond_in, x_in: Tensor, window, device=None):
        """HunyuanVideo I2V takes the first frame of what it is shown for its start image: only that of the video is."""
        found = super().get_resized_cond(cond_in, x_in, window, device)
        if found is None or window.index_list[0] == 0:
            return found
        for one in found:
            one.get("model_conds", {}).pop("guiding_frame_index", None)  # a copy
        return found

    def evaluate_context_windows(
        self, calc_cond_batch, model, x_in, conds, timestep, windows, model_options, window_state, *args, **kwargs
    ):
        def answered(window, conds, x):
            state = replace(window_state, latents=[x, *window_state.latents[1:]])
            parts = (calc_cond_batch, model, x_in, conds, timestep, [window], model_options, state)
            [found] = super(OwnWindows, self).evaluate_context_windows(*parts, *args, **kwargs)
            return found

        x, sigma, options = window_state.latents[0], float(timestep.max()), model_options["transformer_options"]
        if self.ahead is None:
            return [answered(window, conds, x) for window in windows]
        if self.turn is not None:
            past = [self.turn.finished.to(x)] * len(conds)
            return [self._led(windows[0], conds, x, sigma, answered, past, options)]
        found = []
        for number, window in windows:
            if number == 0:
                self._answers = [torch.zeros_like(x) for _ in conds]
            found.append(self._led((number, window), conds, x, sigma, answered, self._answers, options))
            share = torch.tensor(self._shares[tuple(window.index_list)], device=x.device, dtype=x.dtype)
            for answer, out in zip(self._answers, found[-1].sub_conds_out):
                answer[:, :, window.index_list] += share.view(1, 1, -1, 1, 1) * out[0].to(x)
        return found

    def _led(
        self, numbered, conds: list, x: Tensor, sigma: float, answered: Callable, past: list[Tensor], options: dict
    ):
        """What the host finds in a window whose first frames, of weight 0, are ahead of it. past: for each
        conditioning the video so far; conditionings that are shown different frames take calls of their own."""
        frames = numbered[1].index_list
        led = [frame for frame, weight in zip(frames, self._shares[tuple(frames)]) if weight == 0]
        if not led:
            return answered(numbered, conds, x)

        def shown(which: int) -> Tensor:
            out, hidden = x.clone(), negative(conds[which], options)
            out[:, :, led] = self.ahead(x[:, :, led], past[which][:, :, led], sigma, hidden).to(x)
            return out

        given = [which for which, cond in enumerate(conds) if cond is not None]
        if self.turn is not None and not self.apart:
            return answered(numbered, conds, shown(given[0]))
        alone = {which: [cond if i == which else None for i, cond in enumerate(conds)] for which in given}
        parts = [answered(numbered, alone[which], shown(which)) for which in given]
        for which, part in zip(given, parts):
            parts[0].sub_conds_out[which] = part.sub_conds_out[which]
        return parts[0]

    def _weights(self, length: int, idxs: list[int], **kwargs) -> list[float]:
        return list(self._shares[tuple(idxs)])


def negative(cond: list[dict], options: dict) -> bool:
    """Whether the guider calls a conditioning negative."""
    names = options[RUN].names if RUN in options else {}
    return any("negative" in names.get(entry.get("uuid"), "") for entry in cond)


class _Own(core.IndexListContextWindow):
    """One of the host's that says which frames it is of."""

    def __init__(self, window: Window, **kwargs):
        super().__init__(list(window.frames), **kwargs)
        self.first, self.last = window.first, window.last

    def get_tensor(self, full: Tensor, device=None, dim=None, retain_index_list=()) -> Tensor:
        """The host also asks for noise levels so, one for each video of a batch, which are no frames (dim 0)."""
        if dim == 0:
            return full
        return super().get_tensor(full, device, dim, list(retain_index_list))


def shows_own_window(options: dict) -> bool:
    """Whether a call of the model, of these transformer options, is of a window of `with_own_windows`."""
    return isinstance(options.get("context_window"), _Own)


def spoken_for(options: dict, frames: Sequence[int]) -> tuple[int, ...]:
    """Latent frames by whose place in time `frames` hear a prompt: in a window of `with_own_windows` those outside of
    it hear what its nearest frame hears."""
    window = options.get("context_window")
    if not isinstance(window, _Own):
        return tuple(frames)
    return tuple(min(max(frame, window.first), window.last - 1) for frame in frames)


def with_own_windows(model, plan: Plan, interval: Interval, **how):
    """A clone of MODEL that runs in the windows of `plan`, as `OwnWindows` has them; a plan given before is replaced.
    Raises ValueError where ComfyUI's context windows are there already."""
    before = model.model_options.get("context_handler")
    if before is not None and not isinstance(before, OwnWindows):
        raise ValueError(CUT_ALREADY)
    model = model.clone()
    model.model_options["context_handler"] = OwnWindows(plan, interval, **how)
    if not model.get_wrappers(WrappersMP.PREPARE_SAMPLING, NAME):
        model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, NAME, _room_for_one)
        model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, NAME, one_after_another)
    return model


def taking_steps_together(model):
    """MODEL, or a clone whose own windows take each step together: for single passes, which no run goes through."""
    windows = model.model_options.get("context_handler")
    if not isinstance(windows, OwnWindows) or not windows.in_turn:
        return model
    model = model.clone()
    model.model_options["context_handler"] = windows.together()
    return model


def _room_for_one(executor, patcher, noise_shape, conds, *args, **kwargs):
    """The host's estimate of memory is for one window, where no step is of the whole video."""
    options = kwargs.get("model_options") or patcher.model_options
    windows, shape = options.get("context_handler"), list(noise_shape)
    if isinstance(windows, OwnWindows) and windows.interval == ALWAYS and len(shape) == 5:
        shape[2] = windows.frames_at_once(shape[2], options.get("transformer_options", {}))
    return executor(patcher, shape, conds, *args, **kwargs)
