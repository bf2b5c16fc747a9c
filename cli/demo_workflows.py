"""The workflows that ship, each run once by the demo's server: on the small trained models where their architecture
allows, else on random weights."""

import html
import json
from pathlib import Path

from ..harness.stand_in_models import load_workflow, on_minis
from .demo_page import section
from .server import Server, WorkflowError
from .stress_cases import case

NOTES = json.loads(Path(__file__).with_name("notes.json").read_text(encoding="utf-8"))
PROMPT = "a small red circle moves left on a white background"
FEW = {"sampler": {"steps": 4}}
SHOWN = {  # by the rows of the page: workflow -> id of the row
    "ssg_t2v_adapter_wan": "layout",
    "vap_video_as_prompt_wan": "follow",
    "swin_long_video_wan": "long",
    "story_timeline_wan21": "tell",
    "focal_probe_attention_maps": "maps",
    "drift_report": "drift",
}
MINIS = {  # short runs of those that no row shows
    "clip_spatial_mask": {"mask": {"text": "a red circle"}},
    "draft_long_video_wan": {
        "positive": {"text": PROMPT},
        "draft": {"steps": 4},
        "plan": {"length": 45},
        "start": {"steps": 6},
        "swin": {"anchor_budget": 12},
    },
    "focal_i2v_wan21": FEW | {"text": {"value": PROMPT}, "focal": {"keywords": "red, left"}},
    "plan_long_video_wan": FEW
    | {"positive": {"text": PROMPT}, "plan": {"seconds": 2.81, "steps": 4}, "latent": {"length": 45}},
    "semantic_plan": {},
    "swin_video_to_video": FEW | {"positive": {"text": PROMPT}},
}
RANDOM = (
    "draft_long_video_hunyuan",
    "draft_long_video_wan22",
    "focal_i2v_hunyuan",
    "focal_i2v_wan22_lightning",
    "ssg_i2v_visual_prompt_wan",
    "story_timeline_hunyuan",
    "swin_long_video_hunyuan",
)
ELSEWHERE = {
    "ssg_train_adapter_wan": "trains; not run here, the tests do",
    "vap_save_expert": "takes a file out of a file; not run here, the tests do",
}
ON_MINIS = "ran here on the small models"
ON_TOYS = "ran through the real server, on random weights: no picture worth showing"


def graphs() -> dict[str, tuple[dict, str]]:
    """{workflow: (graph, what to say where it ran)} of those that no row shows."""
    small = {name: (on_minis(load_workflow(name), **changes), ON_MINIS) for name, changes in MINIS.items()}
    return small | {name: (case(name, 0), ON_TOYS) for name in RANDOM}


def run_all(server: Server) -> dict[str, str]:
    """{workflow: what to say of it}; "failed: ..." where it failed."""
    said = {name: f"shown above: {ON_MINIS}" for name in SHOWN} | ELSEWHERE
    for name, (graph, ran) in graphs().items():
        try:
            server.run(graph)
            said[name] = ran
        except WorkflowError as error:
            print(f"{name}: {error}", flush=True)
            said[name] = f"failed: {error}"
    return said


def workflows_row(said: dict[str, str]) -> str:
    """The list of all, in the order of their titles."""
    lines = []
    for name, about in sorted(NOTES.items(), key=lambda entry: entry[1]["title"]):
        title = html.escape(about["title"])
        title = f"<a href='#{SHOWN[name]}'>{title}</a>" if name in SHOWN else title
        lines.append(f"<li>{title} <span class='quiet'>({name}): {html.escape(said[name])}</span></li>")
    what = "Find them in ComfyUI under Templates, semantic-video. They are made for your own checkpoints."
    return section(f"The {len(lines)} workflows that come with it", what, f"<ul class='list'>{''.join(lines)}</ul>")
