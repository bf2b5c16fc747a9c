"""Swin Renderer's windows that go through the whole model on their own: what the host is told of them."""

from functools import partial

from torch import Tensor

from ..host.in_turn import Search
from ..host.own_windows import Plan, with_own_windows
from ..kernels.candidates import chosen_at, unevenness
from ..kernels.overlap import lead_level, renoised
from ..kernels.restarts import legs
from .swin_config import SwinRenderer


def in_own_windows(model, config: SwinRenderer, plan: Plan):
    """A clone of MODEL that runs in the windows of `plan`. Raises ValueError beside ComfyUI's context windows."""
    leads = config.lead_noise < 1 or config.lead_guidance > 0
    return with_own_windows(
        model,
        plan,
        config.interval,
        ahead=partial(lead_in, config) if leads else None,
        in_turn=config.in_turn,
        apart=config.lead_guidance > 0,
        legs=partial(legs, restarts=config.restarts),
        search=Search(config.candidates, chosen_at, unevenness) if config.candidates > 1 else None,
    )


def lead_in(config: SwinRenderer, x: Tensor, x0: Tensor, sigma: float, negative: bool) -> Tensor:
    """What a prompt is shown of the frames before a window. x: as noisy as the window; x0: what they are thought to be;
    negative: for the negative prompt, from which `lead_guidance` hides them."""
    return renoised(x, x0, sigma, lead_level(sigma, config.lead_noise, config.lead_guidance if negative else 0.0))
