"""Stories through run.py report: what the server is asked for, what is scored, and what is written."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from PIL import Image

from semantic_video.cli import report, report_stories
from semantic_video.cli.report_stories import tell, timeline_text
from semantic_video.miniworld.report import SECONDS
from semantic_video.miniworld.story import joined_caption, render_stories, sample_stories, story_captions

STORIES = sample_stories(2, 9, "heldout")
SAMPLER = {"class_type": "KSampler", "_meta": {"title": "KSampler"}, "inputs": {"seed": 0}}
PLAIN = {"text": {"class_type": "Text", "_meta": {"title": "Prompt"}, "inputs": {"text": ""}}, "sampler": SAMPLER}
TIMELINE = {
    "timeline": {
        "class_type": "SemVidPromptTimeline",
        "_meta": {"title": "Prompt"},
        "inputs": {"text": "", "fps": 12.0},
    },
    "sampler": SAMPLER,
}


def test_a_timeline_gets_a_line_for_each_span():
    story = STORIES[0]
    captions = story_captions(story, 5)
    assert timeline_text(captions, story.borders, 12.0) == (
        f"0-1.75: {captions[0]}\n1.75-3.75: {captions[1]}\n3.75-5.75: {captions[2]}\n5.75-: {captions[3]}"
    )
    assert timeline_text(["a", "b"], [10], 30.0) == "0-0.3333: a\n0.3333-: b"
    filled = tell(TIMELINE, story, 5, False, 77)
    assert filled["timeline"]["inputs"]["text"] == timeline_text(captions, story.borders, 12.0)
    assert filled["sampler"]["inputs"]["seed"] == 77
    assert TIMELINE["timeline"]["inputs"]["text"] == "" and SAMPLER["inputs"]["seed"] == 0, "the variant stays"


def test_without_a_timeline_the_first_caption_or_all_in_one_sentence_is_said():
    story = STORIES[0]
    assert tell(PLAIN, story, 5, False, 0)["text"]["inputs"]["text"] == story_captions(story, 5)[0]
    assert tell(PLAIN, story, 5, True, 0)["text"]["inputs"]["text"] == joined_caption(story, 5)
    primitive = {"p": {"class_type": "PrimitiveString", "_meta": {"title": "Prompt"}, "inputs": {"value": ""}}}
    assert tell(primitive, story, 5, True, 0)["p"]["inputs"] == {"value": joined_caption(story, 5)}
    with pytest.raises(ValueError, match='no node is titled "Prompt" or of the kind SemVidPromptTimeline'):
        tell({"sampler": SAMPLER}, story, 5, True, 0)


def server(tmp_path, monkeypatch, stop_after=None):
    """A server that returns the truth for a timeline, and the first frame for anything else; a run takes 2 s with a
    timeline, 4 s without."""
    asked, saved = [], tmp_path / "film"

    def run(api):
        if stop_after is not None and len(asked) == stop_after:
            raise KeyboardInterrupt
        asked.append(api)
        fake.seconds = {"sampler": 2.0 if "timeline" in api else 4.0, "other": 9.0}
        saved.touch()
        return [saved]

    def read(path):
        truth = render_stories([STORIES[asked[-1]["sampler"]["inputs"]["seed"] // 1000]]).frames[0]
        return truth if "timeline" in asked[-1] else truth[:1].expand_as(truth)

    monkeypatch.setattr(report_stories, "read_video", read)
    fake = SimpleNamespace(base=tmp_path, run=run, seconds={})
    return fake


def test_truth_is_told_apart_from_a_frozen_video(tmp_path, monkeypatch):
    told = report_stories.measure_stories(
        [server(tmp_path, monkeypatch)], [("plain", PLAIN), ("timeline", TIMELINE)], STORIES
    )
    frozen, true = told.results
    assert [row.pop(SECONDS) for row in true] == [2.0, 2.0] and [row.pop(SECONDS) for row in frozen] == [4.0, 4.0]
    assert true == told.truth
    assert all(row["dynamic degree"] == 0 and row["story"] == 0 for row in frozen)
    assert len(told.films) == 2 and [len(films) for films in told.films] == [3, 3]


def test_what_is_done_is_kept_when_interrupted(tmp_path, monkeypatch):
    stopped = server(tmp_path, monkeypatch, stop_after=3)
    told = report_stories.measure_stories([stopped], [("a", PLAIN), ("b", TIMELINE)], STORIES)
    assert [len(told.truth), *map(len, told.results)] == [1, 1, 1], "the second story lacks a variant"
    with pytest.raises(KeyboardInterrupt):
        report_stories.measure_stories([server(tmp_path, monkeypatch, stop_after=1)], [("a", PLAIN)] * 2, STORIES)


def test_the_command_writes_table_and_pictures(tmp_path, monkeypatch):
    for name, api in (("plain", PLAIN), ("timeline", TIMELINE)):
        (tmp_path / f"{name}.json").write_text(json.dumps(api))
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    running = [server(tmp_path, monkeypatch)], "ComfyUI 0.33.0"
    monkeypatch.setattr(report, "servers_of", lambda chosen: nullcontext(running))
    monkeypatch.setattr(report, "LOG", tmp_path / "log.jsonl")
    words = [str(tmp_path / "plain.json"), str(tmp_path / "timeline.json")]
    assert report.main([*words, "--stories", "2", "--scenes-seed", "9", "--out", "told"]) == 0
    text = (tmp_path / "results" / "told.md").read_text()
    assert "2 held-out stories (--scenes-seed 9) of 4 events, 93 frames" in text and "the first caption" in text
    assert "| cost against A | - | 1.00 | 0.50 |" in text
    assert "| same object | 1.000 | 1.000 [1.00, 1.00] | 1.000 [1.00, 1.00] |" in text
    assert "| movement ratio | 1.000 | 0.000 [0.00, 0.00] | 1.000 [" in text
    assert json.loads((tmp_path / "results" / "told.json").read_text())["variants"] == words
    sheet = Image.open(tmp_path / "results" / "told.jpg")
    assert sheet.width > 16 * 64 and sheet.height > 6 * 64, "truth, A and B of both stories"
    with pytest.raises(ValueError, match=r"--out: 2 name\(s\) for 2 workflow\(s\); give 1"):
        report.main([*words, "--stories", "2", "--out", "told", "other"])
