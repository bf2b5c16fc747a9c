"""The comparison finds what is there, and nothing where nothing is."""

import random

import pytest
import torch

from semantic_video.miniworld.report import GUARDS, compare, interval, markdown, plot


def clips(shift: float, seed: int, count: int = 200) -> list[dict[str, float]]:
    """Scores that share their captions' difficulty, so that only pairing shows a small shift."""
    hard, own = random.Random(0), random.Random(seed)
    return [
        {"object": hard.random() + shift + 0.05 * own.gauss(0, 1), "dynamic degree": own.random()} for _ in range(count)
    ]


def test_a_small_paired_gain_is_found_with_its_size():
    row = compare(clips(0.0, 1), clips(0.02, 2))[0]
    assert row.verdict == "B higher"
    assert row.low < 0.02 < row.high
    assert compare(clips(0.02, 1), clips(0.0, 2))[0].verdict == "B lower"


def test_seeds_of_one_caption_are_no_independent_draws():
    """Four copies of each caption's scores tell no more than one: the same interval, not half as wide."""
    a, b = clips(0.0, 1, 50), clips(0.02, 2, 50)
    once = compare(a, b)[0]
    again = compare([x for x in a for _ in range(4)], [x for x in b for _ in range(4)], seeds=4)[0]
    assert (again.low, again.high) == pytest.approx((once.low, once.high))
    assert again.clips == 200 and again.difference == pytest.approx(once.difference)


def test_no_difference_is_called_none_at_the_stated_rate():
    verdicts = [
        compare(
            clips(0.0, 2 * i + 10),
            clips(0.0, 2 * i + 11),
        )[0].verdict
        for i in range(20)
    ]
    assert verdicts.count("no clear difference") >= 17


def test_the_interval_covers_the_mean():
    generator = torch.Generator().manual_seed(0)
    hits = [
        low <= 0.5 <= high
        for low, high in (interval(torch.rand(60, generator=generator), resamples=500, seed=i) for i in range(100))
    ]
    assert 88 <= sum(hits) <= 100


def test_scores_that_one_clip_lacks_are_left_out_in_pairs():
    rows = compare(
        [{"object": 1.0, "relation": 0.0}, {"object": 0.0}],
        [{"object": 1.0, "relation": 1.0}, {"object": 1.0, "relation": 1.0}],
    )
    assert {row.score: row.clips for row in rows} == {"object": 2, "relation": 1}


def test_what_does_not_pair_up_is_refused():
    with pytest.raises(ValueError, match="got 1 and 2 clips"):
        compare([{}], [{}, {}])
    with pytest.raises(ValueError, match="at least one"):
        compare([], [])


def test_guards_stand_below_the_headline_and_are_drawn(tmp_path):
    rows = compare(clips(0.0, 1, 20), clips(0.1, 2, 20))
    assert rows[-1].score in GUARDS
    assert "| object |" in markdown(rows, "t", "a", "b")
    plot(rows, tmp_path / "plot.png", "t")
    assert (tmp_path / "plot.png").stat().st_size > 1000
