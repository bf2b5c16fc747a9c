"""The workflows of the SSG Adapter, posted to the real server."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from semantic_video.cli.client import WorkflowError
from semantic_video.harness.stand_in_models import load_workflow, on_toys
from semantic_video.tests.workflows.test_swin_workflows import frames_of

SIZE = {"width": 64, "height": 32, "length": 9}
SMALL = {
    "ssg_i2v_visual_prompt_wan": {"i2v": SIZE, "sampler": {"steps": 2}},
    "ssg_t2v_adapter_wan": {"latent": SIZE, "sampler": {"steps": 2}},
}


@pytest.fixture
def picture(server):
    """A red and a blue square, with transparency."""
    image = Image.new("RGBA", (128, 64), (255, 255, 255, 128))
    pen = ImageDraw.Draw(image)
    pen.rectangle((16, 20, 40, 44), fill=(224, 16, 20, 255))
    pen.rectangle((88, 20, 112, 44), fill=(20, 52, 235, 255))
    image.save(server.base / "input" / "subject.png")
    return server


def video(server, name, **changes):
    return next(
        frames_of(path)
        for path in server.run(on_toys(load_workflow(name), **SMALL[name] | changes))
        if path.suffix == ".mp4"
    )


@pytest.mark.parametrize("name", SMALL)
def test_the_video_follows_the_prompted_picture(picture, name):
    following = video(picture, name)
    assert following.shape == (9, 32, 64, 3)
    assert not np.array_equal(following, video(picture, name, apply={"strength": 0.0}))
    assert not np.array_equal(following, video(picture, name, mask={"text": "a blue square"})), (
        "what the text names decides what is shown"
    )
    assert not np.array_equal(following, video(picture, name, apply={"passes": "conditional"}))


def test_a_mask_and_features_of_the_same_clip(picture):
    """The mini CLIP makes mask and features; an adapter for another CLIP is refused, the same on the image branch."""
    api = on_toys(load_workflow("ssg_t2v_adapter_wan"), **SMALL["ssg_t2v_adapter_wan"])
    api["apply"]["inputs"]["mask"] = ["mask", 0]
    whole = next(frames_of(path) for path in picture.run(api) if path.suffix == ".mp4")
    assert not np.array_equal(whole, video(picture, "ssg_t2v_adapter_wan"))
    api["see_prompt"] = {
        "class_type": "SemVidCLIPImageFeatures",
        "inputs": {"clip": ["clip_open", 0], "image": ["visual_prompt", 0]},
    }
    with pytest.raises(
        WorkflowError,
        match="trained with those of a CLIP of width 1280. Encode the image with the CLIP the adapter was trained with",
    ):
        picture.run(api)


def test_errors_reach_whoever_posted(picture):
    name = "ssg_t2v_adapter_wan"
    without = on_toys(load_workflow(name), **SMALL[name])
    del without["apply"]["inputs"]["adapter"]
    with pytest.raises(WorkflowError, match="this Wan has no image branch that takes CLIP features"):
        picture.run(without)
    folder = picture.base / "models" / "model_patches"
    save_file({"lora.up": torch.zeros(2)}, folder / "lora.safetensors")
    for file, message in (
        ("lora.safetensors", "lora.safetensors: is no SSG Adapter"),
        ("toy_expert.safetensors", "toy_expert.safetensors: is no SSG Adapter"),
    ):
        with pytest.raises(WorkflowError, match=message):
            picture.run(on_toys(load_workflow(name), **SMALL[name] | {"adapter": {"adapter_name": file}}))
    missing = on_toys(load_workflow(name), **SMALL[name] | {"adapter": {"adapter_name": "gone.safetensors"}})
    del missing["heat"]  # or the host runs that part of the graph alone
    with pytest.raises(WorkflowError, match="adapter_name"):
        picture.run(missing)
    blind = on_toys(load_workflow("ssg_i2v_visual_prompt_wan"), **SMALL["ssg_i2v_visual_prompt_wan"])
    del blind["i2v"]["inputs"]["clip_vision_output"]
    with pytest.raises(WorkflowError, match="no conditioning carries CLIP features of a start image"):
        picture.run(blind)
