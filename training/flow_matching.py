"""Flow matching beside a frozen or a fresh model: noise levels and weighted losses."""

from torch import Tensor

SHIFT = 8.0
OBJECT_WEIGHT = 4.0
PLACED, UNPLACED = 0.7, 0.95  # noise levels at which objects get their whole weight, and none


def shifted(u: Tensor) -> Tensor:
    """Noise level of a uniform time, the host's time_snr_shift."""
    return SHIFT * u / (1 + (SHIFT - 1) * u)


def losses_of(error: Tensor, s: Tensor, cover: Tensor) -> dict[str, Tensor]:
    """The weighted mean "loss", and that of "objects" alone, of squared errors [batch, 1, time, height, width] at noise
    levels s; cover, of the same shape: 1 where an object is."""
    weight = 1 + (OBJECT_WEIGHT - 1) * ((UNPLACED - s) / (UNPLACED - PLACED)).clamp(0, 1) * cover
    return {"loss": (error * weight).sum() / weight.sum(), "objects": (error * cover).sum() / cover.sum()}
