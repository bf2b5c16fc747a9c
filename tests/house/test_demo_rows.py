"""The demo's rows: what they show is of the measured sets, their averages are those of the results, and a row is whole
or says what failed."""

import json

import pytest
import torch
from PIL import Image

from semantic_video.harness import stand_ins

stand_ins.install()  # before open_clip imports torchvision
from semantic_video.cli import demo_choose, demo_film, demo_workflows  # noqa: E402
from semantic_video.cli.client import WorkflowError  # noqa: E402
from semantic_video.cli.demo_choose import Example, choose, examples  # noqa: E402
from semantic_video.cli.demo_figures import RESULTS, in_comparison, in_table, of_masks  # noqa: E402
from semantic_video.cli.demo_measures import Maps  # noqa: E402
from semantic_video.cli.demo_page import Page  # noqa: E402
from semantic_video.cli.demo_row import Given, Row, Take, Verdict  # noqa: E402
from semantic_video.cli.demo_rows import ROWS, Follow, Heed, Layout, Long, Tell  # noqa: E402


def cell(name, score, variant):
    scores = json.loads((RESULTS / f"{name}.json").read_text())["scores"]
    return next(line["cells"][variant] for line in scores if line["score"] == score)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_a_row_says_what_the_report_measured(row, tmp_path):
    """The averages of its first take and of that with the technique, and how many the measured set has."""
    item = row.items()[0]
    takes = row.takes(0, item, tmp_path)
    first, main = takes[0].average, takes[row.main].average
    assert 0 <= first.value < main.value <= 1
    assert len(row.items()) == main.count
    assert row.asked(0, item) and row.what and row.limit and row.measured and row.title and row.nodes
    assert row.template in demo_workflows.NOTES
    assert all(one.frames.ndim == 4 for one in row.given(0, item))


def test_the_averages_are_those_of_the_variants(tmp_path):
    def averages(row):
        return [take.average for take in row.takes(0, row.items()[0], tmp_path)]

    score = "motion or attribute, slowed"
    assert [one.value for one in averages(Long())] == [cell("long-4x", score, i)["value"] for i in (0, 1, 4)]
    assert [one.value for one in averages(Tell())] == [
        cell("stories-4x", "event", 3)["value"],
        cell("stories-100-in-turn", "event", 1)["value"],
    ]
    assert [one.value for one in averages(Heed())] == [
        cell("adherence-mini-i2v", "motion or attribute", i)["value"] for i in (0, 2)
    ]
    names = json.loads((RESULTS / "adherence-mini-i2v.json").read_text())["variants"]
    assert names[2].endswith("contrast.strength=1 focal.strength=1 focal.keyword_weight=1.5")
    assert (
        "time_scale=0.2174 swin.anchors=rotating swin.anchor_budget=12"
        in json.loads((RESULTS / "long-4x.json").read_text())["variants"][4]
    )
    assert averages(Follow())[2] == in_comparison("video-prompt-pairs-seen", "transfer", "b")
    assert averages(Layout())[1].count == 200


def test_a_score_that_is_not_there_is_named():
    with pytest.raises(KeyError, match="long-4x.json has no score 'beauty'"):
        in_table("long-4x", "beauty", 0)
    assert of_masks("the same, filter 1", "IoU").count == 300


def test_examples_are_of_the_sets():
    found = examples()
    rows = (*ROWS, Maps())
    assert set(found) == {row.key for row in rows}
    for row in rows:
        shown, failed = found[row.key]
        assert shown != failed and 0 <= shown < len(row.items())
        assert failed is None or 0 <= failed < len(row.items())


class Toy(Row):
    """Items are pairs: whether the first take is right, and the second. A take's clip has as many frames as its graph
    says."""

    key, title, what, nodes, measured, limit = "toy", "A toy", "what", "Nodes", "it works", "A limit."
    template = "drift_report"

    def __init__(self, *items):
        self.pairs = list(items)

    def items(self):
        return self.pairs

    def asked(self, number, item):
        return [f"asked {number}"]

    def given(self, number, item):
        return [Given("Given", torch.zeros(1, 4, 4, 3))]

    def takes(self, number, item, inputs):
        a, b = (Take(name, {"frames": 3 + good}) for name, good in zip(("Without", "With"), item))
        return [a, Take(b.label, b.api, in_table("long-4x", "object", 0), ("A still",))]

    def judge(self, frames, number, item):
        return Verdict(len(frames) == 4, f"{len(frames)} frames")


class Server:
    def __init__(self, base):
        self.base, self.ran = base, []

    def run(self, api, progress=None):
        self.ran.append(api)
        if not api:
            raise WorkflowError("KSampler (3): out of memory")
        pictures = [Image.new("RGB", (4, 4), (0, 0, 60 * i)) for i in range(api["frames"])]
        pictures[0].save(self.base / "a.webp", save_all=True, append_images=pictures[1:], lossless=True)
        pictures[0].save(self.base / "a.png")
        return [self.base / "a.png", self.base / "a.webp"]


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ([(0, 1)], Example(0, None)),
        ([(1, 1), (0, 0), (0, 1), (1, 0)], Example(2, 1)),
        ([(1, 0), (1, 1), (0, 1)], Example(2, 0)),
    ],
)
def test_the_first_that_fits_is_shown(tmp_path, items, found):
    assert choose(Toy(*items), Server(tmp_path)) == found


def test_where_there_is_nothing_without_it_the_first_that_comes_right_is_shown(tmp_path):
    class Alone(Toy):
        def takes(self, number, item, inputs):
            return super().takes(number, item, inputs)[1:]

    assert choose(Alone((0, 0), (1, 1)), Server(tmp_path)) == Example(1, 0)


def test_nothing_to_show_is_an_error_and_places_are_kept(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="toy: none of 2 prompts comes right only with"):
        choose(Toy((1, 1), (0, 0)), Server(tmp_path))
    monkeypatch.setattr(demo_choose, "FILE", tmp_path / "examples.json")
    demo_choose.write({"toy": Example(3, None)})
    assert examples() == {"toy": Example(3, None)}


def test_a_row_shows_both_and_one_that_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_film, "examples", lambda: {"toy": Example(1, 0)})
    page, server = Page(tmp_path / "demo"), Server(tmp_path)
    films = demo_film.film_row(server, page, Toy((1, 0), (0, 1)), 1)
    assert [len(films[label]) for label in ("Without", "With")] == [3, 4]
    assert [api["frames"] for api in server.ran] == [3, 4, 3], "of the one that fails only the technique"
    written = (page.files / "index.html").read_text()
    shown, fails = written.split("class='fails'><h3>")
    order = [shown.index(text) for text in ("asked 1", "Given", "A still", "Without", "With<")]
    assert order == sorted(order)
    assert shown.count("class='verdict good'") == shown.count("class='verdict bad'") == 1
    assert "asked 0" in fails and "verdict good" not in fails and fails.count("verdict bad") == 1
    assert "over all 40 prompts: 93 of 100" in shown and "over all" not in fails
    assert "number 2 of the 2 prompts measured" in written and "Number 1 is the first that it does not" in written


def test_one_row_that_fails_does_not_take_the_others_with_it(tmp_path, capsys):
    page = Page(tmp_path / "demo")
    assert demo_film.attempt(page, "A row", 1, lambda: Server(tmp_path).run({})) is None
    assert demo_film.attempt(page, "A row", 1, lambda: 7) == 7
    assert "failed: KSampler (3): out of memory" in (page.files / "index.html").read_text()
    assert "A row: KSampler (3): out of memory" in capsys.readouterr().out


def test_the_list_has_every_workflow_once():
    groups = demo_workflows.SHOWN, demo_workflows.MINIS, demo_workflows.RANDOM, demo_workflows.ELSEWHERE
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(demo_workflows.NOTES)
    row = demo_workflows.workflows_row(dict.fromkeys(names, "said <so>"))
    assert row.count("<li>") == len(names) and "said &lt;so&gt;" in row and "href='#long'" in row
    assert {"long", "tell", "layout", "follow"} < set(demo_workflows.SHOWN.values())


def test_a_workflow_that_fails_is_said_to(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_workflows, "graphs", lambda: {"a": ({"frames": 1}, "ran"), "b": ({}, "ran")})
    said = demo_workflows.run_all(Server(tmp_path))
    assert said["a"] == "ran" and said["b"] == "Failed: KSampler (3): out of memory"
