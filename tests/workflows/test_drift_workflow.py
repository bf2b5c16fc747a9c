"""The drift report of any video, posted to the real server."""

import numpy as np
import pytest
import torch
from PIL import Image

from semantic_video.cli.client import WorkflowError
from semantic_video.cli.media import write_video
from semantic_video.harness.stand_in_models import load_workflow
from semantic_video.tests.workflows.test_focal_workflows import texts_of


def clip():
    """Noise that gets darker by half, with a jump at frame 21."""
    frames = torch.rand(1, 32, 48, 3, generator=torch.Generator().manual_seed(0)).repeat(45, 1, 1, 1)
    frames[21:] = frames[21:].flip(1)
    return frames * torch.linspace(1, 0.5, 45)[:, None, None, None]


def test_any_video_gets_its_report(server):
    write_video(server.base / "input" / "clip.mp4", clip())
    api = load_workflow("drift_report")
    api["drift"]["inputs"]["window"] = 6
    [plot] = [path for path in server.run(api) if path.suffix == ".png"]
    assert np.asarray(Image.open(plot)).shape == (470, 900, 3)
    [report] = texts_of(server, "report")
    luma = next(line.split() for line in report.splitlines() if line.startswith("luma"))
    first, last = (float(part.mean((1, 2)) @ torch.tensor((0.2126, 0.7152, 0.0722))) for part in ends())
    assert float(luma[1]) == pytest.approx(first, abs=0.01) and float(luma[2]) == pytest.approx(last, abs=0.01)
    assert "largest jumps over the usual one, by frame: 21:" in report
    assert "seams, median" in report and "(21: " in report


def ends():
    frames = clip()
    return frames[:6].mean(0, keepdim=True), frames[-6:].mean(0, keepdim=True)


def test_clip_sees_subject_and_text(server):
    """MiniWorld's own CLIP, through the pack's loader."""
    write_video(server.base / "input" / "clip.mp4", clip())
    api = load_workflow("drift_report")
    api["clip"] = {
        "class_type": "SemVidCLIPLoader",
        "_meta": {"title": "CLIP"},
        "inputs": {"clip_name": "mini_clip.safetensors", "activation": "auto"},
    }
    api["drift"]["inputs"] |= {"clip": ["clip", 0], "text": "a red square"}
    server.run(api)
    [report] = texts_of(server, "report")
    assert "\nsubject " in report and "\ntext " in report


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"borders": "45"}, "borders: '45' is no frame of this video .* write numbers from 1 to 44"),
        ({"text": "a red square"}, "text: needs clip to be compared with"),
    ],
)
def test_errors_reach_whoever_posted(server, inputs, message):
    write_video(server.base / "input" / "clip.mp4", clip())
    api = load_workflow("drift_report")
    api["drift"]["inputs"] |= inputs
    with pytest.raises(WorkflowError, match=message):
        server.run(api)
