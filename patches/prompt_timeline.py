"""Prompt Timeline on a MODEL: each latent frame attends to the text of its span of time."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..host.call import Call, Continue
from ..host.editing import edit_attention
from ..host.families import Family, family_of
from ..host.forward import Forward
from ..host.own_windows import spoken_for
from ..host.run import Run
from ..host.schedule import ALWAYS, Interval
from ..host.timeline import TIMELINE
from ..kernels.parts import Part, attend_parts, merged
from ..kernels.prompt_timeline import check_spans, middles, span_weights, video_parts
from ..kernels.wording import counted
from .timeline_text import Spoken, columns_of, timeline_of

NAME = "Prompt Timeline"


@dataclass(frozen=True)
class PromptTimeline:
    """fps: of the finished video. hand_over: seconds over which neighbouring spans blend at their border, 0 = cut.

    strength: 1 = a frame sees the text of its span alone, 0 = the unpatched model, in which each frame sees the texts
    of all spans; between = blend of both.
    """

    fps: float = 16.0
    hand_over: float = 0.0
    strength: float = 1.0
    interval: Interval = ALWAYS

    def __post_init__(self):
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(
                f"strength {self.strength}: must be from 0 (all texts everywhere) to 1 (that of the span)."
            )


def apply(model, conditioning: list, config: PromptTimeline):
    """A clone of `model` that gives each frame the text of its span, in every conditioning that has a timeline;
    strength 0 returns the model unchanged.

    conditioning: one with a timeline, for its times. Raises ValueError, naming spans, for what cannot work.
    """
    family = family_of(model)
    spoken = timeline_of(conditioning)
    check_spans([one.span for one in spoken], config.fps, config.hand_over)

    model = edit_attention(
        model,
        NAME,
        partial(each_timeline, family, config),
        sites=("text", "joint"),
        interval=config.interval,
        splits="frames",
        check=partial(check_run, family, config),
        refine=refine,
        by_frames=True,
        active=config.strength > 0,
    )
    if config.strength > 0:
        model.model_options["transformer_options"][TIMELINE] = cuts(family, spoken, config.fps)
    return model


def cuts(family: Family, spoken: Sequence[Spoken], fps: float) -> tuple[int, ...]:
    """The first latent frame of each span but the first; one per frame where several begin in it."""
    last = spoken[-1].span.start
    latents = 1
    while middles(family.first_frames(latents), fps)[-1] < last:
        latents *= 2
    times = middles(family.first_frames(latents), fps)
    begins = {sum(time < one.span.start for time in times) for one in spoken[1:]}
    return tuple(sorted(begins - {0}))


def check_run(family: Family, config: PromptTimeline, run: Run) -> None:
    if not run.timelines:
        run.say_once(
            f"{NAME}: no conditioning of this run has a timeline, so nothing is parted. Connect the CONDITIONING that "
            "comes out of Prompt Timeline or Timeline Span.",
            logging.WARNING,
        )
    times = middles(family.first_frames(run.total_frames), config.fps)
    frames = family.first_frames(run.total_frames)[-1]
    last = "lasts" if frames == 1 else "last"
    long = f"{counted(frames, 'frame')} {last} {frames / config.fps:g} s at {config.fps:g} fps"
    for spoken in run.timelines.values():
        spans = [one.span for one in spoken]
        check_spans(spans, config.fps, config.hand_over)
        if times[-1] >= spans[-1].end + 0.5 / config.fps:
            raise ValueError(
                f"span {spans[-1]}: is the last, but the video's {long}. Let it end there, or leave its "
                f"end open, as in '{spans[-1].start:g}-: ...'."
            )
        seen = span_weights(spans, times, config.hand_over).any(dim=0).tolist()
        for span in (span for span, any_frame in zip(spans, seen) if not any_frame):
            run.say_once(
                f"{NAME}: span {span} has no latent frame of this video, whose {long}: it comes too late or is "
                "too short.",
                logging.WARNING,
            )


def each_timeline(family: Family, config: PromptTimeline, call: Call, proceed: Continue) -> Tensor:
    """The rows of each timeline, and of each part of the video, on their own."""
    if not any(len(spoken or ()) > 1 for spoken in call.forward.timelines):
        return proceed(call)
    keys = [(call.forward.timelines[row], call.forward.crops[row].frames) for row in call.batch_rows]
    groups = [[i for i, key in enumerate(keys) if key == one] for one in dict.fromkeys(keys)]
    outs = []
    for group in groups:
        spoken, frames = keys[group[0]]
        own = call.take(group) if len(groups) > 1 else call
        outs.append(parted(family, config, spoken, frames, own, proceed) if spoken else proceed(own))
    if len(groups) == 1:
        return outs[0]
    order = torch.tensor([index for group in groups for index in group])
    return torch.cat(outs)[order.argsort().to(outs[0].device)]


def parted(
    family: Family, config: PromptTimeline, spoken: tuple[Spoken, ...], frames: tuple[int, ...], call: Call, proceed
) -> Tensor:
    """The attention of rows with one timeline that show one part of the video, the latent frames `frames`."""
    if len(spoken) < 2:
        return proceed(call)
    held = tuple(range(len(frames))) if call.frames is None else call.frames
    frames = spoken_for(call.forward.options, [frames[index] for index in held])
    parts = call.forward.once(
        (NAME, spoken, frames, call.site.kind, call.before, call.after, call.q.shape[1]),
        lambda: parts_of(call, spoken, frame_weights(family, config, spoken, frames, call.forward.run)),
    )

    def attend(part: Part, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        outside = 0 if part.frames else q.shape[1]
        front = call.keys_before - (call.k.shape[1] - k.shape[1])  # of the text, which is in front, some is gone
        return proceed(
            call.replace(
                q=q,
                k=k,
                v=v,
                mask=mask,
                before=outside,
                after=0,
                frames=tuple(held[index] for index in part.frames),
                keys_before=max(front, 0),
            )
        )

    own = attend_parts(call.q, call.k, call.v, call.mask, parts, attend)
    return own if config.strength == 1.0 else torch.lerp(proceed(call), own, config.strength)


def frame_weights(
    family: Family, config: PromptTimeline, spoken: Sequence[Spoken], frames: Sequence[int], run: Run
) -> Tensor:
    """[frames, spans] for latent frames of these numbers."""
    times = middles(family.first_frames(max(run.total_frames, *frames) + 1), config.fps)
    return span_weights([one.span for one in spoken], [times[frame] for frame in frames], config.hand_over)


def parts_of(call: Call, spoken: Sequence[Spoken], weights: Tensor) -> list[Part]:
    """Who sees what. Video: the text of its span, all text that belongs to no span (image tokens, what Conditioning
    Concat has added), and whatever is no text. A span's own text (joint attention): the same, but of the video its
    span's frames alone. Other queries see everything (our choice, both)."""
    layout, keys = call.forward.layout, call.k.shape[1]
    joint = call.site.kind == "joint"
    text = call.before - layout.before if joint else keys
    own = columns_of(spoken, layout.image if joint else 0, layout.glyphs if joint else 0, text)
    others = complement(sorted(s for columns in own for s in columns), keys)
    seen = [merged(sorted((*columns, *others))) for columns in own]
    area = layout.height * layout.width
    with_video = call.q.shape[1] > call.before + call.after
    parts = video_parts(weights, seen, call.before, area) if with_video else []
    outside = complement([slice(call.before, call.q.shape[1] - call.after)], call.q.shape[1])
    if not joint:
        return parts + ([Part(outside, (slice(0, keys),))] if outside else [])

    video = keys - layout.frames * area - layout.after
    for span, columns in enumerate(own):
        mine = weights[:, span].nonzero().flatten().tolist()
        hidden = [slice(video + f * area, video + (f + 1) * area) for f in range(layout.frames) if f not in mine]
        parts.append(Part(merged(columns), without(seen[span], hidden)))
    rest = without(outside, [s for columns in own for s in columns])
    return parts + ([Part(rest, (slice(0, keys),))] if rest else [])


def complement(spans: Sequence[slice], total: int) -> tuple[slice, ...]:
    """What sorted, disjoint `spans` leave of 0 .. total."""
    starts = [0, *(span.stop for span in spans)]
    ends = [*(span.start for span in spans), total]
    return merged([slice(a, b) for a, b in zip(starts, ends)])


def without(spans: Sequence[slice], hidden: Sequence[slice]) -> tuple[slice, ...]:
    """`spans` less `hidden`, both disjoint."""
    out = list(spans)
    for gone in hidden:
        out = [
            piece
            for span in out
            for piece in (
                slice(span.start, min(span.stop, max(span.start, gone.start))),
                slice(max(span.start, min(span.stop, gone.stop)), span.stop),
            )
        ]
        out = list(merged(out))
    return tuple(out)


def refine(forward: Forward, refined: Tensor, alone) -> Tensor:
    """HunyuanVideo's token refiner, in which the words of a prompt see one another: each span's on their own, and those
    that belong to no span too. What MiniMax H3 and LTX-2 do to a prompt, once, is so done by the host's wrapper."""
    out = refined
    for spoken in dict.fromkeys(forward.timelines):
        if len(spoken or ()) < 2:
            continue
        rows = [row for row, other in enumerate(forward.timelines) if other == spoken]
        own = [columns[-1] for columns in columns_of(spoken, 0, 0, refined.shape[1])]
        out = out.clone() if out is refined else out
        for tokens in (*own, *complement(own, refined.shape[1])):
            out[rows, tokens] = alone(rows, tokens)
    return out
