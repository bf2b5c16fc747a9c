"""The demo's page: one file with all clips in it, written anew after every section, beside the page of the run before,
which stays until this one is whole. A clip is a strip of its frames; the clips of a page play in step, by CSS alone."""

import base64
import html
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor  # first, so that an interpreter without it is told so

from PIL import Image  # isort: skip

from .demo_figures import Average, per_hundred

MEDIA = (".mp4", ".webm", ".webp", ".png", ".html")
TEMPLATE = Path(__file__).with_suffix(".html")
NOTES = json.loads(Path(__file__).with_name("notes.json").read_text(encoding="utf-8"))  # of the shipped workflows
RIGHT, WRONG = "&#10003;", "&#10007;"


class Page:
    """`folder`/index.html. It comes into being in `folder`/unfinished (`self.files`); `publish` puts it in place."""

    def __init__(self, folder: Path):
        self.folder, self.files = folder, folder / "unfinished"
        shutil.rmtree(self.files, ignore_errors=True)
        self.files.mkdir(parents=True)
        self.sections: list[tuple[int, str]] = []
        self._write()

    def add(self, section: str, place: int) -> None:
        """Adds HTML behind all sections of a lower or the same `place`, and writes the page."""
        self.sections = sorted([*self.sections, (place, section)], key=lambda entry: entry[0])
        self._write()

    def say(self, text: str, place: int = 0) -> None:
        """Adds a sentence that nobody overlooks."""
        self.add(f"<p class='loud'>{html.escape(text)}</p>", place)

    def _write(self) -> None:
        body = "\n".join(section for _, section in self.sections)
        page = TEMPLATE.read_text(encoding="utf-8").replace("<!--body-->", body)
        (self.files / "index.html").write_text(page, encoding="utf-8")

    def publish(self) -> Path:
        """Puts the page in the place of the one before, whose files go. Returns where it is."""
        new = sorted(self.files.iterdir(), key=lambda file: file.name == "index.html")  # the page itself last
        for file in new:
            file.replace(self.folder / file.name)
        for old in self.folder.iterdir():
            if old.suffix in MEDIA and old.name not in {file.name for file in new}:
                old.unlink()
        self.files.rmdir()
        return self.folder / "index.html"

    def publish_unfinished(self) -> str:
        """After an interruption: publishes what there is where no earlier page would be lost. Returns a sentence that
        says where what is."""
        self.say("This run of the demo was interrupted; what it had made until then is below.")
        if not (self.folder / "index.html").exists():
            return f"Interrupted. What there was until then: {self.publish()}"
        return (
            f"Interrupted. The page of the run before stays at {self.folder / 'index.html'}; what this one had made is "
            f"in {self.files / 'index.html'}"
        )


def inline(picture: Image.Image) -> str:
    """A data: address, without loss."""
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=True, quality=80, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def strip(frames: Tensor) -> Image.Image:
    """Frames [time, height, width, 3], 0..1, side by side."""
    return Image.fromarray((frames.clamp(0, 1) * 255).round().byte().transpose(0, 1).flatten(1, 2).numpy())


def clip(frames: Tensor, label: str, under: Sequence[str] = ()) -> str:
    """A figure of a clip, or of a picture (one frame). under: HTML lines below its label."""
    still = " still" if len(frames) == 1 else ""
    shown = (
        f"<div class='clip{still}' role='img' aria-label='{html.escape(label, quote=True)}' "
        f"style='--n:{len(frames)};background-image:url({inline(strip(frames))})'></div>"
    )
    return f"<figure>{shown}<figcaption><b>{html.escape(label)}</b>{''.join(under)}</figcaption></figure>"


def verdict(good: bool, text: str) -> str:
    mark, kind = (RIGHT, "good") if good else (WRONG, "bad")
    return f"<span class='verdict {kind}'>{mark} {html.escape(text)}</span>"


def bar(average: Average, unit: str) -> str:
    """How often it is right over the whole set."""
    share = per_hundred(average)
    return f"<span class='bar'><i style='width:{share}%'></i></span>over all {average.count} {unit}: {share} of 100"


def asked(lines: Sequence[str], spans: Sequence[tuple[int, int]] = ()) -> str:
    """What the prompt says. spans: first frame of each line and the first after it, to light up the line while its part
    plays."""
    if not spans:
        return f"<ul class='asked'>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"
    frames, rules, items = spans[-1][1], [], []
    for number, (line, (start, end)) in enumerate(zip(lines, spans)):
        a, b = 100 * start / frames, 100 * end / frames
        lit, dark = "background:color-mix(in srgb, var(--bar) 26%, transparent)", "background:transparent"
        rules.append(
            f"@keyframes told{number} {{ 0%,{a:.2f}% {{ {lit if number == 0 else dark} }} {a + 0.01:.2f}%,{b:.2f}% "
            f"{{ {lit} }} {min(b + 0.01, 100):.2f}%,100% {{ {lit if end == frames else dark} }} }}"
        )
        items.append(f"<li style='--told:told{number}'>{html.escape(line)}</li>")
    return f"<style>{''.join(rules)}</style><ul class='asked timed' style='--n:{frames}'>{''.join(items)}</ul>"


def section(heading: str, what: str, *parts: str) -> str:
    """A row: a heading, what is to be seen, and HTML."""
    return f"<section><h2>{html.escape(heading)}</h2><p>{html.escape(what)}</p>{''.join(parts)}</section>"


def clips(figures: Sequence[str]) -> str:
    return f"<div class='clips'>{''.join(figures)}</div>"


def note(text: str, kind: str = "quiet") -> str:
    return f"<p class='{kind}'>{html.escape(text)}</p>"


def where(nodes: str, workflow: str) -> str:
    """Where a user finds it, in a sentence."""
    return f"In ComfyUI: {nodes}. Template: {NOTES[workflow]['title']}."
