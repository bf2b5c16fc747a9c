"""Rotary position embedding (RoPE, arXiv 2104.09864): of the cells of a grid that need not be the video's own, and
turned on to other places after the model has applied its own.

    R(scale t w) = R((scale - 1) t w) R(t w)        a rotation by an angle, then by another, is one by their sum
"""

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


def area_rope_freqs(
    grid: tuple[int, int], size: tuple[int, int], inverse: Tensor, origin: tuple[float, float] = (0.0, 0.0)
) -> Tensor:
    """MiniMax H3's RoPE, all at the time where the video starts, of the cells of `grid` spread over a picture of `size`
    tokens that begins at `origin`: unit complex numbers [rows * columns, 3 n] of its n frequencies `inverse`, to turn
    split halves. A token's place i of n is (i / n * ratio + (1 - ratio) / 2) * 32 with ratio = side / sqrt(area)."""
    inverse, area = inverse.double().cpu(), (size[0] * size[1]) ** 0.5
    rows, columns = (
        32 * ((patch_centres(cells, extent) + start) / area + (1 - extent / area) / 2)
        for cells, extent, start in zip(grid, size, origin)
    )
    shape = (len(rows), len(columns), -1)
    height, width = (rows[:, None, None] * inverse).expand(shape), (columns[:, None] * inverse).expand(shape)
    angles = torch.cat([torch.zeros_like(height), height, width], dim=-1)
    return torch.polar(torch.ones_like(angles), angles).flatten(0, 1)


def apply_split_rope(x: Tensor, freqs: Tensor) -> Tensor:
    """x [batch, tokens, heads, dim], of whose channels j and j + n are rotated by the j-th of `freqs` [tokens, n];
    those from 2 n on stay."""
    pairs = freqs.shape[-1]
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    turned = torch.complex(wide[..., :pairs], wide[..., pairs : 2 * pairs]) * freqs[:, None]
    return torch.cat([turned.real, turned.imag, wide[..., 2 * pairs :]], dim=-1).to(x.dtype)


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


def time_shifts(frames: int, scale: float, freqs: Tensor) -> Tensor:
    """Angles that move latent frame t from place t to place scale * t in time: [frames, ..., pairs], fp64 radians.
    freqs: [..., pairs] radians a frame. scale 1 moves nothing; the first frame stays where it is."""
    places = torch.arange(frames, dtype=torch.float64, device=freqs.device)
    return (scale - 1.0) * places.view(-1, *[1] * freqs.ndim) * freqs


def turn_(x: Tensor, angles: Tensor, first: slice, second: slice) -> None:
    """Turns x [batch, frames * area, heads, dim] in place: the channel pairs (first, second) of frame t by angles[t],
    [frames, pairs] or [frames, heads, pairs] radians. Computed in fp32 or wider."""
    wide = torch.promote_types(x.dtype, torch.float32)
    angles = angles.view(len(angles), 1, -1, angles.shape[-1])  # the same for all tokens of a frame
    cos, sin = (f(angles).to(wide).to(x.device) for f in (torch.cos, torch.sin))
    frames = x.unflatten(1, (len(angles), -1))
    a, b = (frames[..., channels].to(wide, copy=True) for channels in (first, second))
    frames[..., first] = a * cos - b * sin
    frames[..., second] = a * sin + b * cos
