"""The passes of a step: what the model predicts for the positive and for the negative prompt, before guidance joins
both."""

from collections.abc import Callable
from typing import Protocol

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .own_windows import shows_own_window
from .run import RUN, Run
from .schedule import ALWAYS, Interval


class Predict(Protocol):
    def __call__(self, only: int | None = None, mark: str | None = None):
        """Both predictions, or that of the positive (only=0) or negative (1) prompt. mark: a name that the calls of the
        model find in their options."""


Passes = Callable[[Predict], list[Tensor]]  # -> predictions of the positive and of the negative prompt


def replace_passes(model, name: str, passes: Passes, *, interval: Interval = ALWAYS):
    """A clone of MODEL whose two passes are those that `passes` returns during `interval`.

    Where there is but one (CFG 1) or more than two, the host's stay. In context windows it is asked for each window.
    """

    def wrapper(executor, base_model, conds, x, timestep, model_options):
        inside = name in model_options["transformer_options"]  # the same technique, further out
        acts = interval == ALWAYS or interval.contains(float(timestep[0]), base_model.model_sampling)
        if acts and len(conds) == 2 and None in conds and shows_own_window(model_options["transformer_options"]):
            say_apart(name, model_options["transformer_options"].get(RUN))
        if inside or not acts or len(conds) != 2 or None in conds:
            return executor(base_model, conds, x, timestep, model_options)

        def predict(only: int | None = None, mark: str | None = None):
            chosen = [cond if only in (None, i) else None for i, cond in enumerate(conds)]
            options = model_options["transformer_options"] | {name: True} | ({mark: True} if mark else {})
            out = executor(base_model, chosen, x, timestep, {**model_options, "transformer_options": options})
            return out if only is None else out[only]

        return passes(predict)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, f"semantic_video.{name}", wrapper)
    return model


def say_apart(name: str, run: Run | None) -> None:
    if run is not None:
        run.say_once(
            f"{name}: its passes need both prompts at once, which windows with a lead-in give to the model one by one; "
            "there its other changes act alone. Set lead_noise of Swin Renderer to 1, or order to one after another "
            "with lead_guidance 0."
        )
