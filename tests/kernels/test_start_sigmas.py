"""A schedule cut at exactly a noise level."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semantic_video.kernels.start_sigmas import nearest_step, split_at

SCHEDULE = torch.tensor([1.0, 0.95, 0.85, 0.6, 0.3, 0.0])


@pytest.mark.parametrize("sigma, step, above, below", [
    (1.0, 0, [1.0], [1.0, 0.95, 0.85, 0.6, 0.3, 0.0]),
    (0.92, 1, [1.0, 0.92], [0.92, 0.85, 0.6, 0.3, 0.0]),
    (0.88, 2, [1.0, 0.95, 0.88], [0.88, 0.6, 0.3, 0.0]),
    (0.85, 2, [1.0, 0.95, 0.85], [0.85, 0.6, 0.3, 0.0]),
    (0.5, 3, [1.0, 0.95, 0.85, 0.5], [0.5, 0.3, 0.0]),
    (0.01, 4, [1.0, 0.95, 0.85, 0.6, 0.01], [0.01, 0.0]),  # the end is no start
])  # fmt: skip
def test_the_nearest_step_is_moved(sigma, step, above, below):
    assert nearest_step(SCHEDULE, sigma) == step
    before, after = split_at(SCHEDULE, sigma)
    torch.testing.assert_close(before, torch.tensor(above), rtol=0, atol=0)
    torch.testing.assert_close(after, torch.tensor(below), rtol=0, atol=0)


def test_of_two_as_near_the_later_one():
    assert nearest_step(torch.tensor([1.0, 0.75, 0.25, 0.0]), 0.5) == 2


def test_the_schedule_itself_stays():
    schedule = SCHEDULE.clone()
    split_at(schedule, 0.9)
    assert torch.equal(schedule, SCHEDULE)


@given(steps=st.integers(1, 40), shift=st.floats(1, 12), sigma=st.floats(0.001, 1.0))
def test_it_starts_exactly_there_falls_and_takes_no_tiny_step(steps, shift, sigma):
    u = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    schedule = (shift * u / (1 + (shift - 1) * u)).float()
    above, below = split_at(schedule, sigma)
    assert below[0] == above[-1] == torch.tensor(sigma)
    assert below[-1] == 0 and len(above) + len(below) == steps + 2
    assert (below.diff() < 0).all() and (above.diff() < 0).all()
    step = nearest_step(schedule, sigma)
    if step + 1 < steps:  # at least half of the step that it was moved into
        assert below[0] - below[1] >= (schedule[step] - schedule[step + 1]) / 2 - 1e-6
