"""Drift of a finished video: numbers of its first and last part, and what must stand beside them."""

import json
from dataclasses import asdict, dataclass
from statistics import median

import torch
from torch import Tensor

from ..kernels.drift import (
    Curves,
    change,
    colour_drift,
    curves,
    dynamic_degree,
    ends,
    features_over_time,
    first_and_last,
    jumps,
    loop_score,
    seams,
    similarity,
)
from .clip_mask import encode

CLIP_FRAMES = 64  # so many frames at most are shown to CLIP
WITHIN = 21  # frames within which movement counts
QUALITIES = ("sharpness", "luma", "contrast", "saturation")
MOST_JUMPS = 5


@dataclass(frozen=True)
class Drift:
    """What changed, and what stands beside it.

    first, last, change: of each of QUALITIES (0.1 is 10 percent more); drift: mean size of these changes
    colour: RGB distance of the mean colours of both parts
    subject: cosine of CLIP's features of both parts; text: CLIP cosine of frames and text, in the first and the last
    dynamic: share of the picture that changes within WITHIN frames; movement: mean RGB distance from frame to frame
    loop: 1 for a loop or a frozen video
    borders, seams: frames, and the jump there over the median; largest: (frame, jump over the median) of the largest
    """

    frames: int
    part: int
    first: dict[str, float]
    last: dict[str, float]
    change: dict[str, float]
    drift: float
    colour: float
    subject: float | None
    text: tuple[float, float] | None
    dynamic: float
    movement: float
    loop: float
    borders: list[int]
    seams: list[float]
    largest: list[tuple[int, float]]

    @property
    def json(self) -> str:
        return json.dumps({name: rounded(value) for name, value in asdict(self).items()}, indent=1)


@dataclass(frozen=True)
class Lines:
    """What the plot draws: curves and jumps of each frame; picks: frames that CLIP saw, with their cosines to the first
    part's mean and to the text, None where not asked for."""

    curves: Curves
    jumps: Tensor
    picks: list[int]
    subject: Tensor | None
    text: Tensor | None


def measure(frames: Tensor, borders: list[int], clip=None, clip_vision=None, text: str = "") -> tuple[Drift, Lines]:
    """frames: [time, height, width, 3], 0..1; borders: first frames after window borders, none: no seams. clip:
    SEMVID_CLIP; clip_vision: ComfyUI's, for the subject alone. Raises ValueError for what is no video and for borders
    outside of it."""
    found = curves(frames)
    between = jumps(frames)
    picks, near, told = seen_by_clip(frames, clip, clip_vision, text)
    usual = max(float(between.median()), 1e-6)
    top = between.topk(min(MOST_JUMPS, len(between)))
    of_each = {name: getattr(found, name) for name in QUALITIES}
    parts = {name: first_and_last(values) for name, values in of_each.items()}
    changes = {name: change(values) for name, values in of_each.items()}
    drift = Drift(
        frames=len(frames),
        part=ends(len(frames))[0].stop,
        first={name: pair[0] for name, pair in parts.items()},
        last={name: pair[1] for name, pair in parts.items()},
        change=changes,
        drift=sum(map(abs, changes.values())) / len(changes),
        colour=colour_drift(found.rgb),
        subject=None if near is None else similarity(near),
        text=None if told is None else first_and_last(told),
        dynamic=dynamic_degree(frames, WITHIN),
        movement=float(between.mean()),
        loop=loop_score(frames),
        borders=borders,
        seams=seams(frames, borders) if borders else [],
        largest=[(int(i) + 1, float(value) / usual) for value, i in zip(*top)],
    )
    to_first = None if near is None else near @ torch.nn.functional.normalize(near[ends(len(near))[0]].mean(0), dim=0)
    return drift, Lines(found, between, picks, to_first, told)


def seen_by_clip(frames: Tensor, clip, clip_vision, text: str) -> tuple[list[int], Tensor | None, Tensor | None]:
    """Which frames CLIP saw, their unit features, and their cosines to the text."""
    if clip is None and clip_vision is None:
        return [], None, None

    def look(some: Tensor) -> Tensor:
        output = encode(clip, some) if clip is not None else clip_vision.encode_image(some, crop=False)
        embeds = getattr(output, "image_embeds", None)
        if not isinstance(embeds, Tensor):
            raise ValueError("clip_vision: gives no image_embeds. Use a ViT CLIP, such as clip_vision_h.")
        return embeds.flatten(1)

    picks, features = features_over_time(frames, look, CLIP_FRAMES)
    if clip is None or not text.strip():
        return picks, features, None
    meaning = clip.encode_text(text).float().cpu().mean(0)
    return picks, features, features @ torch.nn.functional.normalize(meaning, dim=0)


def as_text(drift: Drift) -> str:
    """The numbers as lines that people read."""
    lines = [
        f"{drift.frames} frames; first part: {drift.part}, last part: {drift.part}",
        f"{'':12} {'first':>8} {'last':>8} {'change':>8}",
    ]
    for name in QUALITIES:
        lines.append(f"{name:12} {drift.first[name]:8.4f} {drift.last[name]:8.4f} {100 * drift.change[name]:+7.1f} %")
    lines.append(f"quality drift {100 * drift.drift:.1f} % (mean size of these changes)")
    lines.append(f"colour drift {drift.colour:.4f} (RGB distance of the mean colours)")
    if drift.subject is not None:
        lines.append(f"subject {drift.subject:.3f} (CLIP cosine of first and last part, 1: the same)")
    if drift.text is not None:
        lines.append(f"text {drift.text[0]:.3f} first, {drift.text[1]:.3f} last (CLIP cosine with the text)")
    lines.append(
        f"dynamic degree {drift.dynamic:.3f} (share of the picture that changes in {WITHIN} frames, 0: frozen)"
    )
    lines.append(f"movement {drift.movement:.4f} (mean RGB distance from frame to frame, 0: frozen)")
    lines.append(f"loop {drift.loop:.2f} (1: comes back entirely, or is frozen)")
    if drift.seams:
        each = ", ".join(f"{border}: {value:.2f}" for border, value in zip(drift.borders, drift.seams))
        lines.append(f"seams, median {median(drift.seams):.2f} of the usual jump ({each})")
    jumped = ", ".join(f"{frame}: {value:.2f}" for frame, value in drift.largest)
    lines.append(f"largest jumps over the usual one, by frame: {jumped}")
    return "\n".join(lines)


def rounded(value):
    """Floats of nested values with six digits."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value
