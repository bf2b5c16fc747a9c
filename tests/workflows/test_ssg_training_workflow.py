"""The workflow that trains an SSG Adapter, posted to the real server, and the adapter it made, applied."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from semantic_video.cli.client import WorkflowError
from semantic_video.harness.stand_in_models import load_workflow, on_toys
from semantic_video.tests.workflows.test_swin_workflows import frames_of, write_clip

NAME = "ssg_train_adapter_wan"
SMALL = {
    "width": 64,
    "height": 32,
    "length": 9,
    "fps": 0.0,
    "steps": 12,
    "batch_size": 2,
    "learning_rate": 0.01,
    "rank": 4,
    "token_width": 16,
    "validation": 0.3,
    "validate_every": 4,
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three clips with captions in words that MiniWorld's CLIP knows."""
    folder = tmp_path_factory.mktemp("clips")
    for i, caption in enumerate(("a red square", "a blue circle", "a large green cross")):
        frames = np.full((12, 64, 96, 3), 30, dtype=np.uint8)
        frames[:, 16:48, 8 + 24 * i : 40 + 24 * i, i] = 220
        write_clip(folder / f"{i}.mp4", frames)
        (folder / f"{i}.txt").write_text(caption)
    return folder


def run(server, clips, **changes):
    return server.run(on_toys(load_workflow(NAME), train={"folder": str(clips)} | SMALL | changes))


def test_train_resume_and_apply(server, clips):
    ticks = []
    path = server.base / "models" / "model_patches" / "trained.safetensors"
    files = server.run(
        on_toys(load_workflow(NAME), train={"folder": str(clips), "filename": "trained"} | SMALL),
        lambda *tick: ticks.append(tick),
    )
    assert ("train", 12, 12) in ticks
    assert [file for file in files if file.suffix == ".png"], "the loss plot"
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["training"])
    assert facts["clips"] == 3 and facts["steps"] in (4, 8, 12) and facts["validation"] > 0
    run(server, clips, filename="trained")  # kept by ComfyUI, or it would refuse
    path.unlink()
    run(server, clips, filename="trained")
    assert path.exists(), "made again"
    run(server, clips, filename="trained")
    with pytest.raises(
        WorkflowError, match=r"trained.safetensors exists already\. Choose another name, delete it, or turn resume on"
    ):
        run(server, clips, filename="trained", seed=1)
    with pytest.raises(WorkflowError, match="do not fit, first .* made for another model or with other settings"):
        run(server, clips, filename="trained", resume=True, rank=5)
    run(server, clips, filename="trained", resume=True, steps=16)
    use = on_toys(
        load_workflow("ssg_t2v_adapter_wan"),
        latent={"width": 64, "height": 32, "length": 9},
        sampler={"steps": 2},
        adapter={"adapter_name": "trained.safetensors"},
        image={"image": "subject.png"},
        mask={"text": "a red square", "patches": "negated"},
    )
    Image.fromarray(np.full((32, 64, 3), 90, dtype=np.uint8)).save(server.base / "input" / "subject.png")
    video = next(frames_of(file) for file in server.run(use) if file.suffix == ".mp4")
    assert video.shape == (9, 32, 64, 3)


def test_the_mask_clip_alone_will_do(server, clips):
    api = on_toys(
        load_workflow(NAME),
        train={"folder": str(clips), "filename": "alone", "validation": 0.0, "blocks": "0,2"}
        | {key: value for key, value in SMALL.items() if key not in ("validation",)},
    )
    del api["train"]["inputs"]["clip_vision"]
    server.run(api)
    with safe_open(server.base / "models" / "model_patches" / "alone.safetensors", "pt") as file:
        assert file.metadata()["blocks"] == "0,2" and file.metadata()["clip_width"] == "128"
    del api["train"]["inputs"]["mask_clip"]
    api["train"]["inputs"]["filename"] = "blind"
    with pytest.raises(WorkflowError, match="clip_vision: missing, and mask_clip too"):
        server.run(api)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folder": "/no/such/folder"}, "folder '/no/such/folder': no such folder"),
        ({"filename": "../escaped"}, "has an empty part, or one of dots"),
        ({"length": 13, "filename": "long"}, r"0.mp4: has 12 frames, length asks for 13\. Lower length"),
        ({"length": 10, "filename": "odd"}, r"length 10: must be 4 n \+ 1"),
        ({"blocks": "7", "filename": "blocks"}, "blocks: '7' is out of range: this model has blocks 0 to 3"),
    ],
)
def test_errors_reach_whoever_posted(server, clips, changes, message):
    with pytest.raises(WorkflowError, match=message):
        run(server, clips, **changes)


def test_the_node_describes_itself(server):
    info = server.get("/object_info/SemVidSSGAdapterTrain")["SemVidSSGAdapterTrain"]
    assert all(
        options.get("tooltip") for part in ("required", "optional") for _, options in info["input"][part].values()
    )
