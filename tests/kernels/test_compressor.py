"""The compressor against the formula."""

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from semantic_video.kernels.compressor import FIRST_LOGVAR, Compressor, CompressorSpec, initialise, kl, sample

SPEC = CompressorSpec(features=10, encoder="toy", dims=3, width=7, depth=2)


@pytest.fixture
def compressor():
    made = Compressor(SPEC)
    initialise(made, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return made


def features(count=50):
    return torch.randn(count, 10, generator=torch.Generator().manual_seed(3)) * 4 + 2


def test_it_is_the_formula(compressor):
    f = features()
    compressor.normalise(f)
    assert [tuple(layer.weight.shape) for layer in compressor.layers] == [(7, 10), (7, 7)]
    x = (f - f.mean(0)) / f.std(0, correction=0)
    for layer in compressor.layers:
        x = x @ layer.weight.T + layer.bias
        x = x * torch.sigmoid(x)
    x = x @ compressor.head.weight.T + compressor.head.bias
    mean, logvar = compressor(f.view(5, 2, 5, 10))
    torch.testing.assert_close(mean.reshape(50, 3), x[:, :3], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logvar.reshape(50, 3), x[:, 3:], rtol=1e-5, atol=1e-5)


def test_normalisation_leaves_constant_channels(compressor):
    f = features()
    f[:, 4] = 5.0
    compressor.normalise(f)
    assert float(compressor.feature_std[4]) == 1.0
    assert float(compressor.feature_mean[4]) == 5.0


def test_sample_and_kl(compressor):
    mean, logvar = compressor(features())
    eps = torch.randn(mean.shape, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(sample(mean, logvar, eps), mean + logvar.exp().sqrt() * eps)
    made = Independent(Normal(mean, logvar.exp().sqrt()), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.testing.assert_close(kl(mean, logvar), kl_divergence(made, prior))
    assert kl(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0, 0]
    assert kl(torch.ones(2, 4, 3), torch.zeros(2, 4, 3)).tolist() == [[1.5] * 4] * 2


def test_a_new_one_is_nearly_certain_and_its_seed_decides():
    one, same, other = (Compressor(SPEC) for _ in range(3))
    for made, seed in ((one, 0), (same, 0), (other, 1)):
        initialise(made, seed)
    mean, logvar = one(features())
    assert torch.equal(logvar, torch.full_like(logvar, FIRST_LOGVAR))
    assert torch.equal(mean, same(features())[0])
    assert not torch.allclose(mean, other(features())[0])
    assert Compressor(CompressorSpec(10, "toy", depth=0)).head.weight.shape == (16, 10)


def test_logvar_has_limits(compressor):
    with torch.no_grad():
        compressor.head.weight[3:] *= 1e6
    logvar = compressor(features())[1]
    assert logvar.min() == -20 and logvar.max() == 10


def test_the_largest_and_smallest_sizes():
    CompressorSpec(2**16, "toy", dims=2**12, width=2**14, depth=16)
    CompressorSpec(1, "toy", dims=1, width=1, depth=0)


@pytest.mark.parametrize(("name", "value"), [("features", 0), ("dims", 0), ("dims", 5000), ("width", 0), ("depth", 17)])
def test_sizes_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=f"^{name} {value}: must be from"):
        CompressorSpec(**{"features": 10, "encoder": "toy"} | {name: value})
