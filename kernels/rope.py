"""Rotary position embedding of the cells of a grid that need not be the video's own (RoPE, arXiv 2104.09864)."""

import torch
from torch import Tensor


def patch_centres(cells: int, extent: float) -> Tensor:
    """Centres of `cells` cells that divide an axis of `extent` unit cells, whose own centres are 0, 1, ..., extent -
    1."""
    return (torch.arange(cells, dtype=torch.float64) + 0.5) * (extent / cells) - 0.5


def rope_freqs(
    grid: tuple[int, int],
    extent: tuple[float, float],
    axes: tuple[int, int, int],
    theta: float,
    origin: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """RoPE of the cells of `grid`, spread over `extent`: unit complex numbers [rows * columns, dim / 2], one per pair
    of channels; all at time 0. origin: where on the axes the extent begins."""
    rows, columns = (patch_centres(*lengths) + start for *lengths, start in zip(grid, extent, origin))
    time, height, width = ((1.0 / theta) ** (torch.arange(0, n, 2, dtype=torch.float64) / n) for n in axes)
    shape = (len(rows), len(columns), -1)
    angles = torch.cat(
        [
            torch.zeros_like(time).expand(shape),
            (rows[:, None, None] * height).expand(shape),
            (columns[:, None] * width).expand(shape),
        ],
        dim=-1,
    )
    return torch.polar(torch.ones_like(angles), angles).flatten(0, 1)


def apply_rope(x: Tensor, freqs: Tensor | None) -> Tensor:
    """x [batch, n * tokens, heads, dim] rotated by `freqs` [tokens, dim / 2], the same for each of the n repeats; None
    returns `x` itself."""
    if freqs is None:
        return x
    wide = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(-1, (-1, 2)).unflatten(1, (-1, len(freqs)))
    return (
        torch.view_as_real(torch.view_as_complex(wide.contiguous()) * freqs[:, None])
        .flatten(-2)
        .flatten(1, 2)
        .to(x.dtype)
    )
