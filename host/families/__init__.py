"""What differs between the video models.

A family module has NAME, SUPPORTED, TEXT_ENCODERS, IMAGE_BEFORE_TEXT, accepts, blocks, block_modules, width_heads,
trained_frames, layout and site; techniques never look inside.
"""

from types import ModuleType

from torch import nn

from . import hunyuan, wan

FAMILIES = (wan, hunyuan)


def host_class(module: nn.Module) -> str:
    """Name of ComfyUI's own class behind `module`, also where another pack has subclassed it."""
    return next((c.__name__ for c in type(module).__mro__ if c.__module__.startswith("comfy.")), type(module).__name__)


def family_of(model) -> ModuleType:
    """The family of a MODEL. Raises ValueError, naming what was given and what would do."""
    module = model.model.diffusion_model
    for family in FAMILIES:
        if family.accepts(module, host_class(module)):
            return family
    known = "; ".join(family.SUPPORTED for family in FAMILIES)
    raise ValueError(
        f"model: {host_class(module)} ({type(model.model).__name__}) is not one of the video models this pack knows. "
        f"Connect one of: {known}."
    )
