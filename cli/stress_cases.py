"""What run.py stress posts: the shipped workflows on toys and the mini models', small, and posts that must be
refused."""

import copy
import itertools

from ..harness.stand_in_models import load_workflow, on_toys
from ..mini import family as mini
from .client import SAMPLERS
from .variants import seeded

TINY = {"width": 64, "height": 32, "length": 9}
LONG = {"width": 64, "height": 32, "length": 33}  # 9 latent frames
WINDOWS, STEPS, SCHEDULE = {"swin": {"window": 4}}, {"sampler": {"steps": 2}}, {"schedule": {"steps": 2}}
STORY = {"timeline": {"text": "0-1: a fox sits\n1-: it runs away", "fps": 16.0}}
DRAFT = {"latent": {"width": 32, "height": 32, "length": 9}, "plan": LONG, "swin": {"window": 4, "anchor_budget": 6}}
FIRST, CLIP, SHORT = ({"image": {"image": "first-6.png"}}, {"load": {"file": "reference-0.mp4"}}, {"length": 21})
TOLD = {
    "timeline": {"text": "0-0.75: a small red circle moves left on a white background\n0.75-: a small red circle grows"}
}
TOYS = {
    "clip_spatial_mask": {},
    "draft_long_video_hunyuan": DRAFT | SCHEDULE | {"start": {"steps": 4}},
    "draft_long_video_wan": DRAFT | {"draft": {"steps": 2}, "start": {"steps": 4}},
    "draft_long_video_wan22": DRAFT | {"start": {"steps": 4}},
    "drift_report": {},
    "focal_i2v_hunyuan": SCHEDULE | {"i2v": TINY},
    "focal_i2v_wan21": STEPS | {"i2v": TINY},
    "focal_i2v_wan22_lightning": {"i2v": TINY},
    "focal_probe_attention_maps": STEPS
    | {"i2v": TINY, "small": TINY, "probe": {"levels": 1}, "maps": {"words": "cat, table"}},
    "plan_long_video_wan": STEPS | WINDOWS | {"latent": LONG, "plan": {"steps": 2}},
    "ssg_i2v_visual_prompt_wan": STEPS | {"i2v": TINY},
    "ssg_t2v_adapter_wan": STEPS | {"latent": TINY},
    "story_timeline_hunyuan": SCHEDULE | WINDOWS | STORY | {"latent": LONG},
    "story_timeline_wan21": STEPS | WINDOWS | STORY | {"latent": LONG},
    "swin_long_video_hunyuan": SCHEDULE | WINDOWS | {"latent": LONG},
    "swin_long_video_wan": STEPS | WINDOWS | {"latent": LONG},
    "swin_video_to_video": STEPS | WINDOWS | CLIP | {"scale": {"width": 64, "height": 32}},
    "vap_video_as_prompt_wan": STEPS | {"i2v": TINY, "reference": TINY},
}
MINIS = {  # name -> trained parts it needs, changes
    "mini_adherence": (("i2v",), STEPS | FIRST | {"focal": {"strength": 1.0}, "contrast": {"strength": 1.0}}),
    "mini_i2v": (("i2v",), STEPS | FIRST | {"swin": {"strength": 1.0, "window": 4}}),
    "mini_long_draft": (("t2v",), {"draft": {"steps": 2}, "start": {"steps": 2}, "plan": {"length": 33}}),
    "mini_long_routes": (
        ("t2v", "planner", "plan_adapter"),
        {"draft": {"steps": 2}, "start": {"steps": 2}, "plan": {"length": 33}, "semantic_plan": {"steps": 2}},
    ),
    "mini_semantic_plan": (
        ("t2v", "planner", "plan_adapter"),
        STEPS | {"plan": {"steps": 2, "seconds": 1.31}, "latent": SHORT},
    ),
    "mini_ssg_adapter": (("t2v", "ssg_adapter"), STEPS),
    "mini_story": (("t2v",), STEPS | TOLD | {"latent": SHORT, "swin": {"window": 4}}),
    "mini_story_context_windows": (("t2v",), STEPS | TOLD | {"latent": {"length": 29}}),
    "mini_story_plan": (
        ("t2v", "planner", "plan_adapter"),
        STEPS | TOLD | {"latent": SHORT, "swin": {"window": 4}, "plan": {"steps": 2, "seconds": 1.31}},
    ),
    "mini_story_routes": (
        ("t2v", "planner", "plan_adapter"),
        TOLD
        | {"latent": SHORT, "draft": {"steps": 2}, "start": {"steps": 2}, "plan": {"steps": 2, "seconds": 1.31}}
        | {"swin": {"window": 4}, "draft_swin": {"window": 4}},
    ),
    "mini_t2v": (("t2v",), STEPS),
    "mini_t2v_context_windows": (("t2v",), STEPS | {"latent": {"length": 29}}),
    "mini_v2v": (("t2v",), STEPS | CLIP | {"swin": {"strength": 1.0, "window": 4}}),
    "mini_video_prompt": (("i2v", "vap_expert"), STEPS | FIRST | CLIP),
}
ALTERNATED = {  # workflow -> nodes that are taken out of it for the unpatched run
    "swin_long_video_wan": ("swin",),
    "focal_i2v_wan22_lightning": ("contrast_high", "contrast_low", "focal_high", "focal_low"),
    "ssg_t2v_adapter_wan": ("apply",),
    "vap_video_as_prompt_wan": ("apply",),
}
FAILS = ("a word that is not in the prompt", "'dragon' does not stand in the prompt")  # name, what its node says
NOT_JSON = b'{"prompt": {"unet": '
marks = itertools.count()


def cases(seeds: int = 2) -> dict[str, dict]:
    """{"workflow, seed 0": graph, ...} of every technique. Graphs without a seed come once."""
    found = {}
    for name, seed in itertools.product([*TOYS, *MINIS], range(seeds)):
        if name in MINIS and not mini.has("vae", "clip", *MINIS[name][0]):
            continue
        graph = case(name, seed)
        if seed == 0 or graph != case(name, 0):
            found[f"{name}, seed {seed}"] = graph
    return found


def case(name: str, seed: int, **changes) -> dict:
    """One workflow, small and with this seed, that saves pictures and the last latent: a video encoder on several
    threads does not give the same bits twice, and 8 bits a pixel hide small changes."""
    if name in MINIS:
        api = seeded(mini.workflow(name, **MINIS[name][1] | changes), seed)
    else:
        api = seeded(on_toys(load_workflow(name), **TOYS[name] | changes), seed)
    if "video" in api:
        frames = api.pop("video")["inputs"]["images"]
        api["save"] = {"class_type": "SaveImage", "inputs": {"images": frames, "filename_prefix": name}}
    if "decode" in api:
        saved = {"samples": api["decode"]["inputs"]["samples"], "filename_prefix": name}
        api["latent_file"] = {"class_type": "SaveLatent", "inputs": saved}
    return api


def failing() -> dict:
    """A graph that the host accepts and a node of this pack refuses."""
    return case("focal_i2v_wan21", 0, focal={"keywords": "dragon"})


def alternated(name: str) -> tuple[dict, dict]:
    """(patched, unpatched): one workflow of one step, with the nodes of ALTERNATED and without."""
    # uni_pc, which some of them have, does not ask the model in a run of one step
    one = {"sampler": {"steps": 1, "sampler_name": "euler"}}
    sampler = {} if name == "focal_i2v_wan22_lightning" else one  # it has a step for each expert
    patched = case(name, 0, **sampler)
    if not sampler:
        ends = {"sampler_high": {"end_at_step": 1}, "sampler_low": {"start_at_step": 1, "end_at_step": 2}}
        for node, inputs in ends.items():
            patched[node]["inputs"] |= inputs | {"steps": 2}
    return patched, without(patched, *ALTERNATED[name])


def without(api: dict, *nodes: str) -> dict:
    """The graph with nodes taken out, whose `model` goes straight on."""
    sources = {node: api[node]["inputs"]["model"] for node in nodes}
    kept = copy.deepcopy({name: node for name, node in api.items() if name not in nodes})
    for node in kept.values():
        for key, value in node["inputs"].items():
            while isinstance(value, list) and value[0] in sources:
                value = node["inputs"][key] = sources[value[0]]
    return kept


def fresh(api: dict) -> dict:
    """The graph with a mark in this pack's nodes and the samplers, which the host ignores save in the key of its cache:
    it computes them again."""
    api, mark = copy.deepcopy(api), next(marks)
    for node in api.values():
        if node["class_type"].startswith("SemVid") or node["class_type"] in SAMPLERS:
            node["inputs"]["mark"] = mark
    return api


def malformed() -> list[bytes | dict]:
    """Bodies of posts to /prompt that no server may take."""
    whole = case("swin_long_video_wan", 0)

    def changed(node: str, **inputs) -> dict:
        return whole | {node: whole[node] | {"inputs": whole[node]["inputs"] | inputs}}

    graphs = [
        {},
        [],
        whole | {"swin": {"class_type": "SemVidNoSuchNode", "inputs": {}}},
        whole | {"swin": {"inputs": {}}},
        whole | {"swin": {"class_type": "SemVidSwinRenderer", "inputs": {"window": 4}}},
        {name: node for name, node in whole.items() if name not in ("save", "latent_file")},
        changed("swin", window=-1),
        changed("swin", window="four"),
        changed("swin", model=["nowhere", 0]),
        changed("swin", model=["shift", 7]),
        changed("swin", model=["positive", 0]),
        changed("swin", anchors="no such anchors"),
        changed("unet", unet_name="../../etc/passwd"),
    ]
    return [NOT_JSON, {}, {"graph": whole}, *({"prompt": graph} for graph in graphs)]
