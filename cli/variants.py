"""Workflow variants: a file and changes to it, and what each run puts into them."""

import copy
import json
from pathlib import Path

from PIL import Image

from ..miniworld.caption import object_captions
from ..miniworld.render import render
from ..miniworld.scene import Scene


def variants(words: list[str]) -> list[tuple[str, dict]]:
    """["a.json", "node.input=1", "b.json"] -> [(description, API workflow), ...]. ValueError, naming the word, for what
    does not fit."""
    found: list[tuple[str, dict]] = []
    for word in words:
        if "=" not in word:
            try:
                found.append((word, json.loads(Path(word).read_text(encoding="utf-8"))))
            except (OSError, json.JSONDecodeError) as error:
                raise ValueError(f"{word}: not a workflow in API format ({error}).") from None
            continue
        name, value = word.split("=", 1)
        node, _, key = name.partition(".")
        if not found or node not in found[-1][1] or not key:
            raise ValueError(
                f"{word}: write node.input=value behind a workflow that has the node"
                + (f"; it has {', '.join(found[-1][1])}." if found else ".")
            )
        try:
            parsed = json.loads(value)
        except json.JSONDecodeError:
            parsed = value
        found[-1][1][node]["inputs"][key] = parsed
        found[-1] = (f"{found[-1][0]} {word}", found[-1][1])
    return found


def fill(api: dict, text: str, seed: int) -> dict:
    """The workflow with this caption and seed. The caption goes into the node titled "Prompt": an encoder's `text`, or
    the `value` of a primitive string, which can feed an encoder and whatever else reads the prompt."""
    primitive = any("value" in node["inputs"] for node in api.values() if node["_meta"]["title"] == "Prompt")
    return seeded(titled(api, {"Prompt": {"value" if primitive else "text": text}}), seed)


def seeded(api: dict, seed: int) -> dict:
    """Puts the seed into every seed input of `api`, and returns it."""
    drafted = any("noise_seed" in node["inputs"] for node in api.values())
    seeds = {"seed": seed + 500 if drafted else seed, "noise_seed": seed}  # a draft and its render do not share noise
    for node in api.values():
        node["inputs"] |= {key: value for key, value in seeds.items() if key in node["inputs"]}
    return api


def show(api: dict, scene: Scene, folder: Path, name: str) -> dict:
    """The workflow with what the scene looks like at the start in the node titled "First frame", a file of `folder`,
    the server's input folder, and with its objects, one a line, in "Phrases"; where there are such nodes."""
    titles = {node["_meta"]["title"] for node in api.values()}
    if "First frame" in titles:
        Image.fromarray((render([scene]).frames[0, 0] * 255).round().byte().numpy()).save(folder / f"{name}.png")
        api = titled(api, {"First frame": {"image": f"{name}.png"}})
    return titled(api, {"Phrases": {"text": "\n".join(object_captions(scene))}}) if "Phrases" in titles else api


def titled(api: dict, inputs: dict[str, dict]) -> dict:
    """The workflow with inputs changed at the nodes of these titles. ValueError where a title is missing or not
    alone."""
    api = copy.deepcopy(api)
    for title, values in inputs.items():
        nodes = [node for node in api.values() if node["_meta"]["title"] == title]
        if len(nodes) != 1:
            raise ValueError(
                f'{len(nodes)} nodes are titled "{title}"; exactly one must be, to take what it is given in each run.'
            )
        nodes[0]["inputs"] |= values
    return api
