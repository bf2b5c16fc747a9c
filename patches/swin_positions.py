"""Where in time a video's tokens believe to be: places compressed into the span that the model was trained on."""

from torch import Tensor

from ..host.call import Call
from ..host.forward import Forward
from ..host.layout import TimeRope
from ..kernels.rope import time_shifts, turn_


def automatic_scale(trained: int, frames: int) -> float:
    """The last of `frames` latent frames comes to stand where the last of `trained` ones stood; never stretches."""
    return min(1.0, (trained - 1) / max(frames - 1, 1))


def _rope(forward: Forward, scale: float) -> tuple[TimeRope, Tensor]:
    """How the model places frames in time, and the angles that move them."""
    rope = forward.once(("time", "rope"), lambda: forward.family.time_rope(forward.module, forward.arguments))
    return rope, forward.once(("time", scale), lambda: time_shifts(forward.layout.frames, scale, rope.freqs))


def frames_at_scale(forward: Forward, x: Tensor, frames: list[int], scale: float) -> Tensor:
    """Queries or keys [batch, tokens, heads, dim] of some frames at `scale` times their places; scale 1: x itself."""
    if scale == 1.0:
        return x
    rope, angles = _rope(forward, scale)
    x = x.clone()
    turn_(x, angles[frames], rope.first, rope.second)
    return x


def at_scale(call: Call, scale: float) -> Call:
    """The call whose video stands at `scale` times its places in time, counted from its first frame, in queries and
    keys. Frames that the model places after the video keep their distance from its end; text, references and all else
    stay where they are, and so does what words see of their own span of a timeline. scale 1: the call itself."""
    if scale == 1.0 or call.frames == ():
        return call
    layout, (rope, angles) = call.forward.layout, _rope(call.forward, scale)

    def moved(x: Tensor, before: int, video: int, turns: Tensor) -> Tensor:
        x, end = x.clone(), before + video
        if video:
            turn_(x[:, before:end], turns, rope.first, rope.second)
        if rope.following:
            turn_(x[:, end : end + rope.following], angles[-1:], rope.first, rope.second)
        return x

    video = layout.frames * layout.height * layout.width
    k = moved(call.k, call.keys_before, video, angles)
    queries = call.q.shape[1] - call.before - call.after  # 0 where an editor hands on those in front or behind alone
    if queries or (rope.following and not call.before):
        turns = angles if call.frames is None else angles[list(call.frames)]
        return call.replace(q=moved(call.q, call.before, queries, turns), k=k)
    return call.replace(k=k)
