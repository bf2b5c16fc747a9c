"""The demo's page and its pictures that need no ComfyUI."""

import pytest
import torch
from safetensors import safe_open

from semantic_video.cli import demo
from semantic_video.cli.client import ServerError, WorkflowError
from semantic_video.cli.demo_page import Page, card, section
from semantic_video.cli.demo_shots import Shot
from semantic_video.cli.media import write_video
from semantic_video.harness import stand_ins
from semantic_video.kernels.swin_renderer import window_spans
from semantic_video.mini.family import WEIGHTS

stand_ins.install()  # before open_clip imports torchvision
from semantic_video.cli import demo_pictures  # noqa: E402


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_sections_stand_in_their_place_and_the_page_is_written_as_they_come(tmp_path):
    page = Page(tmp_path / "demo")
    for text, place in (("pictures", 2), ("videos", 1), ("more videos", 1), ("workflows", 3)):
        page.add(f"<h2>{text}</h2>", place)
        assert f"<h2>{text}</h2>" in (page.files / "index.html").read_text()
    page.say("No <host>")
    written = (page.files / "index.html").read_text()
    order = [written.index(text) for text in ("No &lt;host&gt;", ">videos", "more videos", "pictures", "workflows")]
    assert order == sorted(order)


def test_a_whole_page_takes_the_place_of_the_one_before(tmp_path):
    (tmp_path / "old.mp4").touch()
    (tmp_path / "index.html").write_text("old")
    (tmp_path / "notes.txt").touch()
    page = Page(tmp_path)
    (page.files / "new.webp").touch()
    assert (tmp_path / "index.html").read_text() == "old"
    assert page.publish() == tmp_path / "index.html"
    assert files(tmp_path) == ["index.html", "new.webp", "notes.txt"]
    assert "semantic-video" in (tmp_path / "index.html").read_text()


def test_an_unfinished_page_replaces_nothing(tmp_path):
    (tmp_path / "index.html").write_text("old")
    (tmp_path / "old.mp4").touch()
    page = Page(tmp_path)
    page.add("<h2>videos</h2>", 1)
    assert str(page.files / "index.html") in page.publish_unfinished()
    assert (tmp_path / "index.html").read_text() == "old" and (tmp_path / "old.mp4").exists()
    written = (page.files / "index.html").read_text()
    assert "interrupted" in written and "videos" in written
    Page(tmp_path)
    assert files(tmp_path / "unfinished") == ["index.html"], "the next run begins anew"


def test_an_unfinished_page_is_better_than_none(tmp_path):
    page = Page(tmp_path)
    page.add("<h2>videos</h2>", 1)
    assert str(tmp_path / "index.html") in page.publish_unfinished()
    assert files(tmp_path) == ["index.html"] and "videos" in (tmp_path / "index.html").read_text()


def test_cards_show_videos_pictures_and_failures():
    assert "<video src='a.mp4'" in card("a.mp4", "A", "x")
    assert "<img src='a.webp'>" in card("a.webp", "A", "x")
    failed = card("", "A", "failed: <b>\nline")
    assert "<img" not in failed and "<video" not in failed and "failed: &lt;b&gt;<br>line" in failed
    assert "<img src='s.png'" in section("H", "note", [], "s.png") and "<img" not in section("H", "note", [])


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """demo.main in a folder of its own, drawing one heading."""
    monkeypatch.setattr(demo, "DEMO", tmp_path)
    monkeypatch.setattr(demo, "draw", lambda page: page.add("<h2>pictures</h2>", demo.PICTURES))
    monkeypatch.setattr(demo, "find_hosts", lambda root: [tmp_path])

    def film(act):
        def instead(host, page):
            page.add("<h2>videos</h2>", demo.VIDEOS)
            return act()

        monkeypatch.setattr(demo, "film", instead)

    return film


def fail(error: BaseException):
    raise error


@pytest.mark.parametrize(
    ("act", "code", "shown"),
    [
        (lambda: 0, 0, ""),
        (lambda: 1, 1, ""),  # a workflow failed, and its card says so
        (lambda: fail(ServerError("ComfyUI went away")), 1, "<p class='loud'>ComfyUI went away</p>"),
        (lambda: fail(KeyboardInterrupt()), 130, "interrupted"),
    ],
)
def test_however_the_demo_ends_there_is_a_page(drawn, tmp_path, act, code, shown):
    drawn(act)
    assert demo.main([]) == code
    written = (tmp_path / "index.html").read_text()
    assert shown in written and "pictures" in written and "videos" in written


def test_one_workflow_that_fails_does_not_take_the_others_with_it(tmp_path, capsys):
    class Server:
        def run(self, api, progress):
            if api:
                raise WorkflowError("KSampler (3): out of memory")
            write_video(tmp_path / "saved.mp4", torch.zeros(5, 16, 16, 3))
            return [tmp_path / "saved.mp4"]

    page = Page(tmp_path / "demo")
    shots = [Shot("first", {"3": {}}), Shot("second", {})]
    assert demo.film_section(Server(), page, "Two words", "what to see", shots, 1) == 1
    assert files(page.files) == ["index.html", "two-words-2.mp4", "two-words.png"]
    written = (page.files / "index.html").read_text()
    assert "failed: KSampler (3): out of memory" in written and "5 frames" in written
    assert "first: KSampler (3): out of memory" in capsys.readouterr().out
    assert demo.film_section(Server(), page, "One", "what to see", shots[1:], 1) == 0


def test_a_missing_host_and_a_declined_one_are_told_apart(drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "find_hosts", lambda root: [])
    assert demo.main([]) == 0 and "No ComfyUI was found" in capsys.readouterr().out
    assert "No ComfyUI was found" in (tmp_path / "index.html").read_text()
    assert demo.main(["--no-host"]) == 0 and "No ComfyUI was found" not in capsys.readouterr().out
    assert "Without ComfyUI, as asked" in (tmp_path / "index.html").read_text()


def test_the_pictures_are_drawn_and_named_by_the_sections(tmp_path):
    sections = demo_pictures.write_pictures(tmp_path)
    assert files(tmp_path) == ["clip-masks.png", "mask-circle.webp", "mask-left.webp", "windows.png"]
    for name in files(tmp_path):
        assert f"src='{name}'" in "".join(sections) and (tmp_path / name).stat().st_size > 5000


def test_overlap_is_intersection_over_union():
    a, b = torch.zeros(4, 4), torch.zeros(4, 4)
    a[:2], b[1:3] = 1, 0.6
    assert demo_pictures.overlap(a, b) == pytest.approx(1 / 3)
    assert demo_pictures.overlap(b * 0, b * 0) == 0


@pytest.mark.parametrize(("frames", "window"), [(24, 6), (23, 6), (9, 4), (5, 6)])
def test_what_a_frame_has_heard_of(frames, window):
    """Against attention carried out: what each frame knows, as a matrix, one product a block."""
    knows = torch.eye(frames, dtype=torch.bool)
    for block in range(9):
        attends = torch.zeros(frames, frames)
        for start, end in window_spans(frames, window, bool(block % 2)):
            attends[start:end, start:end] = 1
        knows = (attends @ knows.float()) > 0
        for frame in range(frames):
            known = knows[frame].nonzero().flatten().tolist()
            start, end = demo_pictures.reached(frame, frames, window, 9)[block]
            assert known == list(range(start, end))


def test_pairs_that_attend():
    assert demo_pictures.pairs(6, 6) == 36
    assert demo_pictures.pairs(24, 6) == (4 * 36 + 9 + 3 * 36 + 9) / 2


def test_the_plan_is_of_the_mini_model():
    with safe_open(WEIGHTS / "mini_t2v.safetensors", "pt") as file:
        blocks = {key.split(".")[1] for key in file.keys() if key.startswith("blocks.")}  # noqa: SIM118  (not a dict)
    assert len(blocks) == demo_pictures.BLOCKS
