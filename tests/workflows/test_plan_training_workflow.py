"""The workflows that train a Plan Adapter and a Semantic Planner, posted to the real server one after the other, and
what they made, at work."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from semantic_video.cli.client import WorkflowError
from semantic_video.harness.stand_in_models import load_workflow, on_toys
from semantic_video.mini import family as mini
from semantic_video.tests.workflows.test_swin_workflows import frames_of, write_clip

pytestmark = pytest.mark.skipif(not mini.has("clip"), reason="the mini CLIP is not trained yet")
SMALL = {
    "width": 64,
    "height": 32,
    "length": 9,
    "fps": 8.0,
    "plan_fps": 4.0,
    "steps": 4,
    "batch_size": 2,
    "rows": 2,
    "columns": 2,
    "validation": 0.3,
    "validate_every": 2,
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for i, caption in enumerate(("a red square", "a blue circle", "a large green cross")):
        frames = np.full((20, 64, 96, 3), 30, dtype=np.uint8)
        frames[:, 16:48, 8 + 24 * i : 40 + 24 * i, i] = 220
        write_clip(folder / f"{i}.mp4", frames)
        (folder / f"{i}.txt").write_text(caption)
    return folder


def facts_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["training"])


def test_train_both_and_use_them(server, clips):
    patches, ticks = server.base / "models" / "model_patches", []
    adapter = {"folder": str(clips), "filename": "mine", "rank": 4, "dims": 3} | SMALL
    files = server.run(
        on_toys(load_workflow("plan_train_adapter_wan"), train=adapter), lambda *tick: ticks.append(tick)
    )
    assert ("train", 4, 4) in ticks and [file for file in files if file.suffix == ".png"], "the loss plot"
    assert facts_of(patches / "mine.safetensors")["validation"] > 0
    with pytest.raises(WorkflowError, match="mine.safetensors exists already"):
        server.run(on_toys(load_workflow("plan_train_adapter_wan"), train=adapter | {"seed": 1}))
    planner = {"folder": str(clips), "filename": "planner", "channels": 12, "heads": 1, "blocks": 1} | SMALL
    planner["compressor_name"] = "mine_compressor.safetensors"
    server.run(on_toys(load_workflow("plan_train_planner_wan"), train=planner))
    facts = facts_of(patches / "planner.safetensors")
    assert facts["videos"] == 3 and facts["steps"] in (2, 4) and facts["validation"] > 0
    server.run(on_toys(load_workflow("plan_train_planner_wan"), train=planner | {"resume": True, "steps": 6}))
    with pytest.raises(WorkflowError, match="trained on features of|is no compressor of plans"):
        wrong = planner | {"compressor_name": "mine.safetensors", "filename": "other"}
        server.run(on_toys(load_workflow("plan_train_planner_wan"), train=wrong))
    use = on_toys(
        load_workflow("plan_long_video_wan"),
        latent={"width": 64, "height": 32, "length": 33},
        sampler={"steps": 1},
        swin={"window": 4},
        planner={"planner_name": "planner.safetensors"},
        plan={"steps": 2, "seconds": 2.0},
        adapter={"adapter_name": "mine.safetensors"},
    )
    video = next(frames_of(file) for file in server.run(use) if file.suffix == ".mp4")
    assert video.shape == (33, 32, 64, 3)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("plan_train_adapter_wan", {"folder": "/no/such"}, "folder '/no/such': no such folder"),
        ("plan_train_adapter_wan", {"length": 10}, r"length 10: must be 4 n \+ 1"),
        ("plan_train_adapter_wan", {"blocks": "7"}, "blocks: '7' is out of range"),
        ("plan_train_planner_wan", {"length": 29}, "0.mp4: has 14 frames at 8 fps, length asks for 29"),
        ("plan_train_planner_wan", {"channels": 16, "heads": 3}, "channels 16: must divide into 3 heads"),
    ],
)
def test_errors_reach_whoever_posted(server, clips, name, changes, message):
    own = {"compressor_name": "mini_compressor.safetensors"} if name == "plan_train_planner_wan" else {}
    api = on_toys(load_workflow(name), train={"folder": str(clips), "filename": "refused"} | SMALL | own | changes)
    with pytest.raises(WorkflowError, match=message):
        server.run(api)
