"""The one loss of all trainings, against sums written out."""

import pytest
import torch

from semantic_video.kernels.flow_matching import (
    denoised_error,
    noised,
    object_weight,
    shifted,
    stratified,
    velocity_error,
    weighted_losses,
)

SHAPE = (3, 2, 2, 1, 2)


def seeded(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def test_fractions_fall_into_each_part_once():
    found = stratified(5, torch.Generator().manual_seed(3))
    assert (found * 5).floor().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("u", "shift", "s"), [(0.0, 8.0, 0.0), (0.5, 8.0, 8 / 9), (0.5, 3.0, 0.75), (0.25, 1.0, 0.25), (1.0, 5.0, 1.0)]
)
def test_the_shift_of_a_level(u, shift, s):
    assert float(shifted(torch.tensor(u), shift)) == pytest.approx(s)


def test_a_noised_latent_and_the_two_ways_to_its_error():
    x0, noise, velocity, s = seeded(*SHAPE), seeded(*SHAPE, seed=1), seeded(*SHAPE, seed=2), torch.tensor([0.1, 0.5, 1])
    x = noised(x0, noise, s)
    error = velocity_error(velocity, x0, noise)
    assert error.shape == (3, 1, *SHAPE[2:])
    for i, level in enumerate(s.tolist()):
        torch.testing.assert_close(x[i], (1 - level) * x0[i] + level * noise[i])
        naive = sum((velocity[i, c] - (noise[i, c] - x0[i, c])) ** 2 for c in range(2)) / 2
        torch.testing.assert_close(error[i, 0], naive)
    wide = s.view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(denoised_error(x - wide * velocity, x0, s), error, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("level", "weight"), [(0.0, 4.0), (0.7, 4.0), (0.75, 3.4), (0.825, 2.5), (0.95, 1.0), (1.0, 1.0)]
)
def test_objects_count_four_times_where_their_place_is_known_and_once_where_it_is_not(level, weight):
    cover = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 1, 2, 2)
    found = object_weight(torch.tensor([level]), cover).flatten().tolist()
    assert found == pytest.approx([weight, 1, 1, 1])


def test_losses_are_weighted_means():
    s, cover = torch.tensor([0.0, 0.95]), torch.tensor([1.0, 0, 1, 1]).view(2, 1, 1, 1, 2)
    error = torch.tensor([1.0, 2, 4, 8]).view(2, 1, 1, 1, 2)
    found = weighted_losses(error, s, cover)
    assert float(found["loss"]) == pytest.approx((4 * 1 + 2 + 4 + 8) / (4 + 1 + 1 + 1))
    assert float(found["objects"]) == pytest.approx((1 + 4 + 8) / 3)
    assert weighted_losses(error, s).keys() == {"loss"}
    assert float(weighted_losses(error, s)["loss"]) == pytest.approx(15 / 4)


def test_a_batch_without_objects():
    found = weighted_losses(torch.ones(1, 1, 1, 1, 2), torch.tensor([0.5]), torch.zeros(1, 1, 1, 1, 2))
    assert float(found["loss"]) == 1 and float(found["objects"]) == 0
