"""Each workflow ships twice, as a template for the editor and for the API, and both are the same graph."""

import json
import re

import pytest

from semantic_video.cli.layout import NODE, PREVIEW, PREVIEWS, TITLE
from semantic_video.cli.server import ROOT
from semantic_video.cli.ui_format import known_inputs, to_api, to_ui
from semantic_video.cli.workflows import FOLDER, PICTURES, read

NAMES = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))
TEMPLATES, NOTES = read("templates"), read("notes")
SHOWN = 33  # letters of a name that the Templates browser shows on a card


def template(name: str) -> dict:
    return json.loads((FOLDER / f"{TEMPLATES[name]['name']}.json").read_text(encoding="utf-8"))


def test_every_workflow_has_its_template_and_picture():
    titles = sorted(one["name"] for one in TEMPLATES.values())
    assert NAMES == sorted(TEMPLATES) == sorted(NOTES)
    assert titles == sorted(path.stem for path in FOLDER.glob("*.json")) == sorted(p.stem for p in FOLDER.glob("*.jpg"))
    assert len(set(titles)) == len(NAMES)
    for one in TEMPLATES.values():
        assert len(one["name"]) <= SHOWN and not re.search(r'[<>:"/\\|?*#%]', one["name"])
        picture = (FOLDER / f"{one['name']}.jpg").read_bytes()
        assert picture == (PICTURES / f"{one['picture']}.webp").read_bytes()
        assert picture[:4] == b"RIFF" and picture[8:12] == b"WEBP"
    assert sum(path.stat().st_size for path in [*FOLDER.glob("*.jpg"), *PICTURES.iterdir()]) < 2e6


def test_the_readme_names_every_template():
    """Under what somebody would say who needs it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.split("## Which node for which problem", 1)[1].split("\n## ", 1)[0]
    linked = set(re.findall(r"\[([^\]]+)\]\(example_workflows/", table))
    assert linked == {one["name"] for one in TEMPLATES.values()}


def test_templates_lie_in_one_folder_that_all_hosts_ask_for():
    """A second one of the names that hosts accept would list its files as well."""
    assert FOLDER.name == "example_workflows"
    others = (ROOT / other for other in ("example", "examples", "workflow", "workflows"))
    assert [path for folder in others for path in folder.glob("*.json")] == []


@pytest.mark.parametrize("name", NAMES)
def test_twins_are_one_graph(server, name):
    info = server.get("/object_info")
    api = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    if missing := {node["class_type"] for node in api.values()} - info.keys():
        pytest.skip(f"this host has no {', '.join(sorted(missing))}")
    ui = to_api(template(name), info)
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


WITH_PICTURE = {"LoadImage", "LoadVideo", "PreviewImage", "PreviewAny", "SaveImage", "SaveVideo", "SemVidDrift"}


def picture_of(node: dict) -> int:
    return PREVIEWS.get(node["type"], PREVIEW) if node["type"] in WITH_PICTURE else 0


def overlaps(nodes: list[dict]) -> list[tuple[str, str]]:
    """Titles of nodes whose boxes meet once every picture is shown."""
    boxes = []
    for node in nodes:
        (left, top), (width, height) = node["pos"], node["size"]
        boxes.append((node["title"], left, left + width, top - TITLE, top + height + picture_of(node)))
    return [
        (one[0], other[0])
        for i, one in enumerate(boxes)
        for other in boxes[:i]
        if one[1] < other[2] and other[1] < one[2] and one[3] < other[4] and other[3] < one[4]
    ]


@pytest.mark.parametrize("name", NAMES)
def test_no_node_covers_another_when_pictures_are_loaded(name):
    assert overlaps(template(name)["nodes"]) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_node_stands_in_one_group_and_takes_from_the_left(name):
    ui = template(name)
    boxes = [group["bounding"] for group in ui["groups"]]
    assert [group["title"][:2] for group in ui["groups"]] == [f"{i}." for i in range(1, len(boxes) + 1)]
    assert all(left[0] + left[2] < right[0] for left, right in zip(boxes, boxes[1:]))
    stage = {}
    for node in (node for node in ui["nodes"] if node["type"] != "MarkdownNote"):
        (x, y), (width, height) = node["pos"], node["size"]
        height += picture_of(node)
        [stage[node["id"]]] = [
            number
            for number, (left, top, wide, high) in enumerate(boxes)
            if left < x and x + width < left + wide and top < y - TITLE and y + height < top + high
        ]
    assert all(stage[source] <= stage[target] for _, source, _, target, _, _ in ui["links"])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_lies_below_a_loaded_video(name):
    """Newer editors give an upright video as much height as it asks for."""
    nodes = template(name)["nodes"]
    for node in (node for node in nodes if node["type"] == "LoadVideo"):
        below = [one for one in nodes if abs(one["pos"][0] - node["pos"][0]) < NODE and one["pos"][1] > node["pos"][1]]
        assert below == []


def test_a_covered_node_is_found():
    def node(kind, title, y):
        return {"type": kind, "title": title, "pos": [0, y], "size": [380, 100]}

    assert overlaps([node("LoadImage", "a", 0), node("VAELoader", "b", 379)]) == [("b", "a")]
    assert overlaps([node("LoadImage", "a", 0), node("VAELoader", "b", 380)]) == []
    assert overlaps([node("VAELoader", "a", 0), node("VAELoader", "b", 130)]) == []


@pytest.mark.parametrize("name", NAMES)
def test_notes_name_what_is_there(name):
    """**Titles** of nodes, and `inputs`; `words:` with a colon are what to type. The shipped file holds the note."""
    api = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    text = f"{NOTES[name]['change']} {NOTES[name]['expect']}"
    assert set(re.findall(r"\*\*(.+?)\*\*", text)) <= {node["_meta"]["title"] for node in api.values()}
    assert set(re.findall(r"`(\w+)`", text)) <= {key for node in api.values() for key in node["inputs"]}
    nodes = template(name)["nodes"]
    written = {node["title"]: node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote"}
    about = written[NOTES[name]["title"]]
    assert about.startswith(TEMPLATES[name]["does"])
    assert NOTES[name]["change"] in about and NOTES[name]["expect"] in about
    assert {word for word in re.findall(r"'([^']{10,33})'", text)} <= {one["name"] for one in TEMPLATES.values()}
