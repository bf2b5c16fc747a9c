"""What run.py report asks of the server and what it scores, with a server that returns the truth."""
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
    rows = report.measure(SimpleNamespace(base=tmp_path, run=run), [("truth", workflow)], scenes, 1, [], said)[0]
    assert [parse(text).relation for text in asked] == [scene.relation if said else None for scene in scenes]
    assert all(parse(text).things[1].colour == scene.things[1].colour for text, scene in zip(asked, scenes, strict=True))
    assert [row["relation"] for row in rows] == [1.0, 1.0, 1.0]
    assert asked[0] == caption(scenes[0], 0, relation=said)
