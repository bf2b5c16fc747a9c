"""Filming the rows of the demo's page on a server."""

import html
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from ..harness.stand_in_models import load_workflow, on_minis
from ..miniworld.caption import caption
from ..miniworld.story import Story
from .demo_choose import examples
from .demo_figures import in_table
from .demo_page import Page, asked, bar, clip, clips, inline, note, section, verdict
from .demo_row import Row, Take
from .demo_rows import LONG, Heed, save_frame
from .media import read_video, write_video
from .server import Server, WorkflowError
from .variants import seeded

BORDERS = "21, 45, 69"  # frames of a video of 93 at which windows of 6 latent frames meet


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
        note(f"The bars: how often {row.measured}."),
        note(row.limit),
    ]
    how = (
        f"How this was chosen: number {example.shown + 1} of the {len(items)} {row.unit} measured, the first that "
        "comes right only with it."
    )
    if example.failed is not None:
        how += f" Number {example.failed + 1} is the first that does not."
        failing = prompt(example.failed) + clips(figures(example.failed, True))
        parts.append(f"<div class='fails'><h3>One it does not get right</h3>{failing}</div>")
    parts += [note(how, "how"), note(f"In ComfyUI: {row.nodes}.", "how")]
    page.add(f"<div id='{row.key}'>{section(row.title, row.what, *parts)}</div>", place)
    return films


def film(server: Server, row: Row, take: Take) -> tuple[Tensor, list[Tensor]]:
    """The clip of a take, and the pictures that its graph saved."""
    files = run(server, f"{row.title}: {take.label}", take.api)
    return read_video(of_kind(files, ".webp")[0]), [picture(path) for path in of_kind(files, ".png")]


def film_maps(server: Server, page: Page, place: int) -> None:
    """Attention Maps of the first scene of one thing."""
    scene = next(scene for scene in Heed().items() if len(scene.things) == 1)
    thing, text = scene.things[0], caption(scene)
    words = [thing.colour, thing.shape]
    api = on_minis(
        load_workflow("focal_probe_attention_maps"),
        image={"image": save_frame(scene, server.base / "input" / "maps.png")},
        text={"value": text},
        maps={"words": ", ".join(words)},
    )
    api["plain"] = {
        **api["save"],
        "inputs": api["save"]["inputs"] | {"images": ["decode", 0], "filename_prefix": "plain"},
    }
    files = of_kind(run(server, "Where words look", seeded(api, 0)), ".webp")
    plain, maps = (sorted(f for f in files if f.name.startswith("plain") is wanted) for wanted in (True, False))
    labels = ["The video", *(f'Where "{word}" is listened to' for word in words)]
    shown = [clip(read_video(path), label) for path, label in zip(plain + maps, labels)]
    what = "For any word of the prompt, the parts of the video that listen to it: red most, blue least."
    limit = (
        "The maps are as coarse as the model's own grid, here 4 x 4. They are for finding settings and making masks, "
        "not for better videos."
    )
    how = "How this was chosen: the first picture of one thing among those of the row on prompts."
    parts = [asked([text]), clips(shown), note(limit), note(how, "how"), note("In ComfyUI: Attention Maps.", "how")]
    page.add(f"<div id='maps'>{section('Where a word is listened to', what, *parts)}</div>", place)


def film_drift(server: Server, page: Page, films: dict[str, Tensor], place: int) -> None:
    """Drift Report on the clips of the row on long videos: the second, and the last."""
    plots = []
    for number, label in enumerate(list(films)[1:3]):
        write_video(server.base / "input" / f"drift-{number}.mp4", films[label])
        api = on_minis(load_workflow("drift_report"), load={"file": f"drift-{number}.mp4"}, drift={"borders": BORDERS})
        [saved] = of_kind(run(server, f"Drift Report: {label}", api), ".png")
        alt = html.escape(f"Drift Report of: {label}", quote=True)
        plot = f"<img class='plot' alt='{alt}' src='{inline(Image.open(saved))}'>"
        plots.append(f"<figure class='wide'>{plot}<figcaption><b>{html.escape(label)}</b></figcaption></figure>")
    jumps = [in_table("long-4x", "seam", variant) for variant in (1, 4)]
    measured = (
        f"Over {jumps[0].count} prompts the jump at the red lines is {jumps[0].value:.1f} times a usual step in the "
        f"first kind, and {jumps[1].value:.1f} times in the second (median)."
    )
    what = (
        "Does a long video fade, freeze, loop or jump? Numbers and a plot for any video. Here two clips of the row on "
        f"long videos, {LONG} frames: red lines are where the parts of the first meet."
    )
    parts = [
        f"<div class='plots'>{''.join(plots)}</div>",
        note(measured),
        note("The numbers hold no judgement: a frozen video drifts least."),
        note("In ComfyUI: Drift Report.", "how"),
    ]
    page.add(f"<div id='drift'>{section('What a long video loses on its way', what, *parts)}</div>", place)


def attempt(page: Page, title: str, place: int, act: Callable):
    """What `act` returns; where the server fails in it, the page says so and None comes back."""
    try:
        return act()
    except WorkflowError as error:
        print(f"{title}: {error}", flush=True)
        page.add(section(title, "This row could not be made.", note(f"failed: {error}", "loud")), place)
        return None
