"""The workflows of the adherence shelf, posted to the real server."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from semantic_video.cli.client import WorkflowError
from semantic_video.harness.stand_in_models import load_workflow, on_toys
from semantic_video.tests.workflows.test_swin_workflows import frames_of

NAME = "focal_i2v_wan22_lightning"
SIZE = {"width": 64, "height": 32, "length": 9}
PATCHES = ("contrast_high", "contrast_low", "focal_high", "focal_low")
NODES = ("SemVidTextContrast", "SemVidAlignVid", "SemVidDyMoS", "SemVidALG")


@pytest.fixture
def picture(server):
    image = Image.new("RGB", (128, 64), "white")
    ImageDraw.Draw(image).rectangle((16, 20, 40, 44), fill=(224, 16, 20))
    image.save(server.base / "input" / "subject.png")
    return server


def video(server, api):
    """Frames as ComfyUI's VAE gives them: its video encoder, on several threads, does not give the same bits twice."""
    saved = {"frames": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": "frame"}}}
    files = server.run({name: node for name, node in api.items() if name not in ("video", "save")} | saved)
    return np.stack([np.asarray(Image.open(path)) for path in sorted(files)])


def without(api, *nodes):
    """The graph with nodes taken out, whose model goes straight on."""
    sources = {node: api[node]["inputs"]["model"] for node in nodes}
    kept = {name: node for name, node in api.items() if name not in nodes}
    for node in kept.values():
        for key, value in node["inputs"].items():
            while isinstance(value, list) and value[0] in sources:
                value = node["inputs"][key] = sources[value[0]]
    return kept


def test_two_patches_on_two_experts_with_loras_at_cfg_1(picture):
    [saved] = picture.run(on_toys(load_workflow(NAME), i2v=SIZE))
    assert frames_of(saved).shape == (9, 32, 64, 3)
    patched = video(picture, on_toys(load_workflow(NAME), i2v=SIZE))
    off = {"strength": 0.0}
    nothing = dict.fromkeys(PATCHES, off)
    plain = video(picture, on_toys(load_workflow(NAME), i2v=SIZE, **nothing))
    host_only = without(on_toys(load_workflow(NAME), i2v=SIZE), *PATCHES)
    assert np.array_equal(plain, video(picture, host_only)), "strength 0 must be the host, to the last pixel"
    assert not np.array_equal(patched, plain)
    for patch in PATCHES:
        assert not np.array_equal(patched, video(picture, on_toys(load_workflow(NAME), i2v=SIZE, **{patch: off}))), (
            patch
        )


@pytest.mark.parametrize(("node", "inputs"), [
    ("SemVidAlignVid", {"gamma": 1.35, "blocks": "auto", "min_sigma": 0.9}),
    ("SemVidDyMoS", {"gamma": 0.6, "min_sigma": 0.953}),
    ("SemVidALG", {"factor": 0.0, "guidance": "two passes (variant)", "min_sigma": -1.0}),
])  # fmt: skip
def test_the_others_in_its_place(picture, node, inputs):
    """On the high-noise expert with the published settings, which act in the first of four steps."""
    api = on_toys(load_workflow(NAME), i2v=SIZE)
    plain = video(picture, without(api, *PATCHES))
    api = without(on_toys(load_workflow(NAME), i2v=SIZE), "focal_high", "focal_low")
    model = api["contrast_high"]["inputs"]["model"]
    ends = {"strength": 1.0, "start": 0.0, "end": 1.0}
    api["contrast_high"] = {"class_type": node, "inputs": {"model": model} | inputs | ends}
    api["contrast_low"]["inputs"]["strength"] = 0.0
    acting = video(picture, api)
    assert not np.array_equal(acting, plain)
    api["contrast_high"]["inputs"]["strength"] = 0.0
    assert np.array_equal(video(picture, api), plain)


@pytest.mark.parametrize(("inputs", "message"), [
    ({"blocks": "0-99"}, "blocks: '0-99' is out of range: this model has blocks 0 to 3"),
    ({"strength": 3.0}, "bigger than max"),
    ({"start": 0.8, "end": 0.2}, "must satisfy 0 <= start <= end <= 1"),
])  # fmt: skip
def test_errors_reach_whoever_posted(picture, inputs, message):
    with pytest.raises(WorkflowError, match=message):
        picture.run(on_toys(load_workflow(NAME), i2v=SIZE, contrast_high=inputs))


@pytest.mark.parametrize("node", NODES)
def test_the_nodes_describe_themselves(server, node):
    info = server.get(f"/object_info/{node}")[node]
    assert info["category"] == "semantic video/guidance"
    widgets = info["input"]["required"]
    assert list(widgets)[-3:] == ["strength", "start", "end"]
    assert all(options.get("tooltip") for _, options in widgets.values())
