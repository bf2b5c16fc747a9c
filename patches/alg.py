"""ALG on a MODEL: its start image blurred in the noisiest steps."""

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from ..host.editing import edit_inputs
from ..host.families import family_of, hunyuan, wan
from ..host.forward import Forward
from ..host.passes import Predict, replace_passes
from ..host.run import Run
from ..host.schedule import Interval
from ..kernels.alg import FACTORS, MIN_SIGMAS, factor_at, low_pass, three_branch

NAME = "ALG"
SHARP = "ALG sharp"  # the mark of the pass that sees the image as it is
FAMILIES = {wan: "wan", hunyuan: "hunyuan"}
Guidance = Literal["two passes (variant)", "three passes (published)"]


@dataclass(frozen=True)
class ALG:
    """factor: what stays of height and width, 0 = the family's published one. strength: 1 = factor, 0 = the unpatched
    model, between = a factor nearer to 1. interval: a min_sigma of None is the family's published one.

    guidance: with CFG, blur both passes, or (as published) take the guidance's difference from two blurred passes and
    its start from a third, sharp one.
    """

    factor: float = 0.0
    guidance: Guidance = "two passes (variant)"
    strength: float = 1.0
    interval: Interval = Interval()
    min_sigma: float | None = None

    def __post_init__(self):
        if not 0.0 <= self.factor <= 1.0:
            raise ValueError(
                f"factor {self.factor}: must be above 0 (all blur) and at most 1 (sharp), or 0 (automatic)."
            )
        if self.guidance not in Guidance.__args__:
            raise ValueError(f"guidance '{self.guidance}': choose one of {', '.join(Guidance.__args__)}.")
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength {self.strength}: must be from 0 (the model as it is) to 1 (all of the blur).")


def apply(model, config: ALG):
    """A clone of `model` that sees its start image blurred; strength 0 or factor 1 returns the model unchanged. Raises
    ValueError for a model that sees none."""
    family, module = family_of(model), model.model.diffusion_model
    if family not in FAMILIES:
        raise ValueError(
            f"model: {family.NAME} is shown its start image as finished frames or tokens of their own; ALG has no "
            "published blur for these. Load an I2V model of Wan or HunyuanVideo, or remove the node."
        )
    channels = family.latent_channels(module)
    beside = family.input_channels(module) > channels
    if not beside and not family.REPLACES_FIRST_FRAME:
        raise ValueError(
            f"model: this {family.NAME} has no channels for a start image (Wan T2V, TI2V 5B and VACE have none). Load "
            "an I2V model, such as Wan 2.1 / 2.2 I2V 14B."
        )
    key = FAMILIES[family]
    factor = factor_at(config.factor or FACTORS[key], config.strength)
    lowest = MIN_SIGMAS[key] if config.min_sigma is None else config.min_sigma
    interval = replace(config.interval, min_sigma=lowest)

    def inputs(forward: Forward) -> dict:
        if forward.options.get(SHARP):
            return {}
        x = forward.arguments["x"].clone()
        if beside:
            x[:, channels:] = low_pass(x[:, channels:], factor)
        if forward.arguments.get("guiding_frame_index") is not None and forward.frames[0] == 0:
            x[:, :channels, :1] = low_pass(x[:, :channels, :1], factor)
        return {"x": x}

    def check(run: Run) -> None:
        if not {"concat_latent_image", "guiding_frame_index"} & run.conds:
            raise ValueError(
                f"{NAME}: no conditioning carries a start image to blur. Put WanImageToVideo or HunyuanImageToVideo "
                "(v1 or v2, with a start image) between the prompts and the sampler, or remove the node."
            )

    def passes(predict: Predict) -> list[Tensor]:
        cond, uncond = predict()
        sharp = predict(only=1, mark=SHARP)
        return [three_branch(cond, uncond, sharp), sharp]

    active = factor != 1.0
    patched = edit_inputs(model, NAME, inputs, interval=interval, check=check, active=active)
    three = active and config.guidance == "three passes (published)"
    return replace_passes(patched, NAME, passes, interval=interval) if three else patched
