"""The workflows of Focal Guidance, the Layer Probe and Attention Maps, posted to the real server."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from semantic_video.cli.client import WorkflowError
from semantic_video.harness.stand_in_models import load_workflow, on_toys
from semantic_video.tests.workflows.test_swin_workflows import frames_of

SIZE = {"width": 64, "height": 32, "length": 9}
SMALL = {
    "focal_i2v_wan21": {"i2v": SIZE, "sampler": {"steps": 2}},
    "focal_i2v_hunyuan": {"i2v": SIZE, "schedule": {"steps": 2}},
}
PROBE = {"i2v": SIZE, "small": SIZE, "sampler": {"steps": 2}, "probe": {"levels": 1}, "maps": {"words": "cat, table"}}


@pytest.fixture
def picture(server):
    image = Image.new("RGB", (128, 64), (200, 210, 220))
    ImageDraw.Draw(image).rectangle((16, 20, 40, 44), fill=(224, 16, 20))
    image.save(server.base / "input" / "subject.png")
    return server


def pictures(server, api, source):
    """Frames as the graph makes them, saved one by one: an encoded video is not the same to the last bit twice."""
    api = {name: node for name, node in api.items() if name not in ("video", "save")}
    api["frames"] = {"class_type": "SaveImage", "inputs": {"images": source, "filename_prefix": "frame"}}
    files = [path for path in server.run(api) if path.name.startswith("frame")]
    return np.stack([np.asarray(Image.open(path)) for path in sorted(files)])


def video(server, name, **changes):
    return pictures(server, on_toys(load_workflow(name), **SMALL[name] | changes), ["decode", 0])


@pytest.mark.parametrize("name", SMALL)
def test_keywords_act_and_strength_0_is_the_host(picture, name):
    guided = video(picture, name)
    assert guided.shape == (9, 32, 64, 3)
    plain = on_toys(load_workflow(name), **SMALL[name])
    reader = "guider" if name == "focal_i2v_hunyuan" else "sampler"
    plain[reader]["inputs"]["model"] = ["shift", 0]
    del plain["focal"]
    host = pictures(picture, plain, ["decode", 0])
    assert not np.array_equal(guided, host)
    assert np.array_equal(host, video(picture, name, focal={"strength": 0.0}))
    assert not np.array_equal(guided, video(picture, name, focal={"keywords": "", "blocks": "1-2"}))


def test_the_workflow_saves_its_video(picture):
    [saved] = picture.run(on_toys(load_workflow("focal_i2v_wan21"), **SMALL["focal_i2v_wan21"]))
    assert frames_of(saved).shape == (9, 32, 64, 3)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"keywords": "dog"}, "keywords: 'dog' does not stand in the prompt"),
        ({"text": "it is on the"}, "keywords: '.*' does not stand in the prompt"),
        ({"text": "", "keywords": ""}, "text: empty"),
        ({"cache": 0.5}, "source_blocks: empty"),
        ({"cache": 0.5, "blocks": "0", "source_blocks": "0"}, "both have 0"),
        ({"cache": 0.5, "blocks": "0", "source_blocks": "1"}, "comes before every source"),
        (
            {"text": "A cat stands up, stretches and walks to the window" + " slowly" * 99},
            "109 tokens in this CLIP, but",
        ),
    ],
)
def test_errors_reach_whoever_posted(picture, name, inputs, message):
    with pytest.raises(WorkflowError, match=message):
        picture.run(on_toys(load_workflow(name), **SMALL[name], focal=inputs))


def test_probe_lists_go_where_they_are_read(picture):
    """Weak blocks into Focal Guidance, responsive ones into Attention Maps: the same as written by hand."""
    api = on_toys(load_workflow("focal_probe_attention_maps"), **PROBE)
    overlays = pictures(picture, api, ["maps", 1])
    assert overlays.shape == (2 * 9, 32, 64, 3), "nine frames for each of two words"
    assert not np.array_equal(overlays[:9], overlays[9:])
    weak, responsive, report = texts_of(picture, "weak", "responsive", "report")
    report = json.loads(report)
    assert report["blocks"] == 4 and len(report["change"]) == 4 and min(report["change"]) > 0
    assert (weak, responsive) == (report["weak"], report["responsive"])
    by_hand = on_toys(load_workflow("focal_probe_attention_maps"), **PROBE)
    by_hand["maps"]["inputs"]["blocks"] = responsive
    assert np.array_equal(overlays, pictures(picture, by_hand, ["maps", 1]))


def texts_of(server, *nodes):
    """What PreviewAny nodes showed in the last run."""
    history = server.get("/history")
    outputs = max(history.values(), key=lambda entry: entry["prompt"][0])["outputs"]
    return [outputs[node]["text"][0] for node in nodes]


def test_masks_are_one_a_frame_of_the_image_or_the_latent(picture):
    api = on_toys(load_workflow("focal_probe_attention_maps"), **PROBE | {"maps": {"words": "cat", "blocks": "1"}})
    api["as_image"] = {"class_type": "MaskToImage", "inputs": {"mask": ["maps", 0]}}
    masks = pictures(picture, api, ["as_image", 0])
    assert masks.shape == (9, 32, 64, 3)
    assert masks.min() < 10 and masks.max() > 245, "smoothed between tokens"
    del api["maps"]["inputs"]["image"]
    assert pictures(picture, api, ["as_image", 0]).shape == (3, 32, 64, 3), "latent frames, in the video's size"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"words": "dog"}, "words: 'dog' does not stand in the prompt"),
        ({"words": " , "}, "words: empty"),
        ({"blocks": "7"}, "blocks: '7' is out of range"),
        ({"image": ["image", 0]}, "image: 1 video frame for 3 latent frames; these make 9. Connect the frames"),
    ],
)
def test_bad_input_of_attention_maps(picture, inputs, message):
    with pytest.raises(WorkflowError, match=message):
        picture.run(on_toys(load_workflow("focal_probe_attention_maps"), **PROBE | {"maps": inputs}))
