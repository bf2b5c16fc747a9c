"""What the editor gets from a real server beside the nodes: templates, their pictures, blueprints, and Chinese."""

import json
import re
import urllib.request
from urllib.parse import quote

import pytest

from semantic_video.cli.blueprints import BLUEPRINTS, INPUT, OUTPUT
from semantic_video.cli.server import ROOT
from semantic_video.cli.ui_format import declared, to_api
from semantic_video.cli.workflows import FOLDER, SUBGRAPHS

PACK = f"mounted-{ROOT.name}"


def fetch(server, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{server.address}{path}") as answer:
        return answer.read()


def test_the_server_lists_and_serves_templates_with_their_pictures(server):
    names = server.get("/workflow_templates")[PACK]
    assert sorted(names) == sorted(path.stem for path in FOLDER.glob("*.json"))
    for name in names:
        for ending in (".json", ".jpg"):
            served = fetch(server, f"/api/workflow_templates/{PACK}/{quote(name)}{ending}")
            assert served == (FOLDER / f"{name}{ending}").read_bytes()


def expanded(file: dict, given: dict, info: dict) -> tuple[dict, dict]:
    """The nodes of a blueprint in API format, with what is connected or typed outside (by name) in place of its inputs;
    and where each of its outputs comes from."""
    [outer], [inner] = file["nodes"], file["definitions"]["subgraphs"]
    assert outer["type"] == inner["id"]
    typed = iter(outer["widgets_values"])
    values = [given.get(slot["name"], next(typed) if "widget" in slot else None) for slot in outer["inputs"]]
    assert list(typed) == [] and [slot["name"] for slot in outer["inputs"]] == [one["name"] for one in inner["inputs"]]
    nodes = {node["id"]: node for node in inner["nodes"]}
    ends, outputs, links = {}, {}, []
    for link in inner["links"]:
        if link["origin_id"] == INPUT:
            assert link["id"] in inner["inputs"][link["origin_slot"]]["linkIds"]
            slot = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert slot["link"] == link["id"]
            ends[str(link["target_id"]), slot["name"]] = values[link["origin_slot"]]
            slot["link"] = None
        elif link["target_id"] == OUTPUT:
            assert link["id"] in nodes[link["origin_id"]]["outputs"][link["origin_slot"]]["links"]
            outputs[inner["outputs"][link["target_slot"]]["name"]] = [str(link["origin_id"]), link["origin_slot"]]
        else:
            links.append([link[key] for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")])
    api = to_api({"nodes": list(nodes.values()), "links": links}, info)
    for (node, name), value in ends.items():
        api[node]["inputs"][name] = value
    return api, outputs


def small(model: str, positive: list, extra: dict) -> dict:
    """A graph around it that samples one step, less what the blueprint gives."""
    loaders = {
        "unet": ("UNETLoader", {"unet_name": model, "weight_dtype": "default"}),
        "vae": ("VAELoader", {"vae_name": "mini_vae.safetensors"}),
        "clip": ("SemVidMiniCLIPLoader", {"clip_name": "mini_clip.safetensors"}),
        "negative": ("SemVidMiniTextEncode", {"clip_name": "mini_clip.safetensors", "text": ""}),
        "latent": ("EmptyHunyuanLatentVideo", {"width": 64, "height": 64, "length": 93, "batch_size": 1}),
        "sampler": (
            "KSampler",
            {"positive": positive, "negative": ["negative", 0], "latent_image": ["latent", 0], "seed": 0, "steps": 1}
            | {"cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0},
        ),
        "save": ("SaveLatent", {"samples": ["sampler", 0], "filename_prefix": "blueprint"}),
    }
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in (loaders | extra).items()}


STORY = "0-2: a small red circle moves left on a white background\n2-: a small red circle grows on a white background"
SAID = "a small red circle moves left on a white background"
PLAIN = {"said": ("SemVidMiniTextEncode", {"clip_name": "mini_clip.safetensors", "text": SAID})}
RUNS = {  # source: model, what is connected and typed, what stands around it
    "story_timeline_wan21": ("mini_t2v", {"clip": ["clip", 0], "prompts": STORY, "fps": 12.0, "window": 6}, {}),
    "focal_i2v_wan22_lightning": ("mini_t2v", {"clip": ["clip", 0], "prompt": SAID, "keywords": "circle"}, PLAIN),
    "ssg_i2v_visual_prompt_wan": (
        "wan-i2v-clip",
        {"clip": ["clip_open", 0], "image": ["image", 0], "clip_vision": ["vision", 0], "what": "a red square"},
        PLAIN,
    ),
}


def test_the_server_serves_the_blueprints(server):
    listed = {one["name"]: key for key, one in server.get("/global_subgraphs").items() if PACK in str(one["info"])}
    assert sorted(listed) == sorted(made.name for made in BLUEPRINTS) == sorted(p.stem for p in SUBGRAPHS.iterdir())
    for name, key in listed.items():
        served = json.loads(server.get(f"/global_subgraphs/{key}")["data"])
        assert served == json.loads((SUBGRAPHS / f"{name}.json").read_text(encoding="utf-8"))
        [inner] = served["definitions"]["subgraphs"]
        assert served["nodes"][0]["title"] == inner["name"] == name


@pytest.mark.parametrize("made", BLUEPRINTS, ids=lambda made: made.source)
def test_a_blueprint_expands_to_a_graph_that_fits(server, made):
    """Every input that a node must have is there, of the kind that it takes."""
    info = server.get("/object_info")
    file = json.loads((SUBGRAPHS / f"{made.name}.json").read_text(encoding="utf-8"))
    model, given, around = RUNS[made.source]
    api, outputs = expanded(file, {"model": ["unet", 0]} | given, info)
    assert {name for _, _, name in made.outputs} == set(outputs)
    for node in api.values():
        required = info[node["class_type"]]["input"].get("required", {})
        assert {name for name in required if node["inputs"].get(name) is None} == set()
        assert set(node["inputs"]) <= set(declared(info[node["class_type"]]))
    if made.source == "ssg_i2v_visual_prompt_wan":
        return  # needs a model with an image branch: its nodes run in test_spatial_workflow.py
    around = small(f"{model}.safetensors", outputs.get("positive", ["said", 0]), around)
    around["sampler"]["inputs"]["model"] = outputs["model"]
    assert len(server.run(around | api)) == 1


def ours(server) -> dict:
    kinds = server.get("/object_info")
    return {k: v for k, v in kinds.items() if k.startswith("SemVid") and not v["category"].endswith("/testing")}


def test_every_node_is_told_in_chinese_and_nothing_else_is(server):
    told = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    nodes = ours(server)
    assert sorted(told) == sorted(nodes)
    for kind, info in nodes.items():
        node = told[kind]
        assert sorted(node["inputs"]) == sorted(declared(info)), kind
        assert sorted(node.get("outputs", {})) == sorted(str(i) for i in range(len(info["output"]))), kind
        texts = [node["description"], *(one["tooltip"] for one in node["inputs"].values())]
        texts += [one["tooltip"] for one in node.get("outputs", {}).values()]
        assert all(any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in texts), kind
        names = [node, *node["inputs"].values(), *node.get("outputs", {}).values()]
        assert all(one.get("name") or one.get("display_name") for one in names), kind


def test_numbers_of_tooltips_are_the_same_in_chinese(server):
    """A figure that changes in the English tooltip must change in the Chinese one."""
    told = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    for kind, info in ours(server).items():
        pairs = [(info["description"], told[kind]["description"])]
        for name, spec in declared(info).items():
            pairs.append((spec[1].get("tooltip", ""), told[kind]["inputs"][name]["tooltip"]))
        for english, chinese in pairs:
            numbers = set(re.findall(r"\d+\.\d+", english))
            assert numbers <= set(re.findall(r"\d+\.\d+", chinese)), (kind, english)


CORE = {  # nodes of ComfyUI that Chinese texts name, as its own Chinese has them
    "\u52a0\u8f7dCLIP", "\u52a0\u8f7dCLIP\u89c6\u89c9", "CLIP\u89c6\u89c9\u7f16\u7801",
    "\u56fe\u50cf\u5230\u89c6\u9891\uff08Wan\uff09", "K\u91c7\u6837\u5668\uff08\u9ad8\u7ea7\uff09",
    "\u81ea\u5b9a\u4e49\u91c7\u6837\u5668", "\u81ea\u5b9a\u4e49\u91c7\u6837\u5668\uff08\u9ad8\u7ea7\uff09",
    "LTXV\u6761\u4ef6", "\u91c7\u6837\u7b97\u6cd5\uff08SD3\uff09",
}  # fmt: skip


def test_chinese_texts_name_nodes_as_the_chinese_menu_does(server):
    """In curly quotes, with or without what stands in brackets behind the name."""
    told = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    names = {node["display_name"] for node in told.values()}
    names |= {re.split(r" ?[\uff08(]", name)[0] for name in names} | CORE
    texts = [node["description"] for node in told.values()]
    texts += [
        one["tooltip"]
        for node in told.values()
        for part in ("inputs", "outputs")
        for one in node.get(part, {}).values()
    ]
    quoted = {
        name for text in texts for name in re.findall("\u201c([^\u201d]*)\u201d", text) if not re.search("[:+]", name)
    }
    assert len(quoted) > 25 and quoted <= names
    english = {info["display_name"].partition(" (")[0] for info in ours(server).values()}
    papers = {"ALG", "AlignVid", "DyMoS", "Focal Guidance"}  # as their papers call them
    assert [name for name in english - papers if any(name in text for text in texts)] == []


def test_the_server_hands_out_the_chinese(server):
    served = server.get("/i18n")["zh"]
    assert served["nodeDefs"]["SemVidSwinRenderer"]["inputs"]["window"]["name"] == "\u7a97\u53e3"
    categories = {part for info in ours(server).values() for part in info["category"].split("/")}
    assert set(served["nodeCategories"]) == categories
