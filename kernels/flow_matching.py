"""Flow matching (arXiv 2210.02747; rectified flow, arXiv 2209.03003), as Wan and HunyuanVideo were trained.

    x_s = (1 - s) x0 + s eps        the model predicts v = eps - x0
    s(u) = shift u / (1 + (shift - 1) u)        u uniform in 0..1 (arXiv 2403.03206, eq. 23)
    loss = sum(w |v' - v|^2) / sum(w)
    w = 1 + 3 clamp((0.95 - s) / 0.25, 0, 1) where an object is, else 1        our choice

Objects count more as the noise goes: in pure noise, where nobody can know their place, a weight that knows it would
teach to paint them everywhere.
"""

import torch
from torch import Tensor

OBJECT_WEIGHT = 4.0  # of a pixel of an object, where its place is known
PLACED, UNPLACED = 0.7, 0.95  # noise levels at which objects get their whole weight, and none


def stratified(count: int, generator: torch.Generator) -> Tensor:
    """[count] ascending random fractions 0..1, one in each of `count` equal parts."""
    return (torch.arange(count) + torch.rand(count, generator=generator)) / count


def shifted(u: Tensor, shift: float) -> Tensor:
    """Noise levels s(u) of fractions u, 0 = clean, 1 = pure noise."""
    return shift * u / (1 + (shift - 1) * u)


def noised(x0: Tensor, noise: Tensor, s: Tensor) -> Tensor:
    """x_s of clean latents [batch, ...] and noise of that shape at noise levels s [batch]."""
    return torch.lerp(x0, noise, _per_row(s, x0))


def velocity_error(velocity: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """|v' - v|^2, averaged over channels: [batch, channels, ...] -> [batch, 1, ...]."""
    return (velocity.float() - (noise - x0)).square().mean(1, keepdim=True)


def denoised_error(denoised: Tensor, x0: Tensor, s: Tensor) -> Tensor:
    """`velocity_error` of predicted clean latents: v = (x_s - x0) / s, so that v' - v = (x0 - x0') / s."""
    return ((denoised.float() - x0) / _per_row(s, x0)).square().mean(1, keepdim=True)


def object_weight(s: Tensor, cover: Tensor) -> Tensor:
    """How much each latent pixel counts at noise levels s [batch]; cover [batch, 1, ...]: 1 where an object is."""
    known = ((UNPLACED - s) / (UNPLACED - PLACED)).clamp(0, 1)
    return 1 + (OBJECT_WEIGHT - 1) * _per_row(known, cover) * cover


def weighted_losses(error: Tensor, s: Tensor, cover: Tensor | None = None) -> dict[str, Tensor]:
    """The weighted mean "loss" of squared errors [batch, 1, ...] at noise levels s [batch] and, where `cover` says what
    is an object, the mean over "objects" alone, 0 where there are none."""
    if cover is None:
        return {"loss": error.mean()}
    weight = object_weight(s, cover)
    return {
        "loss": (error * weight).sum() / weight.sum(),
        "objects": (error * cover).sum() / cover.sum().clamp(min=1),
    }


def _per_row(s: Tensor, x: Tensor) -> Tensor:
    return s.view(-1, *[1] * (x.ndim - 1)).to(x)
