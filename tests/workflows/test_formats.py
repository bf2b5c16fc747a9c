"""Each workflow ships twice, for the editor and for the API, and both are the same graph."""

import json
import re

import pytest

from semantic_video.cli.server import ROOT
from semantic_video.cli.ui_format import known_inputs, to_api, to_ui

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
    if missing := {node["class_type"] for node in api.values()} - info.keys():
        pytest.skip(f"this host has no {', '.join(sorted(missing))}")
    ui = to_api(json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8")), info)
    names = dict(zip(ui, api))  # the editor numbers what the API file names
    for number, node in ui.items():
        node["inputs"] = {
            key: [names[value[0]], value[1]] if isinstance(value, list) else value
            for key, value in node["inputs"].items()
        }
        named = api[names[number]]
        assert node == named | {"inputs": known_inputs(named, info)}


@pytest.mark.parametrize("name", NAMES)
def test_savers_speak_to_old_and_new_hosts(name):
    """ComfyUI 0.29 asks for `codec`; 0.33 for `format.codec`, the codec of the chosen format."""
    api = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for node in (node for node in api.values() if node["class_type"] == "SaveVideo"):
        assert node["inputs"]["codec"] == node["inputs"]["format.codec"]


def test_nested_and_hidden_inputs():
    """A combo whose option h264 has a quality, and the plain input of older files, kept but hidden."""

    def codec(**more):
        options = [{"key": "auto", "inputs": {}}, {"key": "h264", "inputs": {"optional": {"crf": ["FLOAT", {}]}}}]
        return ["COMFY_DYNAMICCOMBO_V3", {"options": options} | more]

    formats = ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "mp4", "inputs": {"required": {"codec": codec()}}}]}]
    new = {"required": {"format": formats}, "optional": {"codec": codec(hidden=True)}}
    old = {"required": {"format": ["COMBO", {}], "codec": ["COMBO", {}]}}
    hosts = [{"Save": {"input": spec, "output": [], "output_name": [], "output_node": True}} for spec in (new, old)]
    values = {"format": "mp4", "format.codec": "h264", "format.codec.crf": 21.0, "codec": "auto"}
    api = {"save": {"class_type": "Save", "inputs": values, "_meta": {"title": "Save"}}}
    written = [to_ui(api, host, {})["nodes"][0] for host in hosts]
    assert [node["widgets_values"] for node in written] == [["mp4", "h264", 21.0], ["mp4", "auto"]]
    assert [node["inputs"] for node in written] == [[], []]
    for host, expected in zip(hosts, (values, {"format": "mp4", "codec": "auto"})):
        assert known_inputs(api["save"], host) == expected
        assert to_api(to_ui(api, host, {}), host)["1"]["inputs"] == expected


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


TITLE, PICTURE = 30, 250  # px: the bar above a node's body; a picture or video below its widgets
WITH_PICTURE = {"LoadImage", "LoadVideo", "PreviewImage", "PreviewAny", "SaveImage", "SaveVideo", "SemVidDrift"}


def overlaps(nodes: list[dict]) -> list[tuple[str, str]]:
    """Titles of nodes whose boxes meet once every picture is shown."""
    boxes = []
    for node in nodes:
        (left, top), (width, height) = node["pos"], node["size"]
        picture = PICTURE if node["type"] in WITH_PICTURE else 0
        boxes.append((node["title"], left, left + width, top - TITLE, top + height + picture))
    return [
        (one[0], other[0])
        for i, one in enumerate(boxes)
        for other in boxes[:i]
        if one[1] < other[2] and other[1] < one[2] and one[3] < other[4] and other[3] < one[4]
    ]


@pytest.mark.parametrize("name", NAMES)
def test_no_node_covers_another_when_pictures_are_loaded(name):
    ui = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    assert overlaps(ui["nodes"]) == []


def test_a_covered_node_is_found():
    def node(kind, title, y):
        return {"type": kind, "title": title, "pos": [0, y], "size": [380, 100]}

    assert overlaps([node("LoadImage", "a", 0), node("VAELoader", "b", 379)]) == [("b", "a")]
    assert overlaps([node("LoadImage", "a", 0), node("VAELoader", "b", 380)]) == []
    assert overlaps([node("VAELoader", "a", 0), node("VAELoader", "b", 130)]) == []


NOTES = json.loads((ROOT / "cli" / "notes.json").read_text(encoding="utf-8"))


def test_every_workflow_has_a_note_and_every_note_a_workflow():
    assert sorted(NOTES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_notes_name_what_is_there(name):
    """**Titles** of nodes, and `inputs`; `words:` with a colon are what to type. The shipped file holds the note."""
    api = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    text = f"{NOTES[name]['change']} {NOTES[name]['expect']}"
    assert set(re.findall(r"\*\*(.+?)\*\*", text)) <= {node["_meta"]["title"] for node in api.values()}
    assert set(re.findall(r"`(\w+)`", text)) <= {key for node in api.values() for key in node["inputs"]}
    ui = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    written = {node["title"]: node["widgets_values"][0] for node in ui["nodes"] if node["type"] == "MarkdownNote"}
    about = written[NOTES[name]["title"]]
    assert NOTES[name]["change"] in about and NOTES[name]["expect"] in about
