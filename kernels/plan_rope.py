"""Where the tokens of a plan stand: RoPE in time, height and width (arXiv 2104.09864), and their times on the axis of a
video's latent frames.

A plan of n token frames divides a video of F frames into n equal parts (our choice); token frame j stands in the middle
of its part. A latent frame stands in the middle of its own video frames, at 0, 1, 2, ... on the axis of the model's
RoPE. Between these middles the axis is linear, before the first and behind the last it goes on with the slope there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def rope_at(positions: Tensor, axes: tuple[int, int, int], theta: float) -> Tensor:
    """RoPE at positions [n, 3] (time, height, width): unit complex numbers [n, sum(axes) / 2], one per pair of
    channels. axes: channels of a head for time, height and width."""
    angles = [
        positions[:, i : i + 1].double() * (1.0 / theta) ** (torch.arange(0, n, 2, dtype=torch.float64) / n)
        for i, n in enumerate(axes)
    ]
    angles = torch.cat(angles, dim=-1)
    return torch.polar(torch.ones_like(angles), angles)


def grid_positions(times: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """[times * rows * columns, 3] of positions along each axis, time slowest."""
    grid = torch.meshgrid(times.double(), rows.double(), columns.double(), indexing="ij")
    return torch.stack(grid, dim=-1).flatten(0, 2)


def middles(first_frames: Sequence[int]) -> Tensor:
    """Middle of each latent frame in video frames, of the first video frame of each and then their total, [latents]."""
    firsts = torch.tensor(list(first_frames), dtype=torch.float64)
    return (firsts[:-1] + firsts[1:]) / 2


def latent_times(count: int, first_frames: Sequence[int]) -> Tensor:
    """Position in latent frames of each of `count` token frames of a plan of the whole video, [count]."""
    centres = (torch.arange(count, dtype=torch.float64) + 0.5) * first_frames[-1] / count
    known = middles(first_frames)
    if len(known) == 1:
        return (centres - known[0]) / first_frames[-1]
    left = (torch.searchsorted(known, centres, right=True) - 1).clamp(0, len(known) - 2)
    return left + (centres - known[left]) / (known[left + 1] - known[left])


def seen_from(count: int, first_frames: Sequence[int], seen: int) -> list[int]:
    """For each latent frame the first of the `seen` token frames around it that it sees, all of a shorter plan."""
    middle = middles(first_frames) * count / first_frames[-1]  # in token frames
    first = torch.floor(middle - seen / 2 + 0.5).long().clamp(0, max(count - seen, 0))
    return first.tolist()
