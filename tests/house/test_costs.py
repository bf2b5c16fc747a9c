"""What the notes of templates say of costs: steps and frames, by hand."""

import json

import pytest

from semantic_video.cli.costs import in_words, seen_frames, steps_of
from semantic_video.cli.server import ROOT


def graph(name):
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "node", "steps"),
    [
        ("draft_long_video_wan", "draft", 30),
        ("draft_long_video_wan", "sampler", 16),  # sigma 0.9 of shift 8 is at 0.53 of the schedule
        ("draft_long_video_wan22", "draft", 11),  # 0.875 at 0.47; the step across it is in both
        ("draft_long_video_wan22", "sampler", 10),
    ],
)
def test_a_run_that_starts_late_has_fewer_steps(name, node, steps):
    api = graph(name)
    assert steps_of(api, api[node]["inputs"]) == steps


def test_windows_with_anchors_see_twice_the_trained_length_in_compressed_time():
    swin = {"class_type": "SemVidSwinRenderer"}
    for anchors, scale, budget, frames, seen in (
        ("none", 1.0, 0, 81, 21),
        ("rotating", 1.0, 0, 81, 21),
        ("rotating", 0.0, 0, 81, 42),
        ("rotating", 0.0, 30, 81, 30),
        ("rotating", 0.0, 0, 25, 25),
    ):
        inputs = {"anchors": anchors, "time_scale": scale, "anchor_budget": budget}
        assert seen_frames({"one": swin | {"inputs": inputs}}, {"one"}, frames, 21) == seen
    assert seen_frames({"one": {"class_type": "UNETLoader"}}, {"one"}, 81, 21) == 81


def test_sizes_are_told_where_all_are_known():
    small, unknown = {"name": "a", "gb": 2.0}, {"name": "b"}
    assert "files of about 2 GB" in in_words({}, [small, unknown | {"note": "your own"}])
    assert in_words({}, [small, unknown]) == ""
