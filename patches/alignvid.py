"""AlignVid on a MODEL: sharper cross-attention (Wan), or joint attention (HunyuanVideo), in the noisiest steps."""

from dataclasses import dataclass

from torch import Tensor

from ..host.editing import Call, edit_attention
from ..host.families import family_of, hunyuan, wan
from ..host.schedule import Interval
from ..kernels.alignvid import FRAMEPACK_BLOCKS, GAMMA, MIN_SIGMA, WAN_BLOCKS, key_scale, sharpened
from .blocks import parse_blocks

NAME = "AlignVid"
# Blocks with published lists, by family and number of blocks: Wan 2.1 14B, and of HunyuanVideo (20 double blocks, then
# 40 single ones, of which the list is) those of its offspring FramePack.
PUBLISHED = {
    (wan, 40): parse_blocks(WAN_BLOCKS, 40),
    (hunyuan, 60): frozenset(20 + block for block in parse_blocks(FRAMEPACK_BLOCKS, 40)),
}


@dataclass(frozen=True)
class AlignVid:
    """gamma: above 1 sharpens. blocks: as in "0-3,38", or "auto": the published ones of a model that has some, else
    all. strength: 1 = gamma, 0 = the unpatched model, between = a gamma nearer to 1. interval: with its min_sigma."""

    gamma: float = GAMMA
    blocks: str = "auto"
    strength: float = 1.0
    interval: Interval = Interval(min_sigma=MIN_SIGMA)

    def __post_init__(self):
        if not 0.5 <= self.gamma <= 3.0:
            raise ValueError(f"gamma {self.gamma}: must be from 0.5 (flatter) to 3 (sharper). Published: {GAMMA}.")
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength {self.strength}: must be from 0 (the model as it is) to 1 (all of gamma).")


def apply(model, config: AlignVid):
    """A clone of `model` with sharper attention; strength 0 or gamma 1 returns the model unchanged. Raises ValueError
    for blocks it does not have."""
    family = family_of(model)
    blocks = blocks_of(family, family.blocks(model.model.diffusion_model), config.blocks)
    gamma = 1.0 + config.strength * (config.gamma - 1.0)

    def edit(call: Call, proceed) -> Tensor:
        if call.site.block not in blocks or call.site.stream == "side":
            return proceed(call)
        scale = key_scale(call.site.kind, gamma, image_branch=call.forward.layout.image > 0)
        return proceed(call.replace(k=sharpened(call.k, scale)))

    return edit_attention(
        model, NAME, edit, sites=("text", "image", "joint"), interval=config.interval, active=gamma != 1.0
    )


def blocks_of(family, count: int, blocks: str) -> frozenset[int]:
    if blocks.strip() in ("auto", ""):
        return PUBLISHED.get((family, count), frozenset(range(count)))
    try:
        return parse_blocks(blocks, count)
    except ValueError as error:
        raise ValueError(f"blocks: {error} Or write auto.") from None
