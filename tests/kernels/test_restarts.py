"""Legs of a schedule with restarts: by hand, and that together they go the way."""

import pytest

from semantic_video.kernels.restarts import HIGH, LOW, legs

LEVELS = [1.0, 0.95, 0.9, 0.8, 0.6, 0.3, 0.0]


def test_by_hand():
    assert legs(LEVELS, 0, 0.95, 0.8) == [(0, 6)]
    assert legs(LEVELS, 1, 0.95, 0.8) == [(0, 3), (1, 6)]
    assert legs(LEVELS, 3, 0.92, 0.7) == [(0, 4), (2, 4), (2, 4), (2, 6)]
    assert legs(LEVELS, 1, 1.0, 0.0) == [(0, 6), (0, 6)]


@pytest.mark.parametrize(
    "sigmas",
    [[1.0, 0.9], [1.0, 0.97, 0.875], [0.84, 0.5, 0.0], [1.0, 0.5, 0.0], [0.9]],
    ids=["too short", "ends above", "begins below", "one step across", "no step"],
)
def test_a_schedule_that_does_not_hold_both_levels_is_one_leg(sigmas):
    assert legs(sigmas, 2, HIGH, LOW) == [(0, len(sigmas) - 1)]


def test_it_starts_between_the_levels():
    """Wan 2.2's low-noise expert begins below the high level: there it goes back to its own start."""
    assert legs([0.875, 0.86, 0.8, 0.4, 0.0], 1, HIGH, LOW) == [(0, 2), (0, 4)]


@pytest.mark.parametrize("restarts", [1, 2, 5])
def test_each_leg_begins_where_noise_leads_and_the_last_ends_clean(restarts):
    found = legs(LEVELS, restarts)
    assert len(found) == restarts + 1 and found[0][0] == 0 and found[-1][1] == len(LEVELS) - 1
    assert all(LEVELS[first] <= HIGH for first, _ in found[1:])
    assert all(LEVELS[last - 1] > LOW >= LEVELS[last] for _, last in found[:-1])
