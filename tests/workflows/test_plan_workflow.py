"""The plan workflow on the real server, with the mini CLIP: what is saved is the plan of what the video shows."""

import numpy as np
import torch
from PIL import Image

from semantic_video.cli.media import write_video
from semantic_video.harness.stand_in_models import load_workflow, on_toys
from semantic_video.kernels.semantic_plan import SemanticPlan, play


def two_scenes() -> torch.Tensor:
    """Two seconds of a red square on the left, then two of a blue one on the right."""
    video = torch.ones(64, 64, 64, 3)
    video[:32, 20:44, 4:28] = torch.tensor([0.88, 0.06, 0.08])
    video[32:, 20:44, 36:60] = torch.tensor([0.08, 0.2, 0.92])
    return video


def test_a_video_becomes_a_plan_that_is_edited_and_kept(server):
    from semantic_video.patches.plan_file import load_plan  # needs the host, which `server` starts

    write_video(server.base / "input" / "clip.mp4", two_scenes())
    files = server.run(on_toys(load_workflow("semantic_plan")))
    (saved,) = [path for path in files if path.suffix == ".safetensors"]
    assert saved.relative_to(server.base).as_posix() == "output/plans/plan_00001.safetensors"
    plan = load_plan(saved)
    assert (plan.fps, plan.seconds) == (2.0, 8.0)
    first, last = plan.tokens[:6], plan.tokens[-6:]
    torch.testing.assert_close(first, first[:1].expand_as(first), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last, last[:1].expand_as(last), rtol=1e-4, atol=1e-4)
    assert (first[0] - last[0]).norm() > 0.1 * first[0].norm()
    original = SemanticPlan(torch.stack([first[0]] * 4 + [last[0]] * 4), 2.0, plan.encoder)
    torch.testing.assert_close(plan.tokens, play(original, 0.5).tokens, rtol=1e-3, atol=1e-3)
    pictures = [np.asarray(Image.open(path)) for path in files if path.name.startswith("semantic_plan")]
    rows, columns = plan.tokens.shape[1:3]
    assert len(pictures) == 16
    assert pictures[0].shape == (16 * rows, 16 * columns, 3)
    assert np.array_equal(pictures[0], pictures[5])
    assert not np.array_equal(pictures[0], pictures[15])


def test_a_saved_plan_is_offered_and_loaded(server):
    from semantic_video.patches.plan_file import load_plan, save_plan

    made = SemanticPlan(torch.randn(4, 2, 3, 4, generator=torch.Generator().manual_seed(0)), 2.0, "toy")
    save_plan(made, server.base / "output" / "plans" / "given.safetensors")
    name = "plans/given.safetensors [output]"
    (spec,) = server.get("/object_info/SemVidPlanLoad")["SemVidPlanLoad"]["input"]["required"].values()
    assert name in (spec[1]["options"] if spec[0] == "COMBO" else spec[0])
    api = {
        "load": {"class_type": "SemVidPlanLoad", "inputs": {"plan_name": name}},
        "save": {"class_type": "SemVidPlanSave", "inputs": {"plan": ["load", 0], "filename": "again"}},
    }
    again = load_plan(server.run(api)[0])
    assert torch.equal(again.tokens, made.tokens)
