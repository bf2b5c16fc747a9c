"""The workflows that ship, each run once by the demo's server: on the small trained models where their architecture
allows, else on random weights."""

import html

from ..harness.stand_in_models import load_workflow, on_minis
from .client import WorkflowError
from .demo_page import NOTES, section
from .server import Server
from .stress_cases import case

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
        "plan": {"length": 29},
        "start": {"steps": 6},
        "swin": {"anchor_budget": 12},
    },
    "focal_i2v_wan21": FEW | {"text": {"value": PROMPT}, "focal": {"keywords": "red, left"}},
    "plan_long_video_wan": FEW
    | {"positive": {"text": PROMPT}, "plan": {"seconds": 1.81, "steps": 4}, "latent": {"length": 29}},
    "semantic_plan": {},
    "swin_video_to_video": FEW | {"positive": {"text": PROMPT}, "load": {"file": "reference-0.mp4"}},
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
ELSEWHERE = (
    "contrast_i2v_ltx",
    "draft_video_h3",
    "draft_video_ltx",
    "focal_i2v_h3",
    "plan_long_video_hunyuan",
    "plan_train_adapter_wan",
    "plan_train_planner_wan",
    "ssg_i2v_visual_prompt_h3",
    "ssg_train_adapter_wan",
    "story_timeline_h3",
    "story_timeline_ltx",
    "swin_long_video_h3",
    "swin_long_video_ltx",
    "vap_save_expert",
)
ON_PAGE = "On this page, run by the small models"
ON_MINIS = "Ran through the real server by the small models, a short run each"
ON_TOYS = "Ran through the real server, on random weights: no picture worth showing"
NOT_HERE = (
    "Not run here, but by the tests, on tiny models: MiniMax H3, LTX, training, taking a file out of a larger one"
)
FAILED = "Failed"


def graphs() -> dict[str, tuple[dict, str]]:
    """{workflow: (graph, what to say where it ran)} of those that no row shows."""
    small = {name: (on_minis(load_workflow(name), **changes), ON_MINIS) for name, changes in MINIS.items()}
    return small | {name: (case(name, 0), ON_TOYS) for name in RANDOM}


def run_all(server: Server) -> dict[str, str]:
    """{workflow: what to say of it}; "Failed: ..." where it failed."""
    said = dict.fromkeys(SHOWN, ON_PAGE) | dict.fromkeys(ELSEWHERE, NOT_HERE)
    for name, (graph, ran) in graphs().items():
        try:
            server.run(graph)
            said[name] = ran
        except WorkflowError as error:
            print(f"{name}: {error}", flush=True)
            said[name] = f"{FAILED}: {error}"
    return said


def workflows_row(said: dict[str, str]) -> str:
    """All of them by what is said of them, then by their titles."""
    groups: dict[str, list[str]] = {}
    for name in sorted(NOTES, key=lambda name: NOTES[name]["title"]):
        title = html.escape(NOTES[name]["title"])
        groups.setdefault(said[name], []).append(f"<a href='#{SHOWN[name]}'>{title}</a>" if name in SHOWN else title)
    order = (ON_PAGE, ON_MINIS, ON_TOYS, NOT_HERE)
    listed = {about: "".join(f"<li>{title}</li>" for title in titles) for about, titles in groups.items()}
    parts = [
        f"<p><b>{html.escape(about)}</b></p><ul class='list'>{listed[about]}</ul>"
        for about in sorted(listed, key=lambda about: order.index(about) if about in order else -1)
    ]
    what = "Find them in ComfyUI under Templates, semantic-video. They are made for your own checkpoints."
    return section(f"The {len(NOTES)} workflows that come with it", what, *parts)
