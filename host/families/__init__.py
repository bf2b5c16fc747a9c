"""What differs between the video models: one module each, with what `Family` lists. Techniques never look inside."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from ..layout import Layout, Site, TimeRope
from . import hunyuan, ltx, minimax, wan


class Family(Protocol):
    """NAME: for messages; SUPPORTED: its models, as an error message lists them. TEXT_ENCODERS: the host's names of
    those that its text features come from; IMAGE_BEFORE_TEXT: whether features of a start image stand in front of them;
    REPLACES_FIRST_FRAME: whether the start image may stand in the latent itself. HOST_NUMBERS_BLOCKS: whether the host
    says in the options of an attention which block it is of. REFINES_BEFORE: whether the words of a prompt see one
    another once, before the sampler calls the model. OWN_WINDOWS: whether parts of its latent may go through the model
    one by one. WINDOW_STEP: automatic windows of time are multiples of so many latent frames. PLACES_IN_SECONDS:
    whether frames stand in time by seconds, so that what it was trained on depends on the frame rate. module: the
    diffusion model. time_rope, rope_axis: None in place of a function where the answer is not known; what needs it is
    then refused."""

    NAME: str
    SUPPORTED: str
    TEXT_ENCODERS: tuple[str, ...]
    IMAGE_BEFORE_TEXT: bool
    REPLACES_FIRST_FRAME: bool
    HOST_NUMBERS_BLOCKS: bool
    REFINES_BEFORE: bool
    OWN_WINDOWS: bool
    WINDOW_STEP: int
    PLACES_IN_SECONDS: bool

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
        """The largest parts that treat each token alone: feed-forwards over the video's tokens, and what ends the
        model."""

    def width_heads(self, module: nn.Module) -> tuple[int, int]:
        """Channels of what its attention returns for a token, and attention heads."""

    def input_channels(self, module: nn.Module) -> int:
        """Channels of what the model sees, image latents and masks included."""

    def latent_channels(self, module: nn.Module) -> int:
        """Channels of the latent."""

    def trained_frames(self, module: nn.Module, frame_rate: float | None = None) -> int:
        """Latent frames of the videos it was trained on, at so many video frames a second; None: at its usual rate."""

    def clip_frames(self, shape: Sequence[int], conds: list[dict]) -> int:
        """Latent frames of the video in a latent of `shape` [batch, channels, frames, height, width], without guide
        frames behind it that `conds`, the guider's, tell of."""

    def first_frames(self, latents: int) -> list[int]:
        """The first video frame of each latent frame of a video of so many, then how many video frames it has."""

    def sound_apart(self, module: nn.Module) -> bool:
        """Whether it makes sound along in a stream of its own, with attentions of its own."""

    def silence(self, latent: Tensor) -> Tensor | None:
        """Latents, all zeros, of a sound as long as the video `latent` [batch, channels, frames, height, width], where
        the model cannot do without; None where it takes a video alone."""

    def mixes_words(self, module: nn.Module) -> bool:
        """Whether the keys of its text attention are no longer words of the prompt."""

    def clock(self, module: nn.Module, arguments: dict) -> tuple[Tensor, float] | None:
        """Frequencies of RoPE that the model holds, and where in time a call's video starts; None where both are known
        without asking."""

    def time_rope(self, module: nn.Module, arguments: dict) -> TimeRope:
        """How a call with `arguments`, as of `layout`, turns queries and keys by their place in time."""

    def inputs_at_scale(self, arguments: dict, scale: float) -> dict:
        """Where `time_rope` is None: what of `arguments` to replace so that the video, and what stands at its times,
        has its places in time multiplied by `scale`, from its start on."""

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
        self, module: nn.Module, options: dict, layout: Layout, queries: int, keys: int, dim: int, previous: Site | None
    ) -> Site | None:
        """The attention with so many queries and keys in heads of `dim` channels, the last one seen being `previous`;
        None: not one of a block."""


FAMILIES: tuple[Family, ...] = (wan, hunyuan, minimax, ltx)


def host_class(module: nn.Module) -> str:
    """Name of ComfyUI's own class behind `module`, also where another pack has subclassed it."""
    return next((c.__name__ for c in type(module).__mro__ if c.__module__.startswith("comfy.")), type(module).__name__)


def known_family(module: nn.Module) -> Family | None:
    return next((family for family in FAMILIES if family.accepts(module, host_class(module))), None)


def family_of(model) -> Family:
    """The family of a MODEL. Raises ValueError, naming what was given and what would do."""
    module = model.model.diffusion_model
    if family := known_family(module):
        return family
    known = "; ".join(family.SUPPORTED for family in FAMILIES)
    raise ValueError(
        f"model: {host_class(module)} ({type(model.model).__name__}) is not one of the video models this pack knows. "
        f"Connect one of: {known}."
    )
