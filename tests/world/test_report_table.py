"""One table of many variants: values, paired differences and cost, against sums by hand."""

import json

import pytest

from semantic_video.miniworld.report import GUARDS, RATIO, SECONDS, add_ratio, compare
from semantic_video.miniworld.report_table import COST, table_markdown, tabulate, write_table

TRUTH = [{"event": 1.0, "seam": 1.0, "dynamic degree": 0.1}] * 4


def clips(events, seams, seconds, dynamic=0.1):
    return [
        {"event": event, "seam": seam, "dynamic degree": dynamic, SECONDS: spent}
        for event, seam, spent in zip(events, seams, seconds, strict=True)
    ]


A = clips([0, 0, 1, 0], [1, 1, 2, 50], [10, 10, 30, 10])
B = clips([1, 1, 1, 0], [2, 2, 4, 40], [5, 4, 6, 5], dynamic=0.2)
C = clips([1, 1, 1, 1], [1, 1, 2, 50], [20, 20, 20, 20])


def lines_of(*results):
    return {line.score: line for line in tabulate(TRUTH, list(results))}


def test_means_medians_and_differences_to_a():
    lines = lines_of(A, B, C)
    event = lines["event"]
    assert event.truth == 1.0
    assert [one.value for one in event.cells] == [0.25, 0.75, 1.0]
    assert [one.difference for one in event.cells] == [None, 0.5, 0.75]
    assert event.cells[2].difference_low == compare(A, C)[0].low > 0, "the interval of the paired report"
    assert event.cells[1].clips == 4 and event.cells[1].low < 0.75 < event.cells[1].high
    assert [one.value for one in lines["seam"].cells] == [1.5, 3.0, 1.5], "a median: the outlier does not count"
    assert lines["seam"].cells[1].difference == 1.0
    assert [one.value for one in lines[COST].cells] == [1.0, 0.5, 2.0], "median seconds over A's"
    assert list(lines)[0] == "event" and list(lines)[-1] == COST and lines[COST].truth is None


def test_a_pairwise_report_takes_the_median_of_seams_as_well():
    row = next(row for row in compare(A, B, TRUTH) if row.score == "seam")
    assert (row.a, row.b, row.difference, row.truth) == (1.5, 3.0, 1.0, 1.0)
    assert row.low <= 1.0 <= row.high


def test_movement_is_a_ratio_to_the_truth():
    truth, b = [dict(one) for one in TRUTH], [dict(one) for one in B]
    add_ratio(truth, b)
    assert [one[RATIO] for one in truth] == pytest.approx([1.0] * 4)
    assert [one[RATIO] for one in b] == pytest.approx([2.0] * 4)
    assert RATIO in GUARDS
    still = [{"dynamic degree": 0.0}]
    add_ratio(still)
    assert RATIO not in still[0]


def test_seeds_of_one_caption_are_no_independent_draws():
    twice = [[one for one in clips for _ in range(3)] for clips in (TRUTH, A, C)]
    once, again = tabulate(TRUTH, [A, C])[0], tabulate(twice[0], twice[1:], seeds=3)[0]
    assert (again.cells[1].low, again.cells[1].high) == pytest.approx((once.cells[1].low, once.cells[1].high))
    assert again.cells[1].difference_low == pytest.approx(once.cells[1].difference_low)
    assert again.cells[1].clips == 12


def test_scores_that_a_variant_lacks_are_left_blank():
    lines = {line.score: line for line in tabulate(TRUTH, [[{"event": 1.0}] * 4, B])}
    assert lines["seam"].cells[0] is None and lines["seam"].cells[1].difference is None
    assert COST not in lines, "without A's seconds nothing can be said of cost"
    assert "| seam | 1.000 | - | 3.000 [" in table_markdown(list(lines.values()), "t", ["a", "b"], "n")


def test_the_table_is_written_whole(tmp_path):
    text = write_table(TRUTH, [A, B, C], tmp_path / "name", ["one", "two", "three"], "A note.")
    assert text == (tmp_path / "name.md").read_text()
    assert "A: one" in text and "C: three" in text and "A note." in text
    assert "| score | truth | A | B | C |" in text and "| score | B - A | C - A |" in text
    assert "| event | 1.000 | 0.250 [" in text and "**+0.750 [" in text
    assert f"| {COST} | - | 1.00 | 0.50 | 2.00 |" in text
    stored = json.loads((tmp_path / "name.json").read_text())
    assert stored["variants"] == ["one", "two", "three"]
    assert stored["scores"][0]["score"] == "event" and stored["scores"][0]["cells"][1]["value"] == 0.75
    alone = write_table(TRUTH, [A], tmp_path / "alone", ["one"], "A note.")
    assert "B - A" not in alone and "| event | 1.000 | 0.250 [" in alone


def test_what_does_not_pair_up_is_refused():
    for truth, results in ((TRUTH, [A, B[:2]]), (TRUTH[:2], [A, B]), ([], [[]])):
        with pytest.raises(ValueError, match="a table needs the same captions and seeds for all"):
            tabulate(truth, results)
