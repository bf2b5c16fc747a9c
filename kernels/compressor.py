"""The compressor: features of a vision tower become few dimensions with a mean and a variance.

    mean, logvar = MLP((f - m) / s)        z = mean + exp(logvar / 2) eps
    KL = 1/2 sum(mean^2 + exp(logvar) - 1 - logvar)        to N(0, I)

m, s: of the features, per channel. SemanticGen (arXiv 2512.20619): a learnable MLP to the mean and variance of a
Gaussian, whose sample the generator sees, with KL; 8 dimensions were best of 2048, 64 and 8. Depth, width, activation,
normalisation of the features, the limits of logvar and its start are our choice.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

LOGVAR = (-20.0, 10.0)  # limits, so that exp stays finite
FIRST_LOGVAR = -4.0  # nearly certain at the start; the KL term then finds its level


@dataclass(frozen=True)
class CompressorSpec:
    """features: channels of the tower's features. dims: of a plan's tokens. width: of the hidden layers. depth: hidden
    layers; 0 is one linear map. encoder: the tower, as plans of raw features name it."""

    features: int
    encoder: str
    dims: int = 8
    width: int = 512
    depth: int = 2

    def __post_init__(self):
        limits = {"features": (1, 2**16), "dims": (1, 2**12), "width": (1, 2**14), "depth": (0, 16)}
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} {getattr(self, name)}: must be from {least} to {most}")


class Compressor(nn.Module):
    """operations: torch.nn, or the host's layers, which cast and offload. Call `initialise` on a new one, and
    `normalise` with features before it is trained."""

    def __init__(self, spec: CompressorSpec, operations=torch.nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.spec = spec
        self.register_buffer("feature_mean", torch.zeros(spec.features, **place))
        self.register_buffer("feature_std", torch.ones(spec.features, **place))
        sizes = [spec.features, *[spec.width] * spec.depth]
        self.layers = nn.ModuleList(operations.Linear(a, b, **place) for a, b in zip(sizes, sizes[1:]))
        self.head = operations.Linear(sizes[-1], 2 * spec.dims, **place)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[..., features] -> mean and logvar, [..., dims] each."""
        x = (features - self.feature_mean.to(features)) / self.feature_std.to(features)
        for layer in self.layers:
            x = nn.functional.silu(layer(x))
        mean, logvar = self.head(x).chunk(2, -1)
        return mean, logvar.clamp(*LOGVAR)

    @torch.no_grad()
    def normalise(self, features: Tensor) -> None:
        """Sets the normalisation to the mean and standard deviation of features [..., features]; a channel that does
        not vary keeps a deviation of 1."""
        rows = features.reshape(-1, features.shape[-1]).double()
        deviation = rows.std(0, correction=0)
        self.feature_mean.copy_(rows.mean(0))
        self.feature_std.copy_(torch.where(deviation > 1e-6, deviation, 1.0))


def sample(mean: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """z = mean + exp(logvar / 2) eps; eps: standard normal, of mean's shape."""
    return mean + (logvar / 2).exp() * eps


def kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, I)), summed over dims, [...], in nats."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(-1)


@torch.no_grad()
def initialise(compressor: Compressor, seed: int = 0) -> None:
    """Matrices 1 / sqrt(fan in), biases 0; logvar starts at FIRST_LOGVAR, whatever the features."""
    generator = torch.Generator().manual_seed(seed)
    for layer in (*compressor.layers, compressor.head):
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * layer.weight.shape[1] ** -0.5)
        layer.bias.zero_()
    dims = compressor.spec.dims
    compressor.head.weight[dims:] = 0
    compressor.head.bias[dims:] = FIRST_LOGVAR
