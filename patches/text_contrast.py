"""Text Contrast on a MODEL: the text attention of the positive prompt's rows, less what it says on average."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..host.editing import Call, edit_attention
from ..host.families import family_of
from ..host.schedule import ALWAYS, Interval
from ..kernels.text_contrast import contrast, mean_attention
from .blocks import parse_blocks
from .queries import for_video, on_positive_rows, over_cfg

NAME = "Text Contrast"


@dataclass(frozen=True)
class TextContrast:
    """strength: w of the formula, 0 = the unpatched model. keep_norm: of each token's text attention (Wan), or of each
    text token's values (HunyuanVideo). blocks: those in which it acts, as in "0-3,38"; empty: all. per_cfg: w is
    divided by a CFG above 1, which multiplies what the positive prompt's rows add."""

    strength: float = 1.0
    keep_norm: bool = True
    blocks: str = ""
    interval: Interval = ALWAYS
    per_cfg: bool = True

    def __post_init__(self):
        if not 0.0 <= self.strength <= 2.0:
            raise ValueError(
                f"strength {self.strength}: must be from 0 (the model as it is) to 2. Above 1 nothing was gained where "
                "it was measured."
            )


def apply(model, config: TextContrast):
    """A clone of `model` with contrast in its text attention; strength 0 returns the model unchanged. Raises ValueError
    for blocks it does not have."""
    count = family_of(model).blocks(model.model.diffusion_model)
    try:
        blocks = parse_blocks(config.blocks, count) or frozenset(range(count))
    except ValueError as error:
        raise ValueError(f"blocks: {error}") from None

    def edit(call: Call, proceed) -> Tensor:
        if call.site.block not in blocks or call.site.stream == "side" or not call.positive_rows:
            return proceed(call)
        weight = on_positive_rows(call, over_cfg(call, config.strength, config.per_cfg))
        if call.site.kind == "joint":
            return for_video(call, with_contrasted_values(call, weight, config.keep_norm), proceed)
        video = slice(call.before, call.q.shape[1] - call.after)
        base = mean_attention(call.q[:, video], call.k, call.v, _mask(call, video, slice(None))).flatten(2)
        out = proceed(call)
        changed = contrast(out[:, video], base, weight, config.keep_norm)
        if call.before or call.after:
            return torch.cat((out[:, : video.start], changed, out[:, video.stop :]), dim=1)
        return changed

    return edit_attention(
        model,
        NAME,
        edit,
        sites=("text", "joint"),
        interval=config.interval,
        splits="queries",
        active=config.strength > 0,
    )


def with_contrasted_values(call: Call, weight: Tensor, keep_norm: bool) -> Call:
    """A joint call, whose values of the prompt are contrasted: for the video's queries, this contrasts what they take
    from the prompt, in the measure in which they look at it. The prompt: text without CLIP's or SigLIP's image tokens,
    which the family puts in front of it."""
    video = slice(call.before, call.q.shape[1] - call.after)
    if video.start == video.stop:
        return call
    layout = call.forward.layout
    prompt = slice(layout.image, call.before - layout.before)
    keys, values = call.k[:, prompt], call.v[:, prompt]
    base = mean_attention(call.q[:, video], keys, values, _mask(call, video, prompt))
    changed = contrast(values.flatten(2), base.flatten(2), weight, keep_norm).view_as(values)
    return call.replace(v=torch.cat((call.v[:, : prompt.start], changed, call.v[:, prompt.stop :]), dim=1))


def _mask(call: Call, queries: slice, keys: slice) -> Tensor | None:
    if call.mask is None:
        return None
    return call.mask[..., queries if call.mask.shape[-2] > 1 else slice(None), keys]
