"""ComfyUI's two workflow formats: the API's (inputs by name) and the graph editor's (nodes, places, widget values in
order)."""

import re
from collections import defaultdict

from .layout import LINE, NODE, ROW_GAP, place

DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
SEED_CONTROL = ("seed", "noise_seed")  # the editor puts a "control after generate" widget behind these
NOTE = "MarkdownNote"
NOTE_WIDTH, NOTE_LINE, NOTE_LETTERS = 460, 17, 72  # px, px, letters of a line


def declared(info: dict) -> dict[str, list]:
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def is_widget(spec: list) -> bool:
    options = spec[1] if len(spec) > 1 else {}
    kind = options.get("widgetType", spec[0])  # where links of several types may take its place
    return (
        isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC)
    ) and not options.get("forceInput")


def is_hidden(spec: list) -> bool:
    """Declared for files of older hosts only: the editor shows no widget, and sends the default."""
    return bool((spec[1] if len(spec) > 1 else {}).get("hidden"))


def default_of(spec: list):
    options = spec[1] if len(spec) > 1 else {}
    return options["options"][0]["key"] if spec[0] == DYNAMIC else options.get("default")


def widgets_of(inputs: dict[str, list], values: dict, parent: str = "") -> dict[str, list]:
    """Widgets of a node in the editor's order, with their declarations. A dynamic combo is followed by the inputs of
    its chosen option, which the API names "combo.input"."""
    widgets = {}
    for short, spec in inputs.items():
        name = parent + short
        if is_widget(spec) and not is_hidden(spec):
            widgets[name] = spec
            if spec[0] == DYNAMIC:
                options = spec[1]["options"]
                chosen = next((o for o in options if o["key"] == values.get(name)), options[0])
                widgets |= widgets_of(declared({"input": chosen["inputs"]}), values, f"{name}.")
    return widgets


def known_inputs(node: dict, object_info: dict) -> dict:
    """The inputs of an API node less those written for another host: "combo.input" where "combo" is no such combo."""
    specs = declared(object_info[node["class_type"]])
    nested = {name for name, spec in specs.items() if spec[0] == DYNAMIC}
    return {k: v for k, v in node["inputs"].items() if "." not in k or k.split(".")[0] in nested}


def previews(info: dict) -> bool:
    """Whether the editor shows a picture, video or text below the node's widgets: files that are uploaded, results."""
    uploads = {"image_upload", "video_upload", "file_upload"}
    return info["output_node"] or any(uploads & set(spec[1]) for spec in declared(info).values() if len(spec) > 1)


def to_ui(api: dict, object_info: dict, models: dict[str, dict], about: dict | None = None) -> dict:
    """API format -> editor format 0.4, with a note on the files it needs.

    models: file name -> {"name", "url", "directory"}; the editor offers such downloads for files that are missing, save
    those with a "note".
    about: {"title", "change", "expect"}, a second note that says what to change first and what to expect.
    """
    numbers = {node_id: i for i, node_id in enumerate(api, start=1)}
    nodes, links = [], []
    outgoing = defaultdict(list)
    for node_id, node in api.items():
        info = object_info[node["class_type"]]
        specs = declared(info)
        widgets = widgets_of(specs, node["inputs"])
        inputs = []
        for name, spec in specs.items():
            value = node["inputs"].get(name)
            linked = isinstance(value, list)
            if is_widget(spec) and not linked:
                continue
            slot = {"name": name, "type": spec[0], "link": None}
            if linked:
                source, output = value
                kind = object_info[api[source]["class_type"]]["output"][output]
                slot |= {"link": len(links) + 1, "type": kind}
                links.append([len(links) + 1, numbers[source], output, numbers[node_id], len(inputs), kind])
                outgoing[source, output].append(slot["link"])
                if name in widgets:
                    slot["widget"] = {"name": name}
            inputs.append(slot)
        values = []
        for name, spec in widgets.items():
            value = node["inputs"].get(name, default_of(spec))
            values.append(default_of(spec) if isinstance(value, list) else value)
            if name in SEED_CONTROL:
                values.append("fixed")
        texts = sum(len(spec) > 1 and bool(spec[1].get("multiline")) for spec in widgets.values())
        rows = max(len(inputs), len(info["output"])) + len(values) + 1
        size = [NODE, max(2, rows) * LINE + (110 * texts or 30)]
        nodes.append(
            {
                "id": numbers[node_id],
                "type": node["class_type"],
                "title": node["_meta"]["title"],
                "pos": [0, 0],
                "size": size,
                "flags": {},
                "order": 0,
                "mode": 0,
                "inputs": inputs,
                "outputs": [
                    {"name": name, "type": kind, "slot_index": i, "links": []}
                    for i, (name, kind) in enumerate(zip(info["output_name"], info["output"]))
                ],
                "properties": {"Node name for S&R": node["class_type"]}
                | (
                    {"cnr_id": "semantic-video"}
                    if node["class_type"].startswith("SemVid")
                    else {"cnr_id": "comfy-core"}
                )
                | ({"models": found} if (found := downloads(node, models)) else {}),
                "widgets_values": values,
            }
        )
    for node_id, node in zip(api, nodes):
        for i, output in enumerate(node["outputs"]):
            output["links"] = outgoing[node_id, i]
    shown = {node_id for node_id, node in api.items() if previews(object_info[node["class_type"]])}
    groups = place(api, dict(zip(api, nodes)), shown)
    needed = [
        f"- `models/{m['directory']}/` [{m['name']}]({m['url']})" + (f": {m['note']}" if "note" in m else "")
        for node in api.values()
        for m in files_of(node, models)
    ]
    top = 0
    for title, text in ([(about["title"], about["text"])] if about else []) + [
        ("Files this needs", "\n".join(needed) or "none")
    ]:
        nodes.append(note(len(nodes) + 1, top, title, text))
        top += nodes[-1]["size"][1] + ROW_GAP
    return {
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": groups,
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def files_of(node: dict, models: dict[str, dict]) -> list[dict]:
    return [models[value] for value in node["inputs"].values() if isinstance(value, str) and value in models]


def downloads(node: dict, models: dict[str, dict]) -> list[dict]:
    """What the editor offers to download: less what a person must make, and our own notes."""
    return [{key: m[key] for key in ("name", "directory", "url")} for m in files_of(node, models) if "note" not in m]


def note(number: int, top: int, title: str, text: str) -> dict:
    """Left of all else, high enough for its text."""
    links = re.sub(r"\]\([^)]*\)", "]", text)
    lines = sum(1 + len(line) // NOTE_LETTERS for line in links.split("\n"))
    return {
        "id": number,
        "type": NOTE,
        "title": title,
        "pos": [-NOTE_WIDTH - 60, top],
        "size": [NOTE_WIDTH, 80 + NOTE_LINE * lines],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": [text],
    }


def to_api(ui: dict, object_info: dict) -> dict:
    """What the editor sends when such a graph is queued; node ids become strings of numbers."""
    sources = {link[0]: [str(link[1]), link[2]] for link in ui["links"]}
    api = {}
    for node in (node for node in ui["nodes"] if node["type"] != NOTE):
        values = list(node["widgets_values"])
        specs, inputs = declared(object_info[node["type"]]), {}
        while remaining := [name for name in widgets_of(specs, inputs) if name not in inputs]:
            inputs[remaining[0]] = values.pop(0)
            if remaining[0] in SEED_CONTROL:
                values.pop(0)
        if values:
            raise ValueError(f"{node['type']}: {len(values)} widget values too many: {values}")
        inputs |= {name: default_of(spec) for name, spec in specs.items() if is_widget(spec) and is_hidden(spec)}
        inputs |= {slot["name"]: sources[slot["link"]] for slot in node["inputs"] if slot["link"] is not None}
        api[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": node["title"]}}
    return api
