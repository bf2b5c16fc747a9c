"""The demo's page: written anew after every section, beside the page of the run before, which stays until this one is
whole."""

import html
import shutil
from pathlib import Path

MEDIA = (".mp4", ".webm", ".webp", ".png", ".html")


class Page:
    """`folder`/index.html and its pictures. They come into being in `folder`/unfinished (`self.files`); `publish` puts
    them in place."""

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
        (self.files / "index.html").write_text(PAGE.format(body=body), encoding="utf-8")

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
        if not (self.folder / "index.html").exists():
            self.say("This run of the demo was interrupted; what it had made until then is below.")
            return f"Interrupted. What there was until then: {self.publish()}"
        self.say("This run of the demo was interrupted; what it had made until then is below.")
        return (
            f"Interrupted. The page of the run before stays at {self.folder / 'index.html'}; what this one had made is "
            f"in {self.files / 'index.html'}"
        )


def card(media: str, title: str, said: str) -> str:
    """A figure of a file beside the page (none: only text), a title and what is said about it, line by line."""
    shown = {
        "": "",
        ".webp": f"<img src='{media}'>",
    }.get(Path(media).suffix, f"<video src='{media}' autoplay loop muted controls></video>")
    lines = html.escape(said).replace("\n", "<br>")
    return f"<figure>{shown}<figcaption><b>{html.escape(title)}</b><br>{lines}</figcaption></figure>"


def section(heading: str, note: str, cards: list[str], sheet: str = "") -> str:
    """A heading, what is to be seen, the cards in a row, and under them a contact sheet (a file beside the page)."""
    picture = f"<img src='{sheet}' alt='{html.escape(heading)}'>" if sheet else ""
    row = f"<div class='row'>{''.join(cards)}</div>" if cards else ""
    return f"<h2>{html.escape(heading)}</h2><p>{html.escape(note)}</p>{row}{picture}"


PAGE = """<!doctype html><meta charset="utf-8"><title>semantic-video demo</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1220px; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fafafa }}
.row {{ display: flex; flex-wrap: wrap; gap: 1rem; margin-bottom: 1rem }}
figure {{ margin: 0; max-width: 512px }} figcaption {{ font-size: 14px; width: 0; min-width: 100% }}
figure video, figure img {{ min-width: 250px; image-rendering: pixelated; background: #000 }}
img {{ max-width: 100% }} .loud {{ background: #ffe08a; padding: 1rem }}
</style>
<h1>semantic-video</h1>
{body}
"""
