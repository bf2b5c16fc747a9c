"""CLIP mask: where a text is in an image, read from inside CLIP in one forward pass.

    c_i = < gamma * (sum_h A_h[cls,i] V_h[i] W_O^h) W_proj , t >
    p_i = < gamma * x_i W_proj , t >
    P = sigmoid(contrast * zscore(c)),  Q = (max p - p) / (max p - min p),  each mean-filtered
    mask = minmax(P + Q - P Q)

c_i: what the class token takes from patch i, in block l_cls, that speaks of the text t. p_i: what patch i itself says
of the text after block l_tok.

Attention Prompting on Image (arXiv 2409.17143, its published code) on the decomposition of CLIP in arXiv 2310.05916;
gamma is the weight of the final LayerNorm, whose mean, deviation and bias cancel in zscore and minmax. Two block
indices instead of one, the product, geometry and smoothing over frames are our choice (after SSG-DiT, arXiv 2508.17062,
which fuses an intermediate with a late feature).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Fusion = Literal["soft or", "product", "class map", "patch map"]
Patches = Literal["negated", "direct"]
Fit = Literal["squash", "letterbox", "center crop"]


def class_terms(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """A_h[cls,i] V_h[i] of every patch, heads side by side: [batch, patches, width]. q, k, v: [batch, 1 + patches,
    width], class token first."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2).float() for x in (q[:, :1], k, v))
    # over all tokens: the class token keeps its share
    attention = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    return (attention.transpose(-1, -2) * v)[:, :, 1:].transpose(1, 2).flatten(2)


def text_map(features: Tensor, text: Tensor) -> Tensor:
    """How much each token says of each text, [batch, texts, patches]. features: [batch, patches, dim], in the joint
    space; text: [texts, dim], unit length."""
    return torch.einsum("bnd,td->btn", features, text)


def zscore(x: Tensor) -> Tensor:
    """Over the last two dimensions, with the n - 1 divisor as published. A constant map becomes 0."""
    x = x - x.mean((-2, -1), keepdim=True)
    deviation = x.square().sum((-2, -1), keepdim=True).div(max(x.shape[-2] * x.shape[-1] - 1, 1)).sqrt()
    return torch.where(deviation > 0, x / deviation, 0.0)


def minmax(x: Tensor) -> Tensor:
    """To 0..1 over the last two dimensions. A constant map becomes 0."""
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low), 0.0)


def mean_filter(x: Tensor, kernel: int) -> Tensor:
    """kernel x kernel mean of [batch, channels, rows, columns], edges repeated."""
    return F.avg_pool2d(F.pad(x, (kernel // 2,) * 4, mode="replicate"), kernel, stride=1) if kernel > 1 else x


def merge(
    cls: Tensor, token: Tensor, contrast: float, kernel: int, fusion: Fusion = "soft or", patches: Patches = "negated"
) -> Tensor:
    """The mask of two raw maps, [batch, texts, rows, columns], 0..1 each. contrast and kernel (odd) as published: 1 to
    10, 1 to 7.

    The patch map is negated, as published: a patch that says most of the text late in CLIP is one that it uses to note
    global facts, not the place. In a CLIP whose patches were trained to speak of their own place it is just there:
    "direct" (our choice). "product" keeps what both maps agree on.
    """
    p = mean_filter(torch.sigmoid(contrast * zscore(cls)), kernel)
    q = mean_filter(minmax(token) if patches == "direct" else 1.0 - minmax(token), kernel)
    return minmax({"soft or": p + q - p * q, "product": p * q, "class map": p, "patch map": q}[fusion])


@dataclass(frozen=True)
class Geometry:
    """How a picture of height x width lies in CLIP's square of `size` pixels. box: top, left, bottom, right of it
    there."""

    height: int
    width: int
    size: int
    fit: Fit = "squash"

    @property
    def box(self) -> tuple[int, int, int, int]:
        """What of the square the picture covers; for "center crop" all of it, as the published code believes."""
        if self.fit != "letterbox":
            return 0, 0, self.size, self.size
        height, width = (
            max(round(side * self.size / max(self.height, self.width)), 1) for side in (self.height, self.width)
        )
        top, left = (self.size - height) // 2, (self.size - width) // 2
        return top, left, top + height, left + width

    def square(self, frames: Tensor) -> Tensor:
        """[n, height, width, 3] -> [n, 3, size, size], 0..1, bicubic. Bars of a letterbox are grey."""
        x = frames.movedim(-1, 1)
        if self.fit == "center crop":
            # cropping before the resize differs by nothing but rounding, and never builds a long strip
            short = min(self.height, self.width)
            top, left = (self.height - short) // 2, (self.width - short) // 2
            x = x[:, :, top : top + short, left : left + short]
        top, left, bottom, right = self.box
        x = resize(x, bottom - top, right - left).clamp(0, 1)
        return F.pad(x, (left, self.size - right, top, self.size - bottom), value=0.5)

    def patches(self, maps: Tensor, patch: int) -> Tensor:
        """Of maps [..., patches] of the square those that touch the picture, [..., rows, columns], so that bars count
        in no statistic."""
        rows, columns = self._span(0, patch), self._span(1, patch)
        grid = self.size // patch
        return maps.unflatten(-1, (grid, grid))[..., rows[0] : rows[1], columns[0] : columns[1]]

    def _span(self, axis: int, patch: int) -> tuple[int, int]:
        return self.box[axis] // patch, min(-(-self.box[axis + 2] // patch), self.size // patch)

    def picture(self, mask: Tensor, patch: int) -> Tensor:
        """[n, rows, columns] of `patches` -> [n, height, width] of the picture, 0..1, aligned to fractions of a
        patch."""
        rows, columns = (
            interpolation(pixels, self._span(axis, patch), self.box[axis] / patch, self.box[axis + 2] / patch).to(mask)
            for axis, pixels in ((0, self.height), (1, self.width))
        )
        return (rows @ mask @ columns.T).clamp(0, 1)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bicubic with antialiasing, one picture at a time: a batch of large ones would be copied as a whole."""
    if x.shape[-2:] == (height, width):
        return x
    return torch.cat([F.interpolate(one[None], size=(height, width), mode="bicubic", antialias=True) for one in x])


def interpolation(pixels: int, span: tuple[int, int], start: float, end: float) -> Tensor:
    """Bicubic weights [pixels, cells] with which `pixels` that divide start..end evenly read cells span[0]..span[1] of
    width 1, antialiased (as Pillow)."""
    step = (end - start) / pixels
    position = start + step * (torch.arange(pixels, dtype=torch.float64) + 0.5)
    x = (position[:, None] - (torch.arange(*span) + 0.5)).abs() / max(step, 1.0)
    weights = torch.where(
        x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, torch.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0.0)
    )
    return weights / weights.sum(1, keepdim=True)


def smooth_over_time(mask: Tensor, frames: float) -> Tensor:
    """Gaussian mean over dimension 0 with a deviation of `frames`, renormalised at the ends. 0 returns `mask`
    itself."""
    if frames <= 0 or len(mask) == 1:
        return mask
    time = torch.arange(len(mask), dtype=mask.dtype, device=mask.device)
    weights = torch.exp(-0.5 * ((time[:, None] - time) / frames) ** 2)
    return torch.einsum("st,t...->s...", weights / weights.sum(1, keepdim=True), mask)


def heat_map(frames: Tensor, mask: Tensor) -> Tensor:
    """Frames [n, height, width, 3] under the mask [n, height, width] from blue (0) over green to red (1), half and
    half."""
    colour = torch.stack([(1.5 - (4 * mask - centre).abs()).clamp(0, 1) for centre in (3.0, 2.0, 1.0)], dim=-1)
    return 0.5 * frames + 0.5 * colour
