"""The colours of plans against a singular value decomposition."""

import torch

from semantic_video.kernels.plan_colours import SPREAD, colours_of, paint_plan


def tokens(dims=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, 2, dims, generator=generator) * (1 + torch.arange(dims)) + 7


def test_colours_are_the_principal_directions():
    z = tokens()
    rows = z.reshape(-1, 5).double()
    centred = rows - rows.mean(0)
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    expected = torch.zeros(24, 3, dtype=torch.float64)
    for i in range(3):
        v = directions[i]
        v = v if v[v.abs().argmax()] > 0 else -v
        deviation = singular[i] / 24**0.5
        expected[:, i] = 0.5 + centred @ v / (2 * SPREAD * deviation)
    assert expected.min() < 0.1 and expected.max() > 0.9
    torch.testing.assert_close(paint_plan(z), expected.clamp(0, 1).float().reshape(4, 3, 2, 3), rtol=1e-5, atol=1e-5)


def test_mirrored_tokens_have_the_same_directions():
    z = tokens()
    torch.testing.assert_close(colours_of(z).directions, colours_of(-z).directions)


def test_colours_do_not_depend_on_the_scale():
    z = tokens()
    for scale in (1e-3, 1e3):
        torch.testing.assert_close(paint_plan(z * scale), paint_plan(z), rtol=1e-4, atol=1e-4)


def test_another_plans_colours():
    z, other = tokens(), tokens(seed=1)
    like = colours_of(other)
    one = z[1, 2, 0].double()
    expected = 0.5 + (one - other.reshape(-1, 5).double().mean(0)) @ like.directions / (2 * SPREAD * like.deviation)
    torch.testing.assert_close(paint_plan(z, like)[1, 2, 0], expected.clamp(0, 1).float())


def test_what_does_not_vary_is_grey():
    assert torch.equal(paint_plan(torch.full((2, 2, 2, 4), 3.0)), torch.full((2, 2, 2, 3), 0.5))
    one = paint_plan(tokens(dims=1))
    assert torch.equal(one[..., 1:], torch.full((4, 3, 2, 2), 0.5))
    assert one[..., 0].std() > 0.1
    assert torch.equal(paint_plan(torch.ones(1, 1, 1, 3)), torch.full((1, 1, 1, 3), 0.5))
