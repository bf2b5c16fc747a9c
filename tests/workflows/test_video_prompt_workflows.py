"""The workflows of Video-As-Prompt, posted to the real server."""

import numpy as np
import pytest
from PIL import Image

from semantic_video.cli.client import WorkflowError
from semantic_video.harness.stand_in_models import load_workflow, on_toys
from semantic_video.tests.workflows.test_swin_workflows import frames_of, write_clip

SMALL = {
    "i2v": {"width": 64, "height": 32, "length": 9},
    "reference": {"width": 64, "height": 32, "length": 9},
    "sampler": {"steps": 2},
}


@pytest.fixture
def films(server):
    Image.fromarray(np.full((48, 64, 3), 90, dtype=np.uint8)).save(server.base / "input" / "subject.png")
    ramp = np.linspace(0, 255, 96, dtype=np.uint8)
    rolling = np.stack([np.tile(np.roll(ramp, 8 * i)[None, :, None], (64, 1, 3)) for i in range(25)])
    write_clip(server.base / "input" / "reference.mp4", rolling)
    return server


def test_video_as_prompt(films):
    workflow = on_toys(load_workflow("vap_video_as_prompt_wan"), **SMALL)
    with_reference = frames_of(films.run(workflow)[0])
    assert with_reference.shape == (9, 32, 64, 3)
    without = on_toys(load_workflow("vap_video_as_prompt_wan"), **SMALL | {"apply": {"strength": 0.0}})
    assert not np.array_equal(with_reference, frames_of(films.run(without)[0]))
    as_video = on_toys(
        load_workflow("vap_video_as_prompt_wan"),
        **SMALL | {"reference": SMALL["reference"] | {"reference_video": ["load", 0]}},
    )
    assert np.array_equal(with_reference, frames_of(films.run(as_video)[0])), "a VIDEO is taken like its frames"


def test_save_expert(films):
    films.run(on_toys(load_workflow("vap_save_expert"), save={"filename": "extracted"}))
    assert (films.base / "models" / "model_patches" / "extracted.safetensors").exists()
    with pytest.raises(WorkflowError, match="exists already"):
        films.run(on_toys(load_workflow("vap_save_expert"), save={"filename": "toy_expert"}))
    with pytest.raises(WorkflowError, match="filename '../../escaped': has an empty part, or one of dots"):
        films.run(on_toys(load_workflow("vap_save_expert"), save={"filename": "../../escaped"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"reference": SMALL["reference"] | {"reference_video": ["first", 0]}},
            r"reference_video: 1 frame\(s\); a reference is a video of at least 2",
        ),
        ({"apply": {"model": ["expert", 0]}}, "SEMVID_VAP_EXPERT. mismatch input_type.MODEL"),
        (
            {"sampler": {"steps": 1, "positive": ["i2v", 0], "negative": ["i2v", 1]}},
            "no conditioning carries a reference video",
        ),
    ],
)
def test_errors_reach_whoever_posted(films, changes, message):
    with pytest.raises(WorkflowError, match=message):
        films.run(on_toys(load_workflow("vap_video_as_prompt_wan"), **SMALL | changes))


def test_missing_clip_vision(films):
    workflow = on_toys(load_workflow("vap_video_as_prompt_wan"), **SMALL)
    del workflow["reference"]["inputs"]["clip_vision_output"]
    with pytest.raises(WorkflowError, match="clip_vision_output: missing on VAP Reference"):
        films.run(workflow)
