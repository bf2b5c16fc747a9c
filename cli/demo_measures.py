"""The rows of the demo's page on what measures a video: Attention Maps, and Drift Report."""

import html
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..harness.stand_in_models import load_workflow, on_minis
from ..miniworld.caption import caption
from ..miniworld.guards import identity_drift
from ..miniworld.oracle import judge
from ..miniworld.scene import Scene
from .demo_choose import examples
from .demo_figures import in_table, map_fits, of_maps, per_hundred
from .demo_film import of_kind, run
from .demo_page import Page, asked, clip, clips, inline, note, section, where
from .demo_row import Row, Take, Verdict
from .demo_rows import HALF, Heed, said, save_frame
from .media import read_video, write_video
from .server import Server
from .variants import seeded

MELTED = 0.1  # identity drift from which a thing is no longer what it was; rendered videos have 0.07 on average
BORDERS = "21, 45, 69"  # frames of a video of 93 at which windows of 6 latent frames meet


class Maps(Row):
    """Drawn from the set on which prompts are measured. The clip is judged; of its maps, what the benchmark noted."""

    key, needs, nodes, template = "maps", ("i2v",), "Attention Maps", "focal_probe_attention_maps"
    title = "Where a word is listened to"
    what = "For any word of the prompt, the parts of the video that listen to it: red most, blue least."
    limit = (
        "The maps are as coarse as the model's own grid, here 4 x 4. They are for finding settings and making masks, "
        "not for better videos."
    )

    def items(self) -> list[Scene]:
        return [scene for scene in Heed().items() if len(scene.things) == 1]

    def asked(self, number: int, item: Scene) -> list[str]:
        return [caption(item)]

    def takes(self, number: int, item: Scene, inputs: Path) -> list[Take]:
        api = on_minis(
            load_workflow(self.template),
            image={"image": save_frame(item, inputs / f"maps-{number}.png")},
            text={"value": caption(item)},
            maps={"words": ", ".join(self.words(item))},
        )
        # "clip" sorts before the maps, which are saved as "mini"
        changed = {"images": ["decode", 0], "filename_prefix": "clip"}
        api["plain"] = {**api["save"], "inputs": api["save"]["inputs"] | changed}
        return [Take("The video", seeded(api, 1000 * number))]

    def judge(self, frames: Tensor, number: int, item: Scene) -> Verdict:
        scores = judge(frames, caption(item))
        whole = scores["object"] > HALF and identity_drift(frames) < MELTED
        return Verdict(said(scores).good and whole and map_fits(number, HALF), "")

    def words(self, item: Scene) -> list[str]:
        return [item.things[0].colour, item.things[0].shape]


def film_maps(server: Server, page: Page, place: int) -> None:
    row, number = Maps(), examples()["maps"].shown
    items = row.items()
    [take] = row.takes(number, items[number], server.base / "input")
    files = sorted(of_kind(run(server, row.title, take.api), ".webp"))
    labels = [take.label, *(f'Where "{word}" is listened to' for word in row.words(items[number]))]
    shown = [clip(read_video(path), label) for path, label in zip(files, labels)]
    colour, shape, blind = (of_maps(name) for name in ("colour", "shape", "blindly"))
    measured = (
        f"Over {colour.count} prompts the reddest place lies on the thing in {per_hundred(colour)} of 100 frames for "
        f"its colour, in {per_hundred(shape)} for its shape; a place picked blindly, in {per_hundred(blind)}."
    )
    how = (
        f"How this was chosen: number {number + 1} of the {len(items)} prompts of one thing in the row on prompts. "
        f"{where(row.nodes, row.template)}"
    )
    parts = [asked(row.asked(number, items[number])), clips(shown), note(f"{measured} {row.limit}"), note(how, "how")]
    page.add(f"<div id='{row.key}'>{section(row.title, row.what, *parts)}</div>", place)


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
        "long videos: red lines are where the parts of the first meet."
    )
    parts = [
        f"<div class='plots'>{''.join(plots)}</div>",
        note(f"{measured} The numbers hold no judgement: a frozen video drifts least."),
        note(where("Drift Report", "drift_report"), "how"),
    ]
    page.add(f"<div id='drift'>{section('What a long video loses on its way', what, *parts)}</div>", place)
