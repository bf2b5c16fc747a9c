"""What run.py report asks of the server and what it scores, with a server that returns the truth."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from semantic_video.cli import report
from semantic_video.miniworld.caption import caption, parse
from semantic_video.miniworld.render import render
from semantic_video.miniworld.scene import sample_scenes


@pytest.mark.parametrize("said", [True, False])
def test_prompts_may_leave_out_where_and_relation_is_scored_all_the_same(said, tmp_path, monkeypatch):
    scenes, asked = sample_scenes(3, 9, "heldout", (2,)), []
    saved = tmp_path / "clip"

    def run(api: dict) -> list[Path]:
        asked.append(api["text"]["inputs"]["text"])
        saved.touch()
        return [saved]

    monkeypatch.setattr(report, "read_video", lambda path: render([scenes[len(asked) - 1]]).frames[0])
    workflow = {"text": {"class_type": "Text", "_meta": {"title": "Prompt"}, "inputs": {"text": ""}}}
    truth, (rows,) = report.measure(
        [SimpleNamespace(base=tmp_path, run=run, seconds={})], [("truth", workflow)], scenes, 1, [], said
    )
    assert [parse(text).relation for text in asked] == [scene.relation if said else None for scene in scenes]
    assert all(
        parse(text).things[1].colour == scene.things[1].colour for text, scene in zip(asked, scenes, strict=True)
    )
    assert [row["relation"] for row in rows] == [1.0, 1.0, 1.0]
    assert truth == rows, "what was saved here is the rendered scene itself"
    either = [row.get("motion", row.get("attribute")) for row in rows]
    assert [row["motion or attribute"] for row in rows] == either
    assert asked[0] == caption(scenes[0], 0, relation=said)


def test_each_variant_is_compared_with_the_last(tmp_path, monkeypatch):
    workflow = tmp_path / "w.json"
    workflow.write_text(json.dumps({"n": {"class_type": "N", "inputs": {"x": 0}}}))

    def measure(server, workflows, scenes, *rest):
        videos = [[{"object": api["n"]["inputs"]["x"] + 0.1 * i} for i in range(len(scenes))] for _, api in workflows]
        return [{"object": 1.0}] * len(scenes), videos

    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "servers_of", lambda chosen: nullcontext(([None], "ComfyUI 0.33.0")))
    monkeypatch.setattr(report, "LOG", tmp_path / "log.jsonl")
    monkeypatch.setattr(report, "measure", measure)
    words = [str(workflow), "n.x=1", str(workflow), "n.x=2", str(workflow), "n.x=5"]
    assert report.main([*words, "--captions", "3", "--out", "one", "two"]) == 0
    assert report.main([*words, "--captions", "3", "--table", "--out", "all"]) == 0
    (line,) = json.loads((tmp_path / "all.json").read_text())["scores"]
    assert [cell["value"] for cell in line["cells"]] == pytest.approx([1.1, 2.1, 5.1]) and line["truth"] == 1.0
    assert report.main([*words[:2], "--captions", "3", "--out", "alone"]) == 0
    assert json.loads((tmp_path / "alone.json").read_text())[0]["truth"] == 1.0
    assert "| object | 1.000 | 1.100 |" in (tmp_path / "alone.md").read_text()
    for name, value in (("one", 1), ("two", 2)):
        (row,) = json.loads((tmp_path / f"{name}.json").read_text())
        assert (row["difference"], row["verdict"], row["clips"]) == (pytest.approx(5 - value), "B higher", 3)
        assert row["truth"] == 1.0
        assert (
            f"A: {workflow} n.x={value}" in (tmp_path / f"{name}.md").read_text()
            and (tmp_path / f"{name}.png").exists()
        )
    with pytest.raises(ValueError, match=r"--out: 1 name\(s\) for 3 workflow\(s\); give 2"):
        report.main(words)


def test_a_slow_circle_is_as_said_only_where_all_is_slowed():
    scene = next(s for s in sample_scenes(60, 4, "any", (1,)) if s.things[0].motion == "circle")
    text = caption(scene)
    slow = report.scores(render([scene], 93, stretch=4.6).frames[0], text, [])
    assert (slow["motion or attribute"], slow[report.SLOWED]) == (0.0, 1.0)
    truth = report.truth_scores(scene, text, 93, [])
    assert (truth["motion or attribute"], truth[report.SLOWED]) == (1.0, 1.0)
    assert report.scores(render([scene], 93).frames[0], text, [])[report.SLOWED] == 0.0
    assert report.SLOWED not in report.truth_scores(scene, text, 21, [])
