"""The workflows of the Swin Renderer, posted to the real server."""

from fractions import Fraction

import av
import numpy as np
import pytest

from semantic_video.cli.client import WorkflowError
from semantic_video.harness.stand_in_models import load_workflow, on_toys

SMALL = {"width": 64, "height": 32, "length": 57}  # 15 latent frames


def frames_of(path):
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def write_clip(path, frames):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(12))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)


@pytest.mark.parametrize(
    ("name", "steps"),
    [("swin_long_video_wan", {"sampler": {"steps": 2}}), ("swin_long_video_hunyuan", {"schedule": {"steps": 2}})],
)
def test_long_video(server, name, steps):
    ticks = []
    changes = {"latent": SMALL, "swin": {"window": 6, "anchor_budget": 12}} | steps
    files = server.run(
        on_toys(load_workflow(name), **changes), lambda node, value, maximum: ticks.append((node, value, maximum))
    )
    assert frames_of(files[0]).shape == (57, 32, 64, 3)
    assert ("sampler", 2, 2) in ticks
    plain = server.run(on_toys(load_workflow(name), **changes | {"swin": {"strength": 0.0}}))
    host_only = on_toys(load_workflow(name), **{k: v for k, v in changes.items() if k != "swin"})
    for node in host_only.values():
        node["inputs"] = {key: ["shift", 0] if value == ["swin", 0] else value for key, value in node["inputs"].items()}
    del host_only["swin"]
    assert np.array_equal(frames_of(plain[0]), frames_of(server.run(host_only)[0])), (
        "strength 0 must be the host, to the last pixel"
    )
    assert not np.array_equal(frames_of(files[0]), frames_of(plain[0]))


def test_video_to_video(server):
    clip = np.tile(np.linspace(0, 255, 96, dtype=np.uint8)[None, None, :, None], (45, 64, 1, 3))
    write_clip(server.base / "input" / "clip.mp4", clip)
    files = server.run(
        on_toys(
            load_workflow("swin_video_to_video"),
            scale={"width": 64, "height": 32},
            sampler={"steps": 2},
            swin={"window": 4},
        )
    )
    assert frames_of(files[0]).shape == (45, 32, 64, 3)
    with av.open(str(files[0])) as file:
        assert file.streams.video[0].average_rate == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"swin": {"window": -1}}, r"SemVidSwinRenderer \(swin\): .*smaller than min"),
        ({"swin": {"window": 7}}, "window 7: must be even"),
        ({"swin": {"dense_blocks": "0-99"}}, "dense_blocks: '0-99' is out of range"),
        ({"swin": {"window": 42, "anchors": "first frame"}}, "window 42 leaves no room for anchors"),
        ({"swin": {"window": 22, "time_scale": 1.0}}, "window 22 leaves no room for anchors"),
        ({"swin": {"time_scale": 1.5}}, "bigger than max"),
        ({"swin": {"strength": 2.0}}, "bigger than max"),
    ],
)
def test_errors_reach_whoever_posted(server, changes, message):
    with pytest.raises(WorkflowError, match=message):
        server.run(
            on_toys(
                load_workflow("swin_long_video_wan"), latent=SMALL | {"length": 121}, sampler={"steps": 1}, **changes
            )
        )


def test_the_node_describes_itself(server):
    info = server.get("/object_info/SemVidSwinRenderer")["SemVidSwinRenderer"]
    assert info["category"].startswith("semantic video")
    widgets = info["input"]["required"]
    assert list(widgets)[-3:] == ["strength", "start", "end"]
    later = info["input"]["optional"]
    added = ["time_scale", "look_back", "trained", "lead_in", "blend", "lead_noise", "sound", "order"]
    added += ["lead_guidance", "restarts", "candidates"]
    assert list(later) == added, "graphs posted before these came run as they did"
    assert all(options.get("tooltip") for _, options in later.values())
    assert all(options.get("tooltip") for _, options in widgets.values())
    assert widgets["window"][1]["default"] == widgets["window"][1]["min"] == 0
    assert list(widgets)[:3] == ["model", "window", "shift"]
