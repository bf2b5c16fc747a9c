"""The workflows of Prompt Timeline, posted to the real server."""

import numpy as np
import pytest

from semantic_video.cli.client import WorkflowError
from semantic_video.cli.media import read_video
from semantic_video.cli.variants import fill
from semantic_video.harness.stand_in_models import load_workflow, on_toys
from semantic_video.mini import family as mini
from semantic_video.tests.workflows.test_swin_workflows import frames_of

STEPS = {"story_timeline_wan21": {"sampler": {"steps": 2}}, "story_timeline_hunyuan": {"schedule": {"steps": 2}}}
STORY = "0-1: a fox sits\n1-2: it jumps over a tree\n2-: it runs away"


def workflow(name, **changes):
    """57 frames, 15 latent ones; 16 fps in either family, so that the story above fits."""
    latent, timeline = {"width": 64, "height": 32, "length": 57}, {"text": STORY, "fps": 16.0}
    return on_toys(
        load_workflow(name),
        latent=latent,
        timeline=timeline | changes.pop("timeline", {}),
        swin={"window": 6} | changes.pop("swin", {}),
        **STEPS[name] | changes,
    )


def frames(server, api):
    return frames_of(server.run(api)[0])


@pytest.mark.parametrize("name", STEPS)
def test_a_story(server, name):
    told = frames(server, workflow(name))
    assert told.shape == (57, 32, 64, 3)
    other = frames(server, workflow(name, timeline={"text": STORY.replace("runs away", "sleeps well")}))
    assert not np.array_equal(told, other)
    mixed = frames(server, workflow(name, timeline={"strength": 0.0}))
    assert not np.array_equal(told, mixed)


@pytest.mark.parametrize("name", STEPS)
def test_one_span_is_an_ordinary_prompt(server, name):
    one = frames(server, workflow(name, timeline={"text": "0-: a fox sits"}))
    plain = workflow(name)
    plain["positive"] = {
        "class_type": "ToyTextEncode",
        "inputs": {"text": "a fox sits"},
        "_meta": {"title": "Prompt"},
    }
    del plain["timeline"]
    replaced = {("timeline", 0): ["shift", 0], ("timeline", 1): ["positive", 0]}
    for node in plain.values():
        node["inputs"] = {
            key: replaced.get(tuple(value), value) if isinstance(value, list) else value
            for key, value in node["inputs"].items()
        }
    assert np.array_equal(one, frames(server, plain)), "one span must be the prompt alone, to the last pixel"


def test_spans_encoded_elsewhere_are_the_same_story(server):
    """Timeline Span three times and Apply Prompt Timeline, in place of Prompt Timeline."""
    name = "story_timeline_wan21"
    chained, last = workflow(name), None
    for number, line in enumerate(STORY.splitlines()):
        times, text = line.split(": ")
        start, end = times.split("-")
        chained[f"text {number}"] = {"class_type": "ToyTextEncode", "inputs": {"text": text}}
        inputs = {
            "conditioning": [f"text {number}", 0],
            "from_second": float(start),
            "to_second": float(end or 0),
        }
        chained[f"span {number}"] = {
            "class_type": "SemVidTimelineSpan",
            "inputs": inputs | ({"timeline": last} if last else {}),
        }
        last = [f"span {number}", 0]
    model = chained["timeline"]["inputs"]
    chained["timeline"] = {
        "class_type": "SemVidPromptTimelineApply",
        "inputs": {key: value for key, value in model.items() if key not in ("clip", "text")} | {"timeline": last},
    }
    chained["sampler"]["inputs"]["positive"] = last
    assert np.array_equal(frames(server, chained), frames(server, workflow(name)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": ""}, "text: holds no span of time. Write lines such as"),
        ({"text": "0-1: a\nit jumps"}, r"text, line 2 \('it jumps'\): has no times in front"),
        ({"text": "0-1: a\n1.5-: b"}, "spans 0-1 and 1.5-: nothing is said from 1 to 1.5 s"),
        ({"text": "0-1: a\n1-2: b"}, "span 1-2: is the last, but the video's 57 frames last 3.5625 s at 16 fps"),
        ({"hand_over": 3.0}, "hand_over 3: longer than the shortest span, 1 s"),
        ({"fps": 0.0}, "smaller than min"),
        ({"strength": 2.0}, "bigger than max"),
    ],
)
def test_errors_reach_whoever_posted(server, changes, message):
    with pytest.raises(WorkflowError, match=message):
        server.run(workflow("story_timeline_wan21", timeline=changes))


@pytest.mark.skipif(not mini.has("vae", "clip", "t2v"), reason="the mini T2V is not trained yet")
def test_a_mini_story(server):
    story = "0-1.75: a small red circle moves left\n1.75-: a small red circle grows"
    api = fill(mini.workflow("mini_story", sampler={"steps": 2}), story, seed=1)
    assert api["timeline"]["inputs"]["text"] == story
    assert read_video(server.run(api)[0]).shape == (93, 64, 64, 3)


def test_the_nodes_describe_themselves(server):
    for name in ("SemVidPromptTimeline", "SemVidPromptTimelineApply", "SemVidTimelineSpan"):
        info = server.get(f"/object_info/{name}")[name]
        inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
        assert info["category"] == "semantic video/long video"
        assert all(options.get("tooltip") for _, options in inputs.values())
        if name != "SemVidTimelineSpan":
            assert list(inputs)[-3:] == ["strength", "start", "end"]
