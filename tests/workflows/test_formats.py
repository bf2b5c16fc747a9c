"""Each workflow ships twice, for the editor and for the API, and both are the same graph."""

import json

import pytest

from semantic_video.cli.server import ROOT
from semantic_video.cli.ui_format import to_api

NAMES = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))


def test_every_workflow_has_its_twin_and_picture():
    folder = ROOT / "workflows"
    assert NAMES
    assert (
        sorted(path.stem for path in folder.glob("*.json"))
        == sorted(path.stem for path in folder.glob("*.jpg"))
        == NAMES
    )


@pytest.mark.parametrize("name", NAMES)
def test_twins_are_one_graph(server, name):
    info = server.get("/object_info")
    api = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    ui = to_api(json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8")), info)
    names = dict(zip(ui, api))  # the editor numbers what the API file names
    for number, node in ui.items():
        node["inputs"] = {
            key: [names[value[0]], value[1]] if isinstance(value, list) else value
            for key, value in node["inputs"].items()
        }
        assert node == api[names[number]]


@pytest.mark.parametrize("name", NAMES)
def test_files_are_named_with_where_to_get_them(name):
    api = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    known = {model["name"] for model in json.loads((ROOT / "cli" / "checkpoints.json").read_text(encoding="utf-8"))}
    assert {
        value
        for node in api.values()
        for value in node["inputs"].values()
        if isinstance(value, str) and value.endswith(".safetensors")
    } <= known
