"""Subgraph blueprints: chains of nodes that people use often, as one node of the editor's node library."""

import uuid
from dataclasses import dataclass

from .ui_format import declared, default_of, to_ui

LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
INPUT, OUTPUT = -10, -20  # ids of the nodes that stand for the outside
NAMESPACE = uuid.UUID("7f1c5b0e-6a0e-4d0c-9b1e-5e3f6f0a1b2c")  # so that a rebuilt file has the ids it had


@dataclass(frozen=True)
class Blueprint:
    """source: stem of the workflow that holds the chain; nodes: its names there. What they take from other nodes
    becomes an input. widgets: (node, input, label) shown on the blueprint's node; outputs: (node, number, name)."""

    name: str
    description: str
    source: str
    nodes: tuple[str, ...]
    widgets: tuple[tuple[str, str, str], ...]
    outputs: tuple[tuple[str, int, str], ...]
    aliases: tuple[str, ...] = ()
    values: tuple[tuple[str, str, object], ...] = ()  # (node, input, value) in place of the workflow's


BLUEPRINTS = (
    Blueprint(
        "Long video of several events (Semantic Video)",
        "Prompts for spans of time, and windows that follow them: a long video that tells a story. Put it between the "
        "model loader and the sampler; the positive prompt comes out of it.",
        "story_timeline_wan21",
        ("timeline", "swin"),
        (("timeline", "text", "prompts"), ("timeline", "fps", "fps"), ("swin", "window", "window")),
        (("swin", 0, "model"), ("timeline", 1, "positive")),
        ("prompt travel", "long video", "context windows", "timeline"),
    ),
    Blueprint(
        "Tell the model what to attend to (Semantic Video)",
        "Finds what a text names in a picture, greys out the rest, and lets the image branch of Wan 2.1 I2V look at "
        "that. Look at the heat map first: where it misses the thing, the video is told the wrong one.",
        "ssg_i2v_visual_prompt_wan",
        ("mask", "visual_prompt", "see_prompt", "apply"),
        (("mask", "text", "what"), ("visual_prompt", "style", "style"), ("apply", "strength", "strength")),
        (("apply", 0, "model"), ("mask", 0, "mask"), ("mask", 1, "heat map")),
        ("visual prompt", "SSG", "spatial prompting", "mask from text"),
    ),
    Blueprint(
        "Image to video that follows its prompt (Semantic Video)",
        "Text Contrast and Focal Guidance: the prompt made stronger inside the model, at CFG 1 too. Name words of the "
        "prompt as keywords. For Wan 2.2 one for each expert.",
        "focal_i2v_wan22_lightning",
        ("contrast_high", "focal_high"),
        (
            ("focal_high", "text", "prompt"),
            ("focal_high", "keywords", "keywords"),
            ("focal_high", "keyword_weight", "keyword weight"),
            ("contrast_high", "strength", "text contrast"),
        ),
        (("focal_high", 0, "model"),),
        ("prompt adherence", "prompt following", "CFG 1", "Lightning"),
        (("focal_high", "keywords", ""),),
    ),
)


def blueprint(made: Blueprint, api: dict, object_info: dict) -> dict:
    """The file of subgraphs/ for a chain of `api`."""
    part, outside = {}, {}
    for name in made.nodes:
        kept = {}
        for key, value in api[name]["inputs"].items():
            if isinstance(value, list) and value[0] not in made.nodes:
                outside.setdefault(tuple(value), []).append((name, key))
            else:
                kept[key] = value
        kept |= {key: value for node, key, value in made.values if node == name}
        title = object_info[api[name]["class_type"]]["display_name"]
        part[name] = {"class_type": api[name]["class_type"], "inputs": kept, "_meta": {"title": title}}
    shown = {(node, key) for node, key, _ in made.widgets}
    outside = {where: [one for one in ends if one not in shown] for where, ends in outside.items()}
    ui = to_ui(part, object_info, {})
    nodes = {name: node for name, node in zip(part, ui["nodes"])}
    links = [
        dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link)) for link in ui["links"]
    ]
    entries = [(ends[0][1], ends, None) for ends in outside.values() if ends]
    entries += [(label, [(node, key)], key) for node, key, label in made.widgets]
    inputs, slots, values = [], [], []
    for number, (name, ends, widget) in enumerate(entries):
        ids = []
        for node, key in ends:
            spec = declared(object_info[api[node]["class_type"]])[key]
            kind = "COMBO" if isinstance(spec[0], list) else spec[0]
            at = nodes[node]["inputs"]
            if widget:
                at.append({"name": key, "type": kind, "widget": {"name": key}, "link": None})
            index = next(i for i, slot in enumerate(at) if slot["name"] == key)
            ids.append(len(links) + 1)
            at[index]["link"] = ids[-1]
            end = {"target_id": nodes[node]["id"], "target_slot": index, "type": kind}
            links.append({"id": ids[-1], "origin_id": INPUT, "origin_slot": number} | end)
        inputs.append({"id": identity(made, "in", name), "name": name, "type": kind, "linkIds": ids})
        slots.append({"name": name, "type": kind, "link": None} | ({"widget": {"name": name}} if widget else {}))
        if widget:
            value = part[ends[0][0]]["inputs"].get(widget, default_of(spec))
            values.append(value)
    outputs = []
    for number, (node, slot, name) in enumerate(made.outputs):
        at = nodes[node]["outputs"][slot]
        link = {"id": len(links) + 1, "origin_id": nodes[node]["id"], "origin_slot": slot}
        links.append(link | {"target_id": OUTPUT, "target_slot": number, "type": at["type"]})
        at["links"].append(link["id"])
        outputs.append({"id": identity(made, "out", name), "name": name, "type": at["type"], "linkIds": [link["id"]]})
    kind = identity(made, "subgraph", made.name)
    right = max(node["pos"][0] + node["size"][0] for node in nodes.values())
    outer = {
        "id": len(nodes) + 1,
        "type": kind,
        "title": made.name,
        "pos": [0, 0],
        "size": [400, 120 + 26 * len(entries)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": slots,
        "outputs": [{"name": one["name"], "type": one["type"], "links": None} for one in outputs],
        "properties": {
            "proxyWidgets": [["-1", label] for _, _, label in made.widgets],
            "cnr_id": "semantic-video",
        },
        "widgets_values": values,
    }
    inner = {
        "id": kind,
        "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": len(nodes), "lastLinkId": len(links), "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": made.name,
        "inputNode": {"id": INPUT, "bounding": [-260, 0, 140, 40 + 20 * len(inputs)]},
        "outputNode": {"id": OUTPUT, "bounding": [right + 80, 0, 140, 40 + 20 * len(outputs)]},
        "inputs": inputs,
        "outputs": outputs,
        "widgets": [],
        "nodes": list(nodes.values()),
        "groups": [],
        "links": links,
        "extra": {},
        "category": "Semantic Video",
        "description": made.description,
    }
    about = {"BlueprintDescription": made.description, "BlueprintSearchAliases": list(made.aliases)}
    return {
        "revision": 0,
        "last_node_id": len(nodes) + 1,
        "last_link_id": len(links),
        "nodes": [outer],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [inner]},
        "extra": about,
    }


def identity(made: Blueprint, *what: str) -> str:
    return str(uuid.uuid5(NAMESPACE, "/".join((made.source, *what))))
