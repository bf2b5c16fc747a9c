"""run.py workflows: rebuilds workflows/*.json (for the graph editor) and their pictures from workflows/api/*.json
and cli/notes.json, which people edit."""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from .hosts import require_host
from .ui_format import NOTE, to_ui

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "workflows"
COLOURS = {
    "MODEL": "#b39ddb",
    "CLIP": "#ffd500",
    "VAE": "#ff6e6e",
    "CONDITIONING": "#ffa931",
    "LATENT": "#ff9cf9",
    "IMAGE": "#64b5f6",
    "VIDEO": "#9575cd",
}


def parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog="run.py workflows", description=__doc__)


def main(arguments: list[str]) -> int:
    parser().parse_args(arguments)
    host = require_host(ROOT)
    from .server import Server

    models = json.loads((ROOT / "cli" / "checkpoints.json").read_text(encoding="utf-8"))
    notes = json.loads((ROOT / "cli" / "notes.json").read_text(encoding="utf-8"))
    with TemporaryDirectory() as base, Server(host, Path(base)) as server:
        object_info = server.get("/object_info")
    for path in sorted((FOLDER / "api").glob("*.json")):
        api = json.loads(path.read_text(encoding="utf-8"))
        ui = to_ui(api, object_info, {model["name"]: model for model in models}, notes[path.stem])
        target = FOLDER / path.name
        target.write_text(json.dumps(ui, indent=1) + "\n", encoding="utf-8")
        draw(ui).save(target.with_suffix(".jpg"), quality=85)
        print(f"{target.relative_to(ROOT)}: {len(ui['nodes'])} nodes")
    return 0


def draw(ui: dict, scale: float = 0.5):
    """The graph as people see it in the editor, roughly: a PIL image."""
    from PIL import Image, ImageDraw, ImageFont

    nodes = [n for n in ui["nodes"] if n["type"] != NOTE]
    right, bottom = (max(n["pos"][i] + n["size"][i] for n in nodes) for i in (0, 1))
    picture = Image.new("RGB", (int((right + 80) * scale), int((bottom + 100) * scale)), "#202020")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    at = {n["id"]: (n["pos"][0] + 40, n["pos"][1] + 60, n) for n in nodes}

    def place(x: float, y: float) -> tuple[float, float]:
        return x * scale, y * scale

    def slot(node: int, row: int, output: bool) -> tuple[float, float]:
        x, y, n = at[node]
        return place(x + (n["size"][0] if output else 0), y + 14 + row * 26)

    for _, source, output, target, row, kind in ui["links"]:
        (x0, y0), (x1, y1) = slot(source, output, True), slot(target, row, False)
        bend = max(20, abs(x1 - x0) / 2)
        steps = [i / 24 for i in range(25)]
        curve = [
            (
                (1 - t) ** 3 * x0 + 3 * (1 - t) ** 2 * t * (x0 + bend) + 3 * (1 - t) * t * t * (x1 - bend) + t**3 * x1,
                (1 - t) ** 2 * (1 + 2 * t) * y0 + t * t * (3 - 2 * t) * y1,
            )
            for t in steps
        ]
        pen.line(curve, fill=COLOURS.get(kind, "#9a9a9a"), width=2)
    for x, y, node in at.values():
        ours = node["type"].startswith("SemVid")
        box = (*place(x, y - 28), *place(x + node["size"][0], y + node["size"][1]))
        pen.rounded_rectangle(box, 5, fill="#2f4a3a" if ours else "#353535", outline="#101010")
        pen.text(place(x + 10, y - 24), node["title"], font=font, fill="#e8e8e8")
        lines = [str(value).replace("\n", " ") for value in node["widgets_values"] if value not in (None, "")]
        for row, line in enumerate(lines[:12]):
            text = line if len(line) < 30 else line[:28] + ".."
            pen.text(place(x + 10, y + (len(node["inputs"]) + row) * 26), text, font=font, fill="#a8a8a8")
    return picture
