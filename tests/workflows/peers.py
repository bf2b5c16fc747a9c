"""Nodes of other packs beside ours on one real server, from the user's own copies: which packs there are, and what
becomes of a workflow with a node of each."""

import copy
import os
from pathlib import Path

import torch
from safetensors.torch import load_file

from semantic_video.cli.client import WorkflowError
from semantic_video.cli.server import Server
from semantic_video.cli.stress_cases import case, fresh

PEERS = "SEMANTIC_VIDEO_PEERS"  # a folder of packs; else those in the host's custom_nodes
PACKS = ("ComfyUI-KJNodes", "sd-perturbed-attention", "ComfyUI-NAG", "ComfyUI-TeaCache", "RES4LYF", "ComfyUI-GGUF")
MODEL_NODES = {  # of the docs' table: class, inputs; "negative" and "latent" are those of the sampler
    "WanVideoNAG": ("WanVideoNAG", {"conditioning": "negative", "nag_scale": 5.0, "nag_alpha": 0.5, "nag_tau": 2.5}),
    "Enhance-A-Video": ("WanVideoEnhanceAVideoKJ", {"latent": "latent", "weight": 2.0}),
    "CFG Zero Star": ("CFGZeroStarAndInit", {"use_zero_init": True, "zero_init_steps": 0}),
    "Momentum Guidance": ("MomentumGuidance", {"momentum": 0.5, "ema": 0.6}),
    "SMC-CFG": ("SlidingModeControlCFG", {"lambda": 6.0, "k": 0.1}),
}  # fmt: skip
SAMPLERS = ("res_2m",)  # of RES4LYF, with its schedule beta57
OURS = {  # technique: workflow, its node there; ours on their own take the place of Swin Renderer
    "Swin Renderer": ("swin_long_video_wan", "swin", None),
    "Prompt Timeline": ("story_timeline_wan21", "timeline", None),
    "SSG Adapter": ("ssg_t2v_adapter_wan", "apply", None),
    "Video-As-Prompt": ("vap_video_as_prompt_wan", "apply", None),
    "Focal Guidance": ("focal_i2v_wan21", "focal", None),
    "Text Contrast": ("swin_long_video_wan", "swin", ("SemVidTextContrast", {"keep_norm": True, "blocks": ""})),
    "AlignVid": ("swin_long_video_wan", "swin", ("SemVidAlignVid", {"gamma": 1.35, "min_sigma": 0.0, "blocks": ""})),
    "DyMoS": ("swin_long_video_wan", "swin", ("SemVidDyMoS", {"gamma": 0.6, "min_sigma": 0.0})),
}


def folders(host: Path | None) -> list[Path]:
    """The packs that are there."""
    places = [Path(os.environ[PEERS])] if os.environ.get(PEERS) else [host / "custom_nodes"] if host else []
    return [place / name for place in places for name in PACKS if (place / name / "__init__.py").exists()]


def graph_of(technique: str, strength: float = 1.0) -> tuple[dict, str]:
    """A small workflow with our technique, and the name of its node."""
    workflow, name, other = OURS[technique]
    graph = case(workflow, 0)
    for node in graph.values():
        if node["class_type"] == "KSampler":
            node["inputs"] |= {"steps": 3, "sampler_name": "euler"}
    if other:
        kind, inputs = other
        ends = {"start": 0.0, "end": 1.0}
        graph[name] = {"class_type": kind, "inputs": {"model": graph[name]["inputs"]["model"], **inputs, **ends}}
    graph[name]["inputs"]["strength"] = strength
    if "positive" in graph:  # as long as the negative one, so that both come in one batch, as with T5's 512 tokens
        said = graph["text"]["inputs"]["value"] if "text" in graph else graph["positive"]["inputs"]["text"]
        graph["negative"]["inputs"]["text"] = " ".join(f"not{n}" for n in range(len(said.split())))
    return graph, name


def sampler_of(graph: dict) -> dict:
    [sampler] = [node for node in graph.values() if node["class_type"] == "KSampler"]
    return sampler


def with_node(graph: dict, name: str, peer: str, before: bool) -> dict:
    """`graph` with a peer's node on the MODEL, before or after ours."""
    graph, (kind, inputs) = copy.deepcopy(graph), MODEL_NODES[peer]
    own, sampler = graph[name]["inputs"], sampler_of(graph)["inputs"]
    links = {"negative": sampler["negative"], "latent": sampler["latent_image"]}
    node = {"class_type": kind, "inputs": {key: links.get(value, value) for key, value in inputs.items()}}
    if before:
        node["inputs"]["model"], own["model"] = own["model"], ["peer", 0]
    else:
        for other in graph.values():
            other["inputs"] |= {key: ["peer", 0] for key, value in other["inputs"].items() if value == [name, 0]}
        node["inputs"]["model"] = [name, 0]
    return graph | {"peer": node}


def with_sampler(graph: dict, peer: str) -> dict:
    """`graph` sampled by a peer's sampler."""
    graph = copy.deepcopy(graph)
    sampler_of(graph)["inputs"] |= {"sampler_name": peer, "scheduler": "beta57"}
    return graph


def without(graph: dict, name: str) -> dict:
    """`graph` at strength 0 of ours."""
    graph = copy.deepcopy(graph)
    graph[name]["inputs"]["strength"] = 0.0
    return graph


def run(server: Server, graph: dict) -> tuple[str, str, torch.Tensor | None]:
    """("works", "warned" or "refused", what was said, the latent)."""
    at = server.log.stat().st_size
    try:
        [file] = [path for path in server.run(fresh(graph)) if path.suffix == ".latent"]
    except WorkflowError as error:
        return "refused", str(error), None
    latent = load_file(file)["latent_tensor"]
    lines = server.log.read_bytes()[at:].decode(errors="replace").splitlines()
    warned = [
        line for line in lines if "[semantic-video]" in line and ("did nothing" in line or "changed nothing" in line)
    ]
    return ("warned" if warned else "works"), "\n".join(warned), latent
