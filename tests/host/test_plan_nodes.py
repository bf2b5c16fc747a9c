"""Nodes that save, load, edit and mix plans."""

import time

import folder_paths
import pytest
import torch

from semantic_video.kernels.semantic_plan import SemanticPlan, resampled
from semantic_video.nodes.plan_edit import PlanCombineNode, PlanEditNode
from semantic_video.nodes.plan_files import PlanLoadNode, PlanSaveNode, plan_names
from semantic_video.patches.plan_file import save_plan


def plan(frames=6, seed=0, **changes):
    tokens = torch.randn(frames, 2, 3, 4, generator=torch.Generator().manual_seed(seed))
    return SemanticPlan(**{"tokens": tokens, "fps": 2.0, "encoder": "toy"} | changes)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for kind in ("input", "output"):
        (tmp_path / kind).mkdir()
        monkeypatch.setattr(folder_paths, f"{kind}_directory", str(tmp_path / kind))
    return tmp_path


def test_what_is_saved_is_loaded_and_nothing_is_overwritten(folders):
    names = [PlanSaveNode.execute(plan(seed=i), "mine/film").args[0] for i in range(2)]
    assert names == ["plans/mine/film_00001.safetensors [output]", "plans/mine/film_00002.safetensors [output]"]
    assert plan_names() == names
    for i, name in enumerate(names):
        got = PlanLoadNode.execute(name).args[0]
        assert torch.equal(got.tokens, plan(seed=i).tokens)
        assert (got.fps, got.encoder) == (2.0, "toy")
    shown = PlanSaveNode.execute(plan(), "x").ui["plans"]
    assert shown == [{"filename": "x_00001.safetensors", "subfolder": "plans", "type": "output"}]


def test_the_input_folder_is_listed_first(folders):
    for name in ("b", "plans/a"):
        save_plan(plan(), folders / "input" / f"{name}.safetensors")
    save_plan(plan(), folders / "output" / "plans" / "c.safetensors")
    save_plan(plan(), folders / "output" / "elsewhere.safetensors")
    assert plan_names() == ["b.safetensors", "plans/a.safetensors", "plans/c.safetensors [output]"]
    assert torch.equal(PlanLoadNode.execute("plans/a.safetensors").args[0].tokens, plan().tokens)


@pytest.mark.parametrize("name", ["gone.safetensors", "../secret.safetensors", "", "plans/c.safetensors [temp]"])
def test_files_outside_are_refused(folders, name):
    save_plan(plan(), folders / "secret.safetensors")
    with pytest.raises(ValueError, match=r"^plan_name '.*': no such file\. Put it into ComfyUI's input folder"):
        PlanLoadNode.execute(name)


@pytest.mark.parametrize("name", ["../x", "a//b", "con", "a?b", "x" * 300])
def test_names_that_cannot_be_written(folders, name):
    with pytest.raises(ValueError, match=r"^filename "):
        PlanSaveNode.execute(plan(), name)
    assert not list(folders.rglob("*.safetensors"))


def test_a_changed_file_is_read_again(folders):
    name = PlanSaveNode.execute(plan(), "x").args[0]
    before = PlanLoadNode.fingerprint_inputs(name)
    assert PlanLoadNode.fingerprint_inputs(name) == before
    time.sleep(0.01)
    save_plan(plan(seed=1), folders / "output" / "plans" / "x_00001.safetensors")
    assert PlanLoadNode.fingerprint_inputs(name) != before
    assert PlanLoadNode.fingerprint_inputs("gone.safetensors") == "gone.safetensors"


def test_edit_changes_nothing_by_itself():
    p = plan()
    assert PlanEditNode.execute(p).args[0] is p


def test_edits_come_in_their_order():
    """Cut to four token frames, played in two, held for two more, then four a second."""
    p = plan()
    got = PlanEditNode.execute(p, start=1.0, end=3.0, speed=2.0, hold=1.0, fps=4.0, rows=1, columns=6).args[0]
    short = resampled(p.tokens[2:6], 2)
    tokens = resampled(torch.stack([short[0], short[1], short[1], short[1]]), 8)
    expected = tokens.mean(1, keepdim=True)
    assert (got.fps, got.seconds) == (4.0, 2.0)
    torch.testing.assert_close(got.tokens[:, 0, 0], expected[:, 0, 0])
    torch.testing.assert_close(got.tokens[:, 0, 5], expected[:, 0, 2])
    torch.testing.assert_close(got.tokens[:, 0, 2], 0.25 * expected[:, 0, 0] + 0.75 * expected[:, 0, 1])


def test_join_blend_and_swap():
    a, b = plan(), plan(seed=1)
    both = PlanCombineNode.execute(a, b).args[0].tokens
    assert torch.equal(both, torch.cat([a.tokens, b.tokens]))
    mixed = PlanCombineNode.execute(a, b, "blend", 0.25).args[0].tokens
    torch.testing.assert_close(mixed, 0.75 * a.tokens + 0.25 * b.tokens)
    swapped = PlanCombineNode.execute(a, b, "swap", 0.25, start=1.0, end=2.0).args[0].tokens
    assert torch.equal(swapped, torch.cat([a.tokens[:2], b.tokens[2:4], a.tokens[4:]]))
    mask = torch.zeros(4, 6)
    mask[:2, :2] = 1
    corner = PlanCombineNode.execute(a, b, "swap", mask=mask).args[0].tokens
    expected = a.tokens.clone()
    expected[:, 0, 0] = b.tokens[:, 0, 0]
    assert torch.equal(corner, expected)


@pytest.mark.parametrize(
    ("other", "options", "message"),
    [
        (plan(encoder="b"), {}, "other: made by 'b', expected 'toy'"),
        (plan(fps=4.0), {}, "other: 4 token frames a second, expected 2. Set fps of Edit Plan to 2"),
        (plan(tokens=torch.zeros(6, 3, 3, 4)), {}, "other: 3 x 3 tokens a frame, expected 2 x 3"),
        (plan(tokens=torch.zeros(6, 2, 3, 8)), {}, "other: 8 dimensions, expected 4"),
        (plan(tokens=torch.zeros(0, 2, 3, 4)), {}, r"other: tokens of shape \(0, 2, 3, 4\)"),
        (plan(tokens=torch.full((6, 2, 3, 4), float("nan"))), {}, "other: holds NaN"),
        (plan(4), {"operation": "swap"}, "other: 2 seconds, but its first 3 are asked for"),
        (plan(), {"operation": "swap", "start": 2.0, "end": 1.0}, "start 2, end 1: must rise"),
        (plan(), {"fade": 9.0}, "fade 9: longer than the shorter plan's 3 seconds"),
        (plan(), {"operation": "blend", "mask": torch.full((2, 2), float("nan"))}, "mask: empty, NaN or infinite"),
        (plan(), {"operation": "blend", "mask": torch.zeros(0, 2, 2)}, "mask: empty, NaN or infinite"),
    ],
)
def test_what_does_not_go_together(other, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        PlanCombineNode.execute(plan(), other, **options)
