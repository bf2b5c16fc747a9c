"""The demo's page, however the demo ends, and the part of it that needs no ComfyUI."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from semantic_video.cli import demo
from semantic_video.cli.client import ServerError
from semantic_video.cli.demo_figures import Average
from semantic_video.cli.demo_page import Page, asked, bar, clip, section, verdict
from semantic_video.harness import stand_ins
from semantic_video.miniworld.scene import sample_scene

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
    assert (tmp_path / "index.html").read_text() == "old"
    assert page.publish() == tmp_path / "index.html"
    assert files(tmp_path) == ["index.html", "notes.txt"]
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


def test_a_clip_is_a_strip_of_its_frames_without_loss():
    frames = torch.rand(5, 8, 16, 3)
    shown = clip(frames, "A <clip>", [verdict(True, "right"), bar(Average(0.854, 40), "prompts")])
    assert "A &lt;clip&gt;" in shown and "--n:5;" in shown and "still" not in shown
    assert "good" in shown and "over all 40 prompts: 85 of 100" in shown and "width:85%" in shown
    [data] = re.findall(r"data:image/webp;base64,([\w+/=]+)\)", shown)
    strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert strip.shape == (8, 5 * 16, 3)
    for i in range(5):
        assert np.array_equal(strip[:, 16 * i : 16 * i + 16], (frames[i] * 255).round().byte().numpy())
    assert "still" in clip(frames[:1], "A picture") and "bad" in verdict(False, "wrong")


def test_lines_of_a_story_light_up_while_their_part_plays():
    lines = asked(["one", "<two>"], [(0, 21), (21, 45)])
    assert "<li style='--told:told0'>one</li>" in lines and "&lt;two&gt;" in lines and "--n:45" in lines
    first, second = re.findall(r"@keyframes told\d \{ (.*?) \}(?=@|<)", lines)
    assert re.findall(r"([\d.]+)% \{ background:(color|transparent)", first) == [
        ("0.00", "color"), ("46.67", "color"), ("100", "transparent"),
    ]  # fmt: skip
    assert re.findall(r"([\d.]+)% \{ background:(color|transparent)", second) == [
        ("46.67", "transparent"), ("100.00", "color"), ("100", "color"),
    ]  # fmt: skip
    assert asked(["a & b"]) == "<ul class='asked'><li>a &amp; b</li></ul>"
    assert "<h2>A &amp; B</h2><p>what</p>rest" in section("A & B", "what", "rest")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """demo.main in a folder of its own, drawing one heading."""
    monkeypatch.setattr(demo, "DEMO", tmp_path)
    monkeypatch.setattr(demo, "draw", lambda page, maker: page.add("<h2>pictures</h2>", demo.MASKS))
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
        (lambda: 1, 1, ""),  # a workflow failed, and its row says so
        (lambda: fail(ServerError("ComfyUI went away")), 1, "<p class='loud'>ComfyUI went away</p>"),
        (lambda: fail(KeyboardInterrupt()), 130, "interrupted"),
    ],
)
def test_however_the_demo_ends_there_is_a_page(drawn, tmp_path, act, code, shown):
    drawn(act)
    assert demo.main([]) == code
    written = (tmp_path / "index.html").read_text()
    assert shown in written and "pictures" in written and "videos" in written


def test_a_missing_host_and_a_declined_one_are_told_apart(drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "find_hosts", lambda root: [])
    assert demo.main([]) == 0 and "No ComfyUI was found" in capsys.readouterr().out
    assert "No ComfyUI was found" in (tmp_path / "index.html").read_text()
    assert demo.main(["--no-host"]) == 0 and "No ComfyUI was found" not in capsys.readouterr().out
    assert "Without ComfyUI, as asked" in (tmp_path / "index.html").read_text()


def test_the_page_without_a_host_is_whole_and_asks_nothing_of_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "DEMO", tmp_path)
    monkeypatch.setattr(demo, "find_hosts", lambda root: [])
    assert demo.main(["--no-host"]) == 0 and files(tmp_path) == ["index.html"]
    written = (tmp_path / "index.html").read_text()
    for text in ("set of nodes for ComfyUI", "Find what a text names", "One it misses", "The small world"):
        assert text in written
    assert written.count("class='clip") >= 11 and "<script" not in written
    addresses = re.findall(r"src=['\"]?([^'\" >]+)|url\(([^)]{5})|(@import|<link|<iframe)", written)
    assert addresses and all("".join(found).startswith("data:") for found in addresses)


def test_the_masks_shown_are_the_first_that_fit():
    def found(number, *overlaps):
        return demo_pictures.Found(number, None, None, ["a"] * len(overlaps), None, list(overlaps))

    scenes = [found(0, 0.9), found(1, 0.9, 0.3), found(2, 0.05, 0.9), found(3, 0.6, 0.5), found(4, 0.9, 0.9)]
    shown, missed = demo_pictures.choose(iter(scenes))
    assert (shown.number, missed.number) == (3, 2)
    with pytest.raises(ValueError, match="none in which one is missed"):
        demo_pictures.choose(iter(scenes[3:]))


def test_overlap_is_intersection_over_union():
    a, b = torch.zeros(4, 4), torch.zeros(4, 4)
    a[:2], b[1:3] = 1, 0.6
    assert demo_pictures.overlap(a, b) == pytest.approx(1 / 3)
    assert demo_pictures.overlap(b * 0, b * 0) == 0


def test_the_small_world_shows_what_it_says():
    scene = sample_scene(0, "train", 1, motion="left")
    assert scene.things[0].motion == "left"
    assert demo_pictures.world_row().count("--n:21;") == len(demo_pictures.WORLD)
