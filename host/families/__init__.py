"""What differs between the video models: one module each, with what `Family` lists. Techniques never look inside."""

from typing import Protocol

from torch import nn

from ..layout import Layout, Site, TimeRope
from . import hunyuan, wan


class Family(Protocol):
    """NAME: for messages; SUPPORTED: its models, as an error message lists them. TEXT_ENCODERS: the host's names of
    those that its text features come from; IMAGE_BEFORE_TEXT: whether features of a start image stand in front of them;
    REPLACES_FIRST_FRAME: whether the start image may stand in the latent itself. module: the diffusion model."""

    NAME: str
    SUPPORTED: str
    TEXT_ENCODERS: tuple[str, ...]
    IMAGE_BEFORE_TEXT: bool
    REPLACES_FIRST_FRAME: bool

    def accepts(self, module: nn.Module, host_class: str) -> bool:
        """Whether `module`, whose class ComfyUI calls `host_class`, is of this family."""

    def blocks(self, module: nn.Module) -> int:
        """How many blocks it has, all kinds together."""

    def block_modules(self, module: nn.Module) -> list[nn.Module]:
        """The blocks in the order in which `Site.block` counts them."""

    def block_of_frames(self, arguments: dict, layout: Layout, frames: list[int]) -> dict | None:
        """The arguments of a block, as "patches_replace" gets them, for some frames alone; None where it has no such
        part."""

    def token_modules(self, module: nn.Module) -> list[nn.Module]:
        """The largest parts of its blocks that treat each token alone: feed-forwards over the video's tokens."""

    def width_heads(self, module: nn.Module) -> tuple[int, int]:
        """Channels of a token, and attention heads."""

    def input_channels(self, module: nn.Module) -> int:
        """Channels of what the model sees, image latents and masks included."""

    def latent_channels(self, module: nn.Module) -> int:
        """Channels of the latent."""

    def trained_frames(self, module: nn.Module) -> int:
        """Latent frames of the videos it was trained on."""

    def first_frames(self, latents: int) -> list[int]:
        """The first video frame of each latent frame of a video of so many, then how many video frames it has."""

    def time_rope(self, module: nn.Module, arguments: dict) -> TimeRope:
        """How a call with `arguments`, as of `layout`, turns queries and keys by their place in time."""

    def rope_axis(self, layout: Layout, options: dict) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Where the first token of the video stands on the model's RoPE axes (time, height, width), and the step to its
        neighbours there."""

    def text_refiner(self, module: nn.Module) -> nn.Module | None:
        """What lets the tokens of a prompt see one another in front of the blocks, in each call of the model: called
        with x [batch, tokens, width], timesteps [batch] and mask ([batch, tokens] or None) by these names. None where
        each token goes its own way."""

    def layout(self, module: nn.Module, arguments: dict) -> Layout:
        """Token layout of a call with `arguments`, by name, its extra keyword arguments merged in."""

    def site(
        self, module: nn.Module, options: dict, layout: Layout, queries: int, keys: int, previous: Site | None
    ) -> Site | None:
        """The attention with so many queries and keys, the last one seen being `previous`; None: not one of a block."""


FAMILIES: tuple[Family, ...] = (wan, hunyuan)


def host_class(module: nn.Module) -> str:
    """Name of ComfyUI's own class behind `module`, also where another pack has subclassed it."""
    return next((c.__name__ for c in type(module).__mro__ if c.__module__.startswith("comfy.")), type(module).__name__)


def family_of(model) -> Family:
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
