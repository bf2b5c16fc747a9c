"""Swin Renderer on a MODEL: self-attention (the video part of joint attention) in temporal windows."""

from dataclasses import dataclass

import torch

from ..host.editing import Call, edit_attention
from ..host.families import family_of
from ..host.forward import Run
from ..host.schedule import ALWAYS, Interval
from ..kernels.swin_renderer import (
    Anchors,
    anchor_frames,
    anchor_interval,
    automatic_window,
    window_spans,
    windowed_attention,
)
from .blocks import parse_blocks

NAME = "Swin Renderer"


@dataclass(frozen=True)
class SwinRenderer:
    """window, anchor_interval, anchor_budget: latent frames. window 0: what suits the model and the anchors;
    anchor_interval 0: as dense as the budget allows; anchor_budget 0: the trained length.

    strength: 1 = windows, 0 = the unpatched model, between = blend of both. dense_blocks: blocks that keep full
    attention, as in "0-3,38".
    """

    window: int = 0
    shift: bool = True
    anchors: Anchors = "none"
    anchor_interval: int = 0
    anchor_budget: int = 0
    dense_blocks: str = ""
    strength: float = 1.0
    interval: Interval = ALWAYS

    def __post_init__(self):
        if self.window < 0:
            raise ValueError(f"window {self.window}: must not be negative; 0 chooses for you.")
        if self.shift and self.window % 2:
            raise ValueError(
                f"window {self.window}: must be even, because odd blocks shift by half a window. Use "
                f"{self.window + 1}, or turn shift off."
            )
        if self.anchors not in Anchors.__args__:
            raise ValueError(f"anchors '{self.anchors}': choose one of {', '.join(Anchors.__args__)}.")
        if self.anchor_interval < 0 or self.anchor_budget < 0:
            raise ValueError(
                f"anchor_interval {self.anchor_interval}, anchor_budget {self.anchor_budget}: must not be negative; 0 "
                "chooses for you."
            )
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength {self.strength}: must be from 0 (full attention) to 1 (windows).")


def apply(model, config: SwinRenderer):
    """A clone of `model` that renders in windows; strength 0 returns the model unchanged. Raises ValueError for what
    cannot work."""
    family, module = family_of(model), model.model.diffusion_model
    try:
        dense_blocks = parse_blocks(config.dense_blocks, family.blocks(module))
    except ValueError as error:
        raise ValueError(f"dense_blocks: {error}") from None
    if config.anchors != "none":
        require_room(config.window, config.anchor_budget or family.trained_frames(module))

    def span(run: Run) -> int:
        """What a window and its anchors may have together. LTX was trained on seconds, not on frames."""
        return config.anchor_budget or family.trained_frames(module, run.frame_rate)

    def window(run: Run, frames: int) -> int:
        trained, step = family.trained_frames(module, run.frame_rate), family.WINDOW_STEP
        return config.window or automatic_window(
            trained, config.anchors, span(run), frames, config.anchor_interval, step
        )

    def interval(run: Run, frames: int) -> int:
        return config.anchor_interval or anchor_interval(frames, window(run, frames), span(run))

    def check(run: Run) -> None:
        width, budget = window(run, run.frames), span(run)
        if run.frames <= width:
            run.say_once(
                f"{NAME}: the video's {run.frames} latent frames fit into one window of {width}; nothing to cut."
            )
        elif config.anchors != "none":
            visible = width + len(anchor_frames(run.frames, config.anchors, interval(run, run.frames)))
            if visible > budget:
                raise ValueError(
                    f"anchor_interval {config.anchor_interval}: a window of {width} and its anchors span {visible} "
                    f"latent frames, more than the {budget} of anchor_budget. Set anchor_interval to 0 (automatic) or "
                    f"at least {anchor_interval(run.frames, width, budget)}, or a smaller window."
                )

    def edit(call: Call, proceed) -> torch.Tensor:
        frames = call.forward.layout.frames
        run = call.forward.run
        width = window(run, frames)
        no_video = call.q.shape[1] == call.before + call.after  # those queries see everything
        if frames <= width or call.site.block in dense_blocks or no_video:
            return proceed(call)
        spans = window_spans(frames, width, shifted=config.shift and call.site.block % 2 == 1)
        anchors = ()
        if config.anchors != "none":
            anchors = anchor_frames(frames, config.anchors, interval(run, frames), call.forward.step)
        windows = windowed_attention(
            call.q,
            call.k,
            call.v,
            lambda q, k, v, mask: proceed(call.replace(q=q, k=k, v=v, mask=mask)),
            spans,
            anchors,
            call.before,
            call.after,
            call.mask,
        )
        return windows if config.strength == 1.0 else torch.lerp(proceed(call), windows, config.strength)

    return edit_attention(
        model,
        NAME,
        edit,
        sites=("self", "joint"),
        interval=config.interval,
        splits="windows",
        check=check,
        active=config.strength > 0,
    )


def require_room(window: int, budget: int) -> None:
    """Raises ValueError, before anything is loaded, for a window beside which no anchor fits into the budget."""
    if budget <= (window or 2):
        remedy = f"window to 0 (automatic) or at most {(budget - 1) // 2 * 2}" if budget > 2 else "anchor_budget to 0"
        raise ValueError(
            f"window {window} leaves no room for anchors: both together may span {budget} latent frames "
            f"(anchor_budget). Set {remedy}, or anchors to none."
        )
