"""The passes of a step: what the model predicts for the positive and for the negative prompt, before guidance joins
both."""

from collections.abc import Callable
from typing import Protocol

from comfy.patcher_extension import WrappersMP
from torch import Tensor

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
