"""Filming the rows of the demo's page on a server."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from ..miniworld.story import Story
from .client import WorkflowError
from .demo_choose import examples
from .demo_page import Page, asked, bar, clip, clips, note, section, verdict, where
from .demo_row import Row, Take
from .media import read_video
from .server import Server


def run(server: Server, title: str, api: dict) -> list[Path]:
    """The files that the server saved; progress in the console."""
    with tqdm(desc=title, unit="step") as progress:

        def step(node: str, value: int, maximum: int) -> None:
            progress.total, progress.n = maximum, value
            progress.refresh()

        return server.run(api, step)


def of_kind(files: list[Path], suffix: str) -> list[Path]:
    return [path for path in files if path.suffix == suffix]


def picture(path: Path) -> Tensor:
    """[1, height, width, 3], 0..1."""
    return pil_to_tensor(Image.open(path).convert("RGB")).movedim(0, -1)[None] / 255


def film_row(server: Server, page: Page, row: Row, place: int) -> dict[str, Tensor]:
    """Adds the row to the page. Returns its clips by their labels. Raises WorkflowError where the server fails."""
    items, example = row.items(), examples()[row.key]
    films: dict[str, Tensor] = {}

    def figures(number: int, only_main: bool = False) -> list[str]:
        item, stills, shot = items[number], [], []
        takes = row.takes(number, item, server.base / "input")
        for take in [takes[row.main]] if only_main else takes:
            frames, pictures = film(server, row, take)
            films.setdefault(take.label, frames)
            stills += [clip(one, label) for one, label in zip(pictures, take.stills)]
            average = [] if only_main or take.average is None else [bar(take.average, row.unit)]
            shot.append(clip(frames, take.label, [verdict(*row.judge(frames, number, item)), *average]))
        return [clip(one.frames, one.label) for one in row.given(number, item)] + stills + shot

    def prompt(number: int) -> str:
        spans = items[number].spans if isinstance(items[number], Story) else ()
        return asked(row.asked(number, items[number]), spans)

    parts = [
        prompt(example.shown),
        clips(figures(example.shown)),
        note(f"The bars: how often {row.measured}. {row.limit}"),
    ]
    how = (
        f"How this was chosen: number {example.shown + 1} of the {len(items)} {row.unit} measured, the first that "
        "comes right only with it."
    )
    if example.failed is not None:
        how += f" Number {example.failed + 1} is the first that it does not get right."
        failing = prompt(example.failed) + clips(figures(example.failed, True))
        parts.append(f"<div class='fails'><h3>One it does not get right</h3>{failing}</div>")
    parts.append(note(f"{how} {where(row.nodes, row.template)}", "how"))
    page.add(f"<div id='{row.key}'>{section(row.title, row.what, *parts)}</div>", place)
    return films


def film(server: Server, row: Row, take: Take) -> tuple[Tensor, list[Tensor]]:
    """The clip of a take, and the pictures that its graph saved."""
    files = run(server, f"{row.title}: {take.label}", take.api)
    return read_video(of_kind(files, ".webp")[0]), [picture(path) for path in of_kind(files, ".png")]


def attempt(page: Page, title: str, place: int, act: Callable):
    """What `act` returns; where the server fails in it, the page says so and None comes back."""
    try:
        return act()
    except WorkflowError as error:
        print(f"{title}: {error}", flush=True)
        page.add(section(title, "This row could not be made.", note(f"failed: {error}", "loud")), place)
        return None
