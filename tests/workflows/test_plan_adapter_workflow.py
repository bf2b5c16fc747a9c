"""A plan from text, rendered in windows, on the real server: the template on tiny models, and the mini family's."""

import numpy as np
import pytest

from semantic_video.cli.media import read_video
from semantic_video.harness.stand_in_models import load_workflow, on_toys
from semantic_video.mini import family as mini
from semantic_video.tests.workflows.test_swin_workflows import SMALL, frames_of


def test_a_planned_video_is_another_and_strength_zero_is_windows_alone(server):
    changes = {"latent": SMALL, "swin": {"window": 6}, "sampler": {"steps": 2}, "plan": {"steps": 2}}
    ticks = []

    def run(strength, listen=lambda *_: None):
        api = on_toys(load_workflow("plan_long_video_wan"), **changes, follow={"strength": strength})
        files = [path for path in server.run(api, listen) if path.suffix == ".mp4"]
        return frames_of(files[0])

    planned = run(1.0, lambda node, value, maximum: ticks.append((node, value, maximum)))
    assert planned.shape == (57, 32, 64, 3)
    assert ("plan", 2, 2) in ticks, "the planner reports its steps"
    bare = on_toys(load_workflow("plan_long_video_wan"), **changes)
    bare["sampler"]["inputs"]["model"] = ["swin", 0]
    for node in ("follow", "adapter", "plan", "planner", "look"):
        del bare[node]
    windows = frames_of(server.run(bare)[0])
    assert np.array_equal(run(0.0), windows)
    assert not np.array_equal(planned, windows)


@pytest.mark.skipif(
    not mini.has("vae", "clip", "t2v", "planner", "plan_adapter"), reason="the mini plan models are not trained yet"
)
def test_the_mini_plan_is_rendered(server):
    frames = read_video(server.run(mini.workflow("mini_semantic_plan", sampler={"steps": 4}))[0])
    assert frames.shape == (93, 64, 64, 3)
