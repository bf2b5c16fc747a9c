"""The workflows of MiniMax H3 and LTX-2.3, posted to the real server, sound included."""

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw

from semantic_video.cli.client import WorkflowError
from semantic_video.harness.stand_in_models import load_workflow, on_toys
from semantic_video.tests.workflows.test_adherence_workflows import without
from semantic_video.tests.workflows.test_focal_workflows import pictures
from semantic_video.tests.workflows.test_swin_workflows import frames_of

TWO, TWO_LATE = "1.0, 0.8, 0.0", "0.85, 0.4, 0.0"  # noise levels of two steps
H3 = {"width": 64, "height": 32, "length": 39}  # 12 latent frames
SMALL = {
    "swin_long_video_h3": {"i2v": H3, "swin": {"window": 4, "anchor_budget": 6}, "schedule": {"steps": 2}},
    "story_timeline_h3": {"latent": H3, "told": {"fps": 1.3}, "schedule": {"steps": 2}},
    "focal_i2v_h3": {"i2v": H3 | {"length": 22}, "schedule": {"steps": 2}},
    "contrast_i2v_ltx": {
        "latent": {"width": 64, "height": 64, "length": 17},
        "silence": {"frames_number": 17},
        "sigmas": {"sigmas": TWO},
    },
    "ssg_i2v_visual_prompt_h3": {"latent": H3 | {"length": 22}, "schedule": {"steps": 2}},
    "draft_video_h3": {
        "i2v": H3 | {"length": 22},
        "plan": {"width": 128, "height": 64, "length": 22},
        "schedule": {"steps": 2},
        "start": {"steps": 2},
    },
    "swin_long_video_ltx": {
        "latent": {"width": 64, "height": 64, "length": 65},
        "silence": {"frames_number": 65},
        "swin": {"window": 4, "anchor_budget": 6},
        "sigmas": {"sigmas": TWO},
    },
    "story_timeline_ltx": {
        "latent": {"width": 64, "height": 64, "length": 65},
        "silence": {"frames_number": 65},
        "told": {"fps": 2.0},
        "sigmas": {"sigmas": TWO},
    },
    "draft_video_ltx": {
        "latent": {"width": 64, "height": 64, "length": 17},
        "silence": {"frames_number": 17},
        "plan": {"width": 128, "height": 128, "length": 17},
        "draft_sigmas": {"sigmas": TWO},
        "render_sigmas": {"sigmas": TWO_LATE},
    },
}
SIZES = {"swin_long_video_h3": (39, 32, 64, 3), "swin_long_video_ltx": (65, 64, 64, 3)}


@pytest.fixture
def picture(server):
    image = Image.new("RGB", (128, 64), (255, 255, 255))
    pen = ImageDraw.Draw(image)
    pen.rectangle((16, 20, 40, 44), fill=(224, 16, 20))
    pen.rectangle((88, 20, 112, 44), fill=(20, 52, 235))
    image.save(server.base / "input" / "subject.png")
    return server


def graph(server, name, **changes):
    if name.endswith("h3") and not server.get("/object_info/MiniMaxH3ImageToVideo"):
        pytest.skip("this host has no MiniMax H3")
    return on_toys(load_workflow(name), **SMALL[name] | changes)


def frames(server, api, source="decode"):
    return pictures(server, api, [source, 0])


@pytest.mark.parametrize("name", SIZES)
def test_long_videos_with_sound(server, name):
    [saved] = server.run(graph(server, name))
    assert frames_of(saved).shape == SIZES[name]
    with av.open(str(saved)) as file:
        [sound] = file.streams.audio
        seconds = sum(frame.samples for frame in file.decode(sound)) / sound.rate
        assert seconds == pytest.approx(SIZES[name][0] / file.streams.video[0].average_rate, abs=0.1)
    windows = frames(server, graph(server, name))
    off = frames(server, graph(server, name, swin=SMALL[name]["swin"] | {"strength": 0.0}))
    assert np.array_equal(off, frames(server, without(graph(server, name), "swin"))), "strength 0 must be the host"
    assert not np.array_equal(windows, off)


def test_keywords_and_contrast_act_on_h3(picture):
    """Also beside a start image, whose tokens stand in front of the prompt's."""
    name = "focal_i2v_h3"
    both = frames(picture, graph(picture, name))
    assert both.shape == (22, 32, 64, 3)
    off = {"strength": 0.0}
    host = frames(picture, without(graph(picture, name), "contrast", "focal"))
    assert np.array_equal(host, frames(picture, graph(picture, name, contrast=off, focal=off)))
    assert not np.array_equal(both, frames(picture, graph(picture, name, focal=off)))
    assert not np.array_equal(both, frames(picture, graph(picture, name, contrast=off)))
    with pytest.raises(WorkflowError, match="keywords: 'dog' does not stand in the prompt"):
        picture.run(graph(picture, name, focal={"keywords": "dog"}))


def test_contrast_acts_on_ltx(picture):
    """Beside sound, and a start image in the latent."""
    name = "contrast_i2v_ltx"
    strong = frames(picture, graph(picture, name))
    assert strong.shape == (17, 64, 64, 3)
    host = frames(picture, without(graph(picture, name), "contrast"))
    assert np.array_equal(host, frames(picture, graph(picture, name, contrast={"strength": 0.0})))
    assert not np.array_equal(strong, host)


def test_the_encoder_of_h3_sees_the_prompted_picture(picture):
    """What the text names decides what is shown; the start image is the picture as it is."""
    name = "ssg_i2v_visual_prompt_h3"
    red = frames(picture, graph(picture, name))
    assert red.shape == (22, 32, 64, 3)
    assert not np.array_equal(red, frames(picture, graph(picture, name, mask={"text": "a blue square"})))
    plain = graph(picture, name)
    plain["positive"]["inputs"]["image"] = ["image", 0]
    unprompted = frames(picture, plain)
    assert not np.array_equal(red, unprompted)
    assert np.array_equal(frames(picture, graph(picture, name, visual_prompt={"strength": 0.0})), unprompted)


@pytest.mark.parametrize("name", ["draft_video_h3", "draft_video_ltx"])
def test_a_draft_and_its_render(server, name):
    api = graph(server, name)
    [saved] = server.run(api)
    plan = SMALL[name]["plan"]
    with av.open(str(saved)) as file:
        assert file.streams.audio
    render = frames(server, api)
    assert render.shape == (plan["length"], plan["height"], plan["width"], 3) and frames_of(saved).shape == render.shape
    assert not np.array_equal(render, frames(server, graph(server, name, draft_noise={"noise_seed": 7})))
    if name == "draft_video_h3":  # whose stand-in of an autoencoder keeps colours
        faint = frames(server, graph(server, name, start={"steps": 2, "sigma": 0.01, "growth": 1.0}))
        draft = frames(server, graph(server, name), "draft_decode").astype(int)
        double = draft.repeat(2, 1).repeat(2, 2)
        assert np.abs(faint - double).mean() < np.abs(render - double).mean() / 3


def test_a_draft_of_fewer_frames_for_h3(server):
    """22 video frames stretched to 39, onto a latent of that length, whose sound begins as silence."""
    api = graph(server, "draft_video_h3")
    api["long"] = {**api["i2v"], "inputs": api["i2v"]["inputs"] | H3}
    api["plan"]["inputs"]["latent"] = ["long", 1]
    api["render"]["inputs"]["latent_image"] = ["plan", 0]
    for unused in ("both", "streams"):
        del api[unused]
    render = frames(server, api)
    assert render.shape == (39, 32, 64, 3)
    api["draft_noise"]["inputs"]["noise_seed"] = 7
    assert not np.array_equal(render, frames(server, api))


@pytest.mark.parametrize("name", ["story_timeline_h3", "story_timeline_ltx"])
def test_a_story_in_parts(server, name):
    """Each span's text reaches its own frames: another text for the last span."""
    api = graph(server, name)
    told = frames(server, api)
    api["told"]["inputs"]["text"] = api["told"]["inputs"]["text"].replace("runs off", "sleeps")
    assert not np.array_equal(told, frames(server, api))
    off = graph(server, name, told=SMALL[name]["told"] | {"strength": 0.0}, swin={"strength": 0.0})
    assert not np.array_equal(told, frames(server, off))
