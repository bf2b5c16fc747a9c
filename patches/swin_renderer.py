"""Swin Renderer on a MODEL: self-attention (the video part of joint attention) in temporal windows, at places in time
that the model knows."""

import logging
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..host.call import Call, by_crop
from ..host.editing import edit_attention, edit_inputs
from ..host.families import Family, family_of
from ..host.forward import Forward
from ..host.in_turn import Window
from ..host.own_windows import CUT_ALREADY, OwnWindows, shows_own_window
from ..host.pieces import Piece, Pieces
from ..host.run import Run
from ..host.timeline import TIMELINE
from ..kernels.overlap import overlapping
from ..kernels.swin_renderer import (
    anchor_frames,
    anchor_interval,
    automatic_window,
    frames_beside,
    story_spans,
    window_spans,
    windowed_attention,
)
from ..kernels.wording import counted
from .blocks import parse_blocks
from .swin_alone import in_own_windows
from .swin_config import SwinRenderer, require_room
from .swin_parts import SOUND, part_in_windows, sound_in_windows
from .swin_positions import at_scale, automatic_scale, frames_at_scale

NAME = "Swin Renderer"
PLACES = f"{NAME} places"


def timeline_of(options: dict) -> tuple[int, ...]:
    return tuple(options.get(TIMELINE, ()))


@dataclass(frozen=True)
class Windows:
    """What a configuration means on one model, `module` of `family`, in a run at a frame rate (None: the family's)."""

    config: SwinRenderer
    family: Family
    module: nn.Module
    dense_blocks: frozenset[int]
    frame_rate: float | None = None

    @classmethod
    def of(cls, model, config: SwinRenderer) -> "Windows":
        """Raises ValueError for what cannot work on this MODEL."""
        family, module = family_of(model), model.model.diffusion_model
        try:
            dense_blocks = parse_blocks(config.dense_blocks, family.blocks(module))
        except ValueError as error:
            raise ValueError(f"dense_blocks: {error}") from None
        if config.compressed and family.time_rope is None:
            if family.sound_apart(module):
                raise ValueError(
                    f"time_scale {config.time_scale}: the sound of this {family.NAME} keeps its own time, so that it "
                    "would no longer fit a video that stands closer together. Set time_scale to 1."
                )
            if 0.0 < config.strength < 1.0:
                raise ValueError(
                    f"strength {config.strength}: {family.NAME} is told where its frames are before its blocks, once, "
                    "so both cannot be blended where time_scale is not 1. Set strength or time_scale to 1."
                )
        if config.sound == "windows" and not family.sound_apart(module):
            raise ValueError(
                f"sound 'windows': this {family.NAME} makes no sound in a stream of its own, as LTX-2 does. Set sound "
                "to whole."
            )
        if config.on_their_own and not family.OWN_WINDOWS:
            raise ValueError(
                f"lead_in {config.lead_in}, blend {config.blend}: windows cannot go through {family.NAME} one by one, "
                "as its latent may hold more than the video. Set both to 0."
            )
        windows = cls(config, family, module, frozenset(dense_blocks))
        if config.anchors != "none" and not family.PLACES_IN_SECONDS:
            require_room(config.window, windows.budget)
        return windows

    def during(self, run: Run) -> "Windows":
        return self if run.frame_rate == self.frame_rate else replace(self, frame_rate=run.frame_rate)

    @property
    def trained(self) -> int:
        """Latent frames of the videos that the model was trained on. LTX was trained on seconds, not on frames."""
        return self.config.trained or self.family.trained_frames(self.module, self.frame_rate)

    @property
    def budget(self) -> int:
        """What a window and its anchors may have together."""
        return self.config.anchor_budget or (2 * self.trained if self.config.compressed else self.trained)

    def window(self, frames: int) -> int:
        chosen = self.config
        return chosen.window or automatic_window(
            self.trained, chosen.anchors, self.budget, frames, chosen.anchor_interval, self.family.WINDOW_STEP
        )

    def longest(self, frames: int) -> int:
        """Of the windows that follow a timeline: they do not shift, so that an odd trained length will do."""
        return self.trained if self.config.anchors == "none" and not self.config.window else self.window(frames)

    def anchors(self, frames: int, step: int = 0) -> tuple[int, ...]:
        chosen = self.config.anchors
        if chosen == "none":
            return ()
        interval = self.config.anchor_interval or anchor_interval(frames, self.window(frames), self.budget)
        return anchor_frames(frames, chosen, interval, step)

    def look_back(self, timeline: tuple[int, ...]) -> int:
        return int(bool(timeline)) if self.config.look_back < 0 else self.config.look_back

    def time_scale(self, frames: int) -> float:
        return self.config.time_scale or automatic_scale(self.trained, frames)

    def turning(self, frames: int) -> float:
        """`time_scale` where queries and keys are turned by it; 1 where the model is told places before its blocks."""
        return 1.0 if self.family.time_rope is None else self.time_scale(frames)

    def places(self, forward: Forward) -> dict:
        """Arguments of the model's call that tell it so."""
        scale = self.time_scale(forward.layout.frames)
        return {} if scale == 1.0 else self.family.inputs_at_scale(forward.arguments, scale)

    def spans(self, forward: Forward, block: int, shown: tuple[int, ...]) -> list[tuple[int, int]]:
        """Of the frames `shown`, numbers in the whole video, as a block cuts them; one span where nothing is cut."""
        frames = len(shown)
        if block in self.dense_blocks:
            return [(0, frames)]
        if self.alone(forward):
            return [(0, frames)]
        if timeline := timeline_of(forward.options):
            return story_spans(shown, timeline, self.longest(frames))
        if frames <= self.window(frames):
            return [(0, frames)]
        return window_spans(frames, self.window(frames), shifted=self.config.shift and block % 2 == 1)

    def alone(self, forward: Forward) -> bool:
        """Whether this call of the model is of one window."""
        return self.config.on_their_own and shows_own_window(forward.options)

    def on_their_own(self, frames: int, options: dict) -> list[Window]:
        """The windows of a video of so many latent frames that go through the model one by one."""
        timeline = timeline_of(options)
        spans = story_spans(tuple(range(frames)), timeline, self.longest(frames)) if timeline else [(0, frames)]
        windows = overlapping(spans, self.config.lead_in, self.config.blend)
        return [Window(one.frames, one.weights, one.first, one.last) for one in windows]

    def tokens(self, forward: Forward) -> int | None:
        """What goes through the model at once while windows act: as many tokens as a video of the trained length."""
        layout = forward.layout
        if layout.frames <= self.window(layout.frames) and not timeline_of(forward.options):
            return None
        return self.trained * layout.height * layout.width

    def pieces(self, forward: Forward) -> Pieces | None:
        """The windows of each block, where they alone matter and all rows show the same frames."""
        shown = {crop.frames for crop in forward.crops}
        if self.alone(forward) or self.config.strength < 1.0 or self.tokens(forward) is None or len(shown) > 1:
            return None
        [frames] = shown
        count = len(frames)
        anchors, back = self.anchors(count, forward.step), self.look_back(timeline_of(forward.options))

        def of(block: int) -> list[Piece]:
            spans = self.spans(forward, block, frames)
            return [Piece(start, end, frames_beside((start, end), anchors, back)) for start, end in spans]

        scale = self.turning(count)
        return Pieces(of, lambda x, listed: frames_at_scale(forward, x, listed, scale))

    def chosen(self, run: Run, timeline: bool) -> str:
        """What it does to the video, in words, with the values that 0 stands for."""
        frames = run.frames
        if timeline and self.config.on_their_own:
            count = len(self.on_their_own(run.total_frames, run.options))
            cut = f"{count} windows that go through the model one by one, of at most {frames} with lead_in and blend"
            return f"{counted(run.total_frames, 'latent frame')} in {cut}, time_scale {self.time_scale(frames):.3g}"
        cut = f"along the timeline, of at most {self.longest(frames)}" if timeline else f"of {self.window(frames)}"
        beside = f"{counted(len(self.anchors(frames)), 'anchor')}, time_scale {self.time_scale(frames):.3g}"
        return f"{counted(frames, 'latent frame')} in windows {cut}, {beside}"

    def check(self, run: Run) -> None:
        """Raises ValueError, before the first step, for what cannot work in `run`; says what will not work well."""
        frames, width = run.frames, self.window(run.frames)
        if self.config.anchors != "none":
            require_room(self.config.window, self.budget)
        timeline = any(0 < start < run.total_frames for start in timeline_of(run.options))
        if timeline and self.config.on_their_own and not isinstance(run.windows, OwnWindows | None):
            raise ValueError(CUT_ALREADY)
        if frames <= width and not timeline:
            if self.time_scale(frames) == 1.0:
                run.say_once(
                    f"{NAME}: the video's {counted(frames, 'latent frame')} {'fits' if frames == 1 else 'fit'} into "
                    f"one window of {width}; nothing to cut."
                )
            return
        run.say_once(f"{NAME}: {self.chosen(run, timeline)}.")
        visible = width + len(self.anchors(frames))
        if self.config.anchors != "none" and visible > self.budget:
            raise ValueError(
                f"anchor_interval {self.config.anchor_interval}: a window of {width} and its anchors span {visible} "
                f"latent frames, more than the {self.budget} of anchor_budget. Set anchor_interval to 0 (automatic) or "
                f"at least {anchor_interval(frames, width, self.budget)}, or a smaller window."
            )
        for remark in self.config.remarks(timeline, run.sigmas):
            run.say_once(f"{NAME}: {remark}.")
        alone = (
            self.config.anchors == "none" and not timeline and len(self.dense_blocks) < self.family.blocks(self.module)
        )
        if alone and self.time_scale(frames) < 1.0:
            run.say_once(
                f"{NAME}: time_scale compresses time, but windows without anchors lose the story then (in MiniWorld "
                "none of the videos told it). Set anchors to rotating, or time_scale to 1, or window to 1024 for full "
                "attention.",
                logging.WARNING,
            )


def apply(model, config: SwinRenderer):
    """A clone of `model` that renders in windows; strength 0 returns the model unchanged. Raises ValueError for what
    cannot work."""
    chosen = Windows.of(model, config)

    def edit(call: Call, proceed) -> torch.Tensor:
        forward, frames = call.forward, call.forward.layout.frames
        windows = chosen.during(forward.run)
        if windows.alone(forward):
            forward.note(NAME)  # what it changed is the call, not an attention
        timeline = timeline_of(forward.options)
        placed = at_scale(call, windows.turning(frames))
        sound = call.site.kind in SOUND
        no_video = not sound and call.q.shape[1] == call.before + call.after  # those queries see everything
        shown = call.crop.frames if timeline else tuple(range(frames))
        spans = [] if no_video else windows.spans(forward, call.site.block, shown)
        whole = len(spans) < 2
        if whole and placed is call:
            return proceed(call)
        anchors, back = windows.anchors(frames, forward.step), windows.look_back(timeline)
        if whole:
            out = proceed(placed)
        elif sound:
            out = sound_in_windows(call, proceed, spans, [frames_beside(span, anchors, back) for span in spans])
        elif call.frames is not None:
            out = part_in_windows(placed, proceed, spans, [frames_beside(span, anchors, back) for span in spans])
        else:
            out = windowed_attention(
                placed.q,
                placed.k,
                placed.v,
                lambda q, k, v, mask: proceed(call.replace(q=q, k=k, v=v, mask=mask)),
                spans,
                anchors,
                call.before,
                call.after,
                call.mask,
                back,
                windows.tokens(forward),
            )
        return out if config.strength == 1.0 else torch.lerp(proceed(call), out, config.strength)

    def edit_call(call: Call, proceed) -> torch.Tensor:
        """Where a timeline counts frames, rows that show different ones are apart."""
        return (by_crop(edit) if timeline_of(call.forward.options) else edit)(call, proceed)

    if config.on_their_own and config.strength > 0:
        model = in_own_windows(model, config, chosen.on_their_own)
    if config.compressed and chosen.family.time_rope is None and config.strength > 0:
        model = edit_inputs(
            model, PLACES, lambda forward: chosen.during(forward.run).places(forward), interval=config.interval
        )
    return edit_attention(
        model,
        NAME,
        edit_call,
        sites=("self", "joint", *(SOUND if config.sound == "windows" else ())),
        interval=config.interval,
        splits="windows",
        check=lambda run: chosen.during(run).check(run),
        tokens=lambda forward: chosen.during(forward.run).tokens(forward),
        pieces=lambda forward: chosen.during(forward.run).pieces(forward),
        active=config.strength > 0,
    )
