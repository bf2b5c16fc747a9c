"""The workflows of Draft Plan, posted to the real server."""

import numpy as np
import pytest

from semantic_video.cli.client import WorkflowError
from semantic_video.cli.media import read_video, write_video
from semantic_video.harness.stand_in_models import load_workflow, on_toys
from semantic_video.kernels.draft_plan import retimed
from semantic_video.mini import family as mini
from semantic_video.miniworld.render import render
from semantic_video.miniworld.scene import sample_scenes
from semantic_video.tests.workflows.test_adherence_workflows import video
from semantic_video.tests.workflows.test_swin_workflows import frames_of

SMALL = {"latent": {"width": 32, "height": 32, "length": 9}, "plan": {"width": 64, "height": 32, "length": 33}}
SWIN = {"swin": {"window": 4, "anchor_budget": 6}}
SHORT = {
    "draft_long_video_wan": {"draft": {"steps": 2}, "start": {"steps": 4}},
    "draft_long_video_wan22": {"start": {"steps": 4}},
    "draft_long_video_hunyuan": {"schedule": {"steps": 2}, "start": {"steps": 4}},
}
NODES = ("SemVidDraftPlan", "SemVidDraftEdit", "SemVidStartSigmas", "SemVidStartStep")
needs_t2v = pytest.mark.skipif(not mini.has("vae", "clip", "t2v"), reason="the mini T2V is not trained yet")


def graph(name, **changes):
    return on_toys(load_workflow(name), **SMALL | SWIN | SHORT[name], **changes)


def with_start(api, **inputs):
    api["start"]["inputs"] |= inputs
    return api


@pytest.mark.parametrize("name", SHORT)
def test_a_long_video_from_its_draft(server, name):
    saved = [path for path in server.run(graph(name)) if path.suffix == ".mp4"]
    assert frames_of(saved[0]).shape == (33, 32, 64, 3)
    drafted = video(server, graph(name))
    assert drafted.shape == (33, 32, 64, 3)
    assert not np.array_equal(drafted, video(server, with_start(graph(name), sigma=0.8)))
    nothing = with_start(graph(name), sigma=1.0, growth=1.0)
    empty = with_start(graph(name), sigma=1.0, growth=1.0)
    empty["empty"] = {"class_type": "EmptyHunyuanLatentVideo", "inputs": SMALL["plan"] | {"batch_size": 1}}
    empty["sampler"]["inputs"]["latent_image"] = ["empty", 0]
    if name != "draft_long_video_wan22":  # whose start is also where the draft ends
        assert np.array_equal(video(server, nothing), video(server, empty)), (
            "sigma 1 forgets the draft, to the last bit"
        )


def test_ksampler_advanced_starts_at_the_step(server):
    """At a level that is one of its steps, it and Start Sigmas render the same video."""
    name = "draft_long_video_wan"
    api = with_start(graph(name), growth=1.0)
    model, positive, negative = (api["sampler"]["inputs"][key] for key in ("model", "positive", "negative"))
    step = {"model": ["shift", 0], "scheduler": "simple", "steps": 4, "sampler_name": "euler", "sigma": 0.9}
    api["step"] = {"class_type": "SemVidStartStep", "inputs": step | {"growth": 1.0}}
    api["start"]["inputs"]["sigma"] = ["step", 1]
    custom = video(server, api)
    ends = {"start_at_step": ["step", 0], "end_at_step": 10000, "return_with_leftover_noise": "disable"}
    noise = {"add_noise": "enable", "noise_seed": 1, "steps": 4, "cfg": 6.0}
    links = {"model": model, "positive": positive, "negative": negative, "latent_image": ["plan", 0]}
    names = {"sampler_name": "euler", "scheduler": "simple"}
    api["sampler"] = {"class_type": "KSamplerAdvanced", "inputs": ends | noise | links | names}
    assert np.array_equal(custom, video(server, api))


def off(a, b):
    return float((a - b).square().mean().sqrt())


@pytest.fixture
def story(server):
    """[21, 64, 64, 3], of some scenes that which is the least itself backwards; also in the server's story.mp4."""
    clip = max(render(sample_scenes(50, seed=5, objects=(1,))).frames, key=lambda clip: off(clip, clip.flip(0)))
    write_video(server.base / "input" / "story.mp4", clip)
    return clip


@needs_t2v
def test_the_mini_workflow(server):
    short = {"draft": {"steps": 2}, "start": {"steps": 2}, "plan": {"length": 41}}
    frames = read_video(server.run(mini.workflow("mini_long_draft", **short))[0])
    assert frames.shape == (41, 64, 64, 3)


@needs_t2v
def test_all_routes_of_a_long_video_in_one_workflow(server):
    """With each of them off it is the plain model; each by itself changes the video."""
    short = {"draft": {"steps": 2}, "start": {"steps": 2}, "plan": {"length": 29}, "semantic_plan": {"steps": 2}}
    off = {"start": {"steps": 2, "sigma": 1.0}, "swin": {"strength": 0.0}, "apply": {"strength": 0.0}}
    on = {"start": {"steps": 2}, "swin": {"strength": 1.0}, "apply": {"strength": 1.0}}
    plain = read_video(server.run(mini.workflow("mini_t2v", latent={"length": 29}, sampler={"steps": 2}))[0])
    assert read_video(server.run(mini.workflow("mini_long_routes", **short | off))[0]).equal(plain)
    for route, inputs in (on | {"context": {"context_length": 21}}).items():
        api = mini.workflow("mini_long_routes", **short | off | {route: inputs})
        assert not read_video(server.run(api)[0]).equal(plain), route


@needs_t2v
def test_a_low_sigma_shows_the_draft_stretched(server, story):
    api = mini.workflow(
        "mini_long_draft", start={"steps": 2, "sigma": 0.02}, plan={"frames": ["load", 0], "length": 41}
    )
    api["load"] = {"class_type": "LoadVideo", "inputs": {"file": "story.mp4"}}
    shown = read_video(server.run(api)[0])
    assert off(shown, retimed(story, 41)) < off(shown, retimed(story.flip(0), 41)) / 2


@needs_t2v
def test_an_edited_video_as_the_plan(server, story):
    """The second half of a story, then all of it, and its end held: a video from disk, cut, joined, re-timed."""
    api = mini.workflow("mini_long_draft", plan={"frames": ["hold", 0], "length": 41})
    api["load"] = {"class_type": "LoadVideo", "inputs": {"file": "story.mp4"}}
    cut = {"frames": ["load", 0], "edit": "keep", "start": 10, "then": ["load", 0], "crossfade": 0}
    api["cut"] = {"class_type": "SemVidDraftEdit", "inputs": cut | {"end": 0, "length": 1, "in_between": "blend"}}
    hold = {"frames": ["cut", 0], "edit": "hold", "start": 31, "length": 10, "crossfade": 0}
    api["hold"] = {"class_type": "SemVidDraftEdit", "inputs": hold | {"end": 0, "in_between": "blend"}}
    api["decode"]["inputs"]["samples"] = ["plan", 0]
    for node in ("render", "start", "swin", "euler", "positive", "negative", "draft", "draft_decode", "latent", "unet"):
        del api[node]
    expected = story[[*range(10, 21), *range(20), *[20] * 10]]
    shown = read_video(server.run(api)[0])
    assert off(shown, expected) < off(shown, story[0]) / 2
    assert off(shown, expected) < off(shown[:-1], expected[1:]) / 1.5, "to the frame"


@pytest.mark.parametrize(("changes", "message"), [
    ({"plan": {"length": 34}}, r"length 34: must be 4 n \+ 1, as this VAE makes videos. Try 33"),
    ({"plan": {"width": 60}}, "width 60: must be a multiple of 8, this VAE's pixel. Try 56"),
    ({"plan": {"width": 20000}}, "bigger than max"),
    ({"start": {"sigma": 0.0}}, "sigma 0.0: must be above 0, where nothing is left to render"),
    ({"start": {"sigma": 1.5}}, "bigger than max"),
    ({"start": {"growth": 0.5}}, "smaller than min"),
])  # fmt: skip
def test_errors_reach_whoever_posted(server, changes, message):
    api = graph("draft_long_video_wan")
    for node, inputs in changes.items():
        api[node]["inputs"] |= inputs
    with pytest.raises(WorkflowError, match=message):
        server.run(api)


@pytest.mark.parametrize("node", NODES)
def test_the_nodes_describe_themselves(server, node):
    info = server.get(f"/object_info/{node}")[node]
    assert info["category"] == "semantic video/long video"
    for part in ("required", "optional"):
        assert all(options.get("tooltip") for _, options in info["input"].get(part, {}).values())
    assert all(info["output_tooltips"])
