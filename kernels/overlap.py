"""Windows of a long video that go through the whole model on their own, and how their answers make one.

    [ lead-in ][ shared with the window before ] ... own ... [ shared with the next ]
        0          1/(2b+1) ... 2b/(2b+1)          1           2b/(2b+1) ... 1/(2b+1)

What a window begins with is made as the beginning of a video: the model knows no frame before it. A lead-in takes that
place, and its answer is dropped (ComfyUI's causal_window_fix drops one frame so). Around a border `blend`
frames of either side are answered by both windows, by weights that rise evenly (our choice).

A window decides where things are while its lead-in is still noise, and so they jump at its border. `renoised` gives it
a lead-in that is ahead of it, at a share r of the noise, by what the window before has answered (our choice; models
trained for it know their past without noise, as in Diffusion Forcing, arXiv 2407.01392):

    eps = (x - (1 - sigma) x0) / sigma        x' = (1 - l) x0 + l eps        l = r sigma

History guidance (Diffusion Forcing Transformer, arXiv 2502.06764) hides the past from the negative prompt, so that CFG
guides toward it as well. Here the negative prompt's lead-in is noisier by h, 1 being noise alone (our choice):

    l = r sigma + h (1 - r sigma)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .swin_renderer import Span


@dataclass(frozen=True)
class Overlap:
    """One window. first, last: frames that it is of, one past the last; frames: those that go through the model for it,
    in order; weights: of each frame's answer, 0..1."""

    first: int
    last: int
    frames: tuple[int, ...]
    weights: tuple[float, ...]


def overlapping(spans: Sequence[Span], lead_in: int = 0, blend: int = 0) -> list[Overlap]:
    """spans: windows that follow one another from frame 0. Each frame's weights add up to 1. At a border at most half
    of the shorter window on either side is shared, so that no frame is blended from three."""
    shared = [min(blend, *((end - start) // 2 for start, end in pair)) for pair in zip(spans, spans[1:])]
    windows = []
    for (start, end), before, after in zip(spans, [0, *shared], [*shared, 0]):
        first, last = max(0, start - before - lead_in), end + after
        rising = {start - before + i: (i + 1) / (2 * before + 1) for i in range(2 * before)}
        falling = {end + after - 1 - i: (i + 1) / (2 * after + 1) for i in range(2 * after)}
        led = dict.fromkeys(range(first, start - before), 0.0)
        frames = tuple(range(first, last))
        windows.append(Overlap(start, end, frames, tuple((rising | falling | led).get(f, 1.0) for f in frames)))
    return windows


def lead_level(sigma: float, share: float, hidden: float = 0.0) -> float:
    """Noise level l of a lead-in. sigma: its window's; share: r, 0..1; hidden: h, 0..1."""
    return share * sigma + hidden * (1 - share * sigma)


def renoised(x: Tensor, x0: Tensor, sigma: float, level: float) -> Tensor:
    """Frames x = (1 - sigma) x0 + sigma eps of a flow model at another level of the same noise eps; x0: what they are
    thought to be without any, of the same shape. sigma 0: x0, since it tells no noise."""
    if sigma <= 0:
        return x0
    noise = (x - (1 - sigma) * x0) / sigma
    return (1 - level) * x0 + level * noise
