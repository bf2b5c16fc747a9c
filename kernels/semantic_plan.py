"""A plan: few semantic tokens a second that say what a long video shows, before any pixel of it is drawn.

Token frame i stands for the seconds i / fps to (i + 1) / fps. All of cutting, joining, blending, swapping, re-timing
and resizing is our choice (SemanticGen, arXiv 2512.20619, only swaps whole plans). Every operation returns a new plan;
one that changes nothing returns the plan it was given.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .wording import counted

SAME_FPS = 1e-4  # relative; less is rounding


@dataclass(frozen=True)
class SemanticPlan:
    """tokens: [time, height, width, dims] float32, in order of time. fps: token frames a second.

    encoder: names what made the tokens (vision tower and compressor), so that plans of different kinds do not mix.
    """

    tokens: Tensor
    fps: float
    encoder: str

    @property
    def seconds(self) -> float:
        return self.tokens.shape[0] / self.fps


def check(plan: SemanticPlan, name: str = "plan") -> None:
    """Raises ValueError, naming `name`, for a plan that is empty, no [time, height, width, dims], NaN or infinite, or
    without a rate."""
    shape = tuple(plan.tokens.shape)
    if len(shape) != 4 or 0 in shape:
        raise ValueError(
            f"{name}: tokens of shape {shape}; a plan is [time, height, width, dims] with at least one of each. Encode "
            "a video, or choose a longer span."
        )
    if not torch.isfinite(plan.tokens).all():
        raise ValueError(f"{name}: holds NaN or infinite values. Encode it again, in fp32 or bf16.")
    if not (math.isfinite(plan.fps) and plan.fps > 0):
        raise ValueError(f"{name}: {plan.fps} token frames a second; must be above 0. Encode it again.")


def require_encoder(plan: SemanticPlan, encoder: str, dims: int, name: str = "plan") -> None:
    """Raises ValueError where the tokens of `plan` were not made by `encoder`, or have not `dims` channels."""
    if plan.encoder != encoder:
        raise ValueError(
            f"{name}: made by '{plan.encoder}', expected '{encoder}'. Their tokens mean different things; encode the "
            "video again with the same tower and compressor."
        )
    if plan.tokens.shape[-1] != dims:
        raise ValueError(
            f"{name}: {plan.tokens.shape[-1]} dimensions, expected {dims}. Encode the video again with the same "
            "compressor."
        )


def require_alike(a: SemanticPlan, b: SemanticPlan, name: str = "other") -> None:
    """Raises ValueError where tokens of `b` cannot stand beside those of `a`: another encoder, size or rate."""
    require_encoder(b, a.encoder, a.tokens.shape[-1], name)
    if abs(a.fps - b.fps) > SAME_FPS * a.fps:
        raise ValueError(
            f"{name}: {counted(b.fps, 'token frame')} a second, expected {a.fps:g}. Set fps of "
            f"Edit Plan to {a.fps:g} first."
        )
    if a.tokens.shape[1:3] != b.tokens.shape[1:3]:
        (rows, columns), (height, width) = b.tokens.shape[1:3], a.tokens.shape[1:3]
        raise ValueError(
            f"{name}: {rows} x {columns} tokens a frame, expected {height} x {width}. Set rows and columns of Edit "
            f"Plan to {height} and {width} first."
        )


def require_covers(plan: SemanticPlan, seconds: float, name: str = "plan", tolerance: float = 0.0) -> None:
    """Raises ValueError where `plan` is longer or shorter than a video of `seconds` by more than one token frame, or
    `tolerance` seconds if that is more."""
    slack = max(1 / plan.fps, tolerance) + 1e-6
    if abs(plan.seconds - seconds) > slack:
        longer = "longer" if plan.seconds > seconds else "shorter"
        raise ValueError(
            f"{name}: {plan.seconds:g} seconds, {longer} than the video's {seconds:g}. Cut, hold or re-time it with "
            "Edit Plan, or change the video's length."
        )


def whole(count: float) -> int:
    """The nearest whole number; halves go up."""
    return math.floor(count + 0.5)


def span(plan: SemanticPlan, start: float, end: float) -> tuple[int, int]:
    """First token frame and the one after the last, of `start` to `end` seconds; an end of 0 is the plan's.

    Raises ValueError for spans that are outside, backwards, or shorter than half a token frame.
    """
    end = end or plan.seconds
    if not 0 <= start < end or start >= plan.seconds:
        raise ValueError(
            f"start {start:g}, end {end:g}: must rise, and start inside the plan's {plan.seconds:g} seconds."
        )
    if end > plan.seconds + 1 / plan.fps:
        raise ValueError(
            f"end {end:g}: the plan has {plan.seconds:g} seconds. Lower it, or make the plan longer with hold."
        )
    first, last = whole(start * plan.fps), min(whole(end * plan.fps), plan.tokens.shape[0])
    if first >= last:
        raise ValueError(
            f"start {start:g}, end {end:g}: shorter than a token frame of {1 / plan.fps:g} seconds. Widen the span."
        )
    return first, last


def cut(plan: SemanticPlan, start: float = 0.0, end: float = 0.0) -> SemanticPlan:
    """The part from `start` to `end` seconds, in whole token frames; an end of 0 is the plan's. Raises as `span`."""
    first, last = span(plan, start, end)
    if (first, last) == (0, plan.tokens.shape[0]):
        return plan
    return replace(plan, tokens=plan.tokens[first:last])


def hold(plan: SemanticPlan, seconds: float) -> SemanticPlan:
    """The last token frame stands for `seconds` more, in whole token frames."""
    more = whole(seconds * plan.fps)
    if more < 1:
        return plan
    return replace(plan, tokens=torch.cat([plan.tokens, plan.tokens[-1:].expand(more, -1, -1, -1)]))


def resampled(tokens: Tensor, count: int, axis: int = 0) -> Tensor:
    """`tokens` with `count` entries along `axis` over the same extent: linear between the middles of the old ones, the
    first and last repeated beyond; fewer are means of what each covers, so that nothing is skipped."""
    old = tokens.shape[axis]
    if count == old:
        return tokens
    last = tokens.movedim(axis, -1)
    rows = last.reshape(1, -1, old)
    more = {"mode": "linear", "align_corners": False} if count > old else {"mode": "area"}
    return F.interpolate(rows, size=count, **more).reshape(*last.shape[:-1], count).movedim(-1, axis)


def retime(plan: SemanticPlan, fps: float) -> SemanticPlan:
    """The same seconds at `fps` token frames a second, at least one."""
    if abs(fps - plan.fps) <= SAME_FPS * plan.fps:
        return plan
    count = max(whole(plan.seconds * fps), 1)
    return replace(plan, tokens=resampled(plan.tokens, count).contiguous(), fps=fps)


def play(plan: SemanticPlan, speed: float) -> SemanticPlan:
    """The same tokens in 1 / speed of the seconds, at the plan's rate: 2 is twice as fast."""
    if speed == 1:
        return plan
    count = max(whole(plan.tokens.shape[0] / speed), 1)
    return replace(plan, tokens=resampled(plan.tokens, count).contiguous())


def resize(plan: SemanticPlan, rows: int, columns: int) -> SemanticPlan:
    """Another number of tokens a frame, by `resampled` along both axes."""
    if (rows, columns) == tuple(plan.tokens.shape[1:3]):
        return plan
    return replace(plan, tokens=resampled(resampled(plan.tokens, rows, 1), columns, 2).contiguous())


def sampled_frames(count: int, fps: float, plan_fps: float, each: int = 1) -> list[int]:
    """Numbers of the video frames that token frames are made of, `each` for every one, evenly inside its span.

    count: frames of the video, at `fps`. plan_fps: token frames a second. Raises ValueError for rates that are not
    above 0, and a plan that would need more frames a second than the video has.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps {fps:g}: must be above 0. Give the video's frames a second.")
    if not (math.isfinite(plan_fps) and 0 < plan_fps * each <= fps * (1 + SAME_FPS)):
        raise ValueError(
            f"plan_fps {plan_fps:g}: must be above 0 and at most {fps / each:g}: the video has "
            f"{counted(fps, 'frame')} a second, of which each token frame looks at {each}. Lower it."
        )
    time = max(whole(count / fps * plan_fps), 1)
    middles = [(i + (j + 0.5) / each) / plan_fps for i in range(time) for j in range(each)]
    return [min(int(second * fps), count - 1) for second in middles]
