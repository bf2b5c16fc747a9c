"""DyMoS on a MODEL: a bias on the first frame's keys in the self-attention (Wan) or joint attention (HunyuanVideo)."""

from dataclasses import dataclass

from torch import Tensor

from ..host.call import Call, by_crop
from ..host.editing import edit_attention
from ..host.families import family_of, minimax
from ..host.schedule import Interval
from ..kernels.dymos import GAMMA, MIN_SIGMA, frame_mask
from .queries import for_video, on_positive_rows

NAME = "DyMoS"


@dataclass(frozen=True)
class DyMoS:
    """gamma: above 0 looks less at the first frame, below 0 more. strength: 1 = gamma, 0 = the unpatched model.
    interval: with its min_sigma."""

    gamma: float = GAMMA
    strength: float = 1.0
    interval: Interval = Interval(min_sigma=MIN_SIGMA)

    def __post_init__(self):
        if not -5.0 <= self.gamma <= 5.0:
            raise ValueError(
                f"gamma {self.gamma}: must be from -5 (bound to the first frame) to 5. Published: {GAMMA}."
            )
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength {self.strength}: must be from 0 (the model as it is) to 1 (all of gamma).")


def apply(model, config: DyMoS):
    """A clone of `model` that looks less at its first frame in the positive prompt's rows; strength 0 or gamma 0
    returns the model unchanged. In context windows it acts where the first frame of the whole video is. Raises
    ValueError for a model whose start image is not its first frame."""
    family, gamma = family_of(model), config.strength * config.gamma
    if family is minimax:
        raise ValueError(
            f"model: {family.NAME} sees its start image as tokens beside the video, not as the video's first frame, "
            "which DyMoS looks away from. Load a model of Wan, HunyuanVideo or LTX, or remove the node."
        )

    def edit(call: Call, proceed) -> Tensor:
        layout, frames = call.forward.layout, call.crop.frames
        if call.site.stream == "side" or 0 not in frames or not call.positive_rows:
            return proceed(call)
        area = layout.height * layout.width
        first = call.before + frames.index(0) * area
        bias = on_positive_rows(call, gamma).unsqueeze(-1)
        mask = frame_mask(call.k.shape[1], slice(first, first + area), bias, call.mask)
        return for_video(call, call.replace(mask=mask), proceed)

    return edit_attention(
        model,
        NAME,
        by_crop(edit),
        sites=("self", "joint"),
        interval=config.interval,
        splits="queries",
        active=gamma != 0,
    )
