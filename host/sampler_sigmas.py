"""The noise levels that ComfyUI's samplers step through."""

import comfy.samplers
from comfy.model_sampling import CONST
from torch import Tensor

SCHEDULERS, SAMPLERS = comfy.samplers.KSampler.SCHEDULERS, comfy.samplers.KSampler.SAMPLERS


def schedule(model, scheduler: str, steps: int, sampler: str = "") -> Tensor:
    """[steps + 1] falling sigmas, the last 0, of a flow model: BasicScheduler's, or, of a named sampler, KSampler's.
    Raises ValueError for other models."""
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, CONST):
        raise ValueError(
            "model: its noise levels are not those of a flow model, 0 to 1. Connect a Wan or HunyuanVideo model."
        )
    if sampler:
        return comfy.samplers.KSampler(model, steps, "cpu", sampler, scheduler).sigmas
    return comfy.samplers.calculate_sigmas(sampling, scheduler, steps).cpu()
