"""run.py workflows: rebuilds the templates of example_workflows/ (for the graph editor, with their pictures) and the
blueprints of subgraphs/ from workflows/api/*.json, cli/notes.json and cli/templates.json, which people edit."""

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from .blueprints import BLUEPRINTS, blueprint
from .costs import in_words
from .hosts import require_host
from .ui_format import files_of, to_ui

ROOT = Path(__file__).resolve().parent.parent
API, FOLDER, SUBGRAPHS = ROOT / "workflows" / "api", ROOT / "example_workflows", ROOT / "subgraphs"
PICTURES = ROOT / "docs" / "pictures"
THUMBNAIL = (
    "The picture in the Templates browser is from this pack's mini model with the same technique: it shows what the "
    "technique does, not what this checkpoint makes."
)


def parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog="run.py workflows", description=__doc__)


def read(name: str):
    return json.loads((ROOT / "cli" / f"{name}.json").read_text(encoding="utf-8"))


def template_of(stem: str) -> dict:
    """{"name": its file's and so its name in the Templates browser, "picture": of docs/pictures, "does": a sentence,
    "shows": what is said about the picture where THUMBNAIL does not hold}"""
    return read("templates")[stem]


def about(stem: str, api: dict, models: dict[str, dict]) -> dict:
    """The note that a template opens with."""
    note, template = read("notes")[stem], template_of(stem)
    files = [file for node in api.values() for file in files_of(node, models)]
    lines = [
        template["does"],
        f"**Change first:** {note['change']}",
        f"**Expect:** {note['expect']}",
        in_words(api, files),
        template.get("shows", THUMBNAIL),
    ]
    return {"title": note["title"], "text": "\n\n".join(line for line in lines if line)}


def main(arguments: list[str]) -> int:
    parser().parse_args(arguments)
    host = require_host(ROOT)
    from .server import Server

    models = {model["name"]: model for model in read("checkpoints")}
    with TemporaryDirectory() as base, Server(host, Path(base)) as server:
        object_info = server.get("/object_info")
    for folder in (FOLDER, SUBGRAPHS):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for path in sorted(API.glob("*.json")):
        api = json.loads(path.read_text(encoding="utf-8"))
        ui = to_ui(api, object_info, models, about(path.stem, api, models))
        template = template_of(path.stem)
        target = FOLDER / f"{template['name']}.json"
        target.write_text(json.dumps(ui, indent=1) + "\n", encoding="utf-8")
        shutil.copyfile(PICTURES / f"{template['picture']}.webp", FOLDER / f"{template['name']}.jpg")
        print(f"{target.relative_to(ROOT)}: {len(ui['nodes'])} nodes")
    for made in BLUEPRINTS:
        api = json.loads((API / f"{made.source}.json").read_text(encoding="utf-8"))
        target = SUBGRAPHS / f"{made.name}.json"
        target.write_text(json.dumps(blueprint(made, api, object_info), indent=1) + "\n", encoding="utf-8")
        print(target.relative_to(ROOT))
    return 0
