"""The report on pairs with a stand-in for the server that makes clips of known truth."""

import json
import re

import pytest

from semantic_video.cli.media import write_video
from semantic_video.cli.report import main as report
from semantic_video.cli.report_pairs import OTHER, OWN, measure_pairs, write_pairs
from semantic_video.cli.variants import titled, variants
from semantic_video.miniworld.caption import parse
from semantic_video.miniworld.pairs import following, held_out_pairs, other_reference
from semantic_video.miniworld.render import render
from semantic_video.tests.house.test_commands import ROOT

WORKFLOW = str(ROOT / "mini" / "workflows" / "mini_video_prompt.json")


class Follower:
    """Stands in for a Server: makes what the workflow's reference shows, or at strength 0 a still picture."""

    def __init__(self, base):
        self.base, self.seen = base, []
        (base / "input").mkdir()

    def run(self, api):
        inputs = {name: node["inputs"] for name, node in api.items()}
        self.seen.append(
            (
                inputs["positive"]["text"],
                inputs["sampler"]["seed"],
                inputs["image"]["image"],
                inputs["reference_positive"]["text"],
            )
        )
        assert all((self.base / "input" / name).exists() for name in (inputs["image"]["image"], inputs["load"]["file"]))
        which, number = re.fullmatch(r"(reference|other)-(\d+)\.mp4", inputs["load"]["file"]).groups()
        reference, target = held_out_pairs(int(number) + 1)[int(number)]
        shown = following(target, reference if which == "reference" else other_reference(target, int(number)))
        frames = render([shown]).frames[0]
        write_video(self.base / "clip.mp4", frames if inputs["apply"]["strength"] else frames[:1].repeat(21, 1, 1, 1))
        return [self.base / "clip.mp4"]


def test_the_reference_s_motion_is_found_and_the_report_written(tmp_path):
    server, workflows = Follower(tmp_path), variants([WORKFLOW, "apply.strength=0", WORKFLOW])
    scores = measure_pairs(server, workflows, 12)
    assert (
        [row["transfer"] for row in scores.b]
        == [row[OWN] for row in scores.own]
        == [row[OTHER] for row in scores.other]
        == [1.0] * 12
    )
    assert not any(row[OTHER] for row in scores.own) and not any(row[OWN] for row in scores.other)
    assert sum(row["transfer"] for row in scores.a) <= 4
    assert all(row["object"] == 1.0 for row in (*scores.a, *scores.b))
    for plain, own, swapped in zip(*[iter(server.seen)] * 3):
        assert plain == own and plain[:3] == swapped[:3] and plain[3] != swapped[3], (
            "target, caption and seed are shared"
        )
        assert parse(plain[0]).things[0].motion is None and parse(plain[3]).things[0].motion
    assert not list((tmp_path / "input").iterdir())
    text = write_pairs(scores, tmp_path / "pairs", workflows, "ComfyUI 0.33.0")
    assert (
        "| transfer |" in text and "apply.strength=0" in text and "12 held-out pairs" in text and f"| {OTHER} |" in text
    )
    found = json.loads((tmp_path / "pairs.json").read_text())
    assert {row["score"]: row["verdict"] for row in found["variants"]}["transfer"] == "B higher"
    assert {row["score"]: row["verdict"] for row in found["references"]} == {OWN: "B lower", OTHER: "B higher"}
    assert (tmp_path / "pairs.png").stat().st_size > 1000


def test_the_motion_can_be_left_to_the_eye(tmp_path):
    server = Follower(tmp_path)
    measure_pairs(server, variants([WORKFLOW, "apply.strength=0", WORKFLOW]), 2, seen=True)
    assert not any(parse(text).things[0].motion for *_, text in server.seen)


def test_pairs_need_two_variants():
    with pytest.raises(ValueError, match=r"--pairs: 1 workflow\(s\); give two"):
        report([WORKFLOW, "--pairs", "2"])
    with pytest.raises(ValueError, match='0 nodes are titled "Reference"'):
        titled(variants([str(ROOT / "mini" / "workflows" / "mini_i2v.json")])[0][1], {"Reference": {"file": "x.mp4"}})
