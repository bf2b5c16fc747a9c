"""Semantic Planner and the plan nodes' files and refusals: what fits is drawn and loaded, the rest is named."""

from pathlib import Path

import comfy.model_management
import pytest
import torch
from safetensors.torch import load_file, save_file

from semantic_video.harness.sampling import Shot, sample, seeded
from semantic_video.harness.toy_plans import ENCODER, toy_plan, write_toy_plan_adapter, write_toy_planner
from semantic_video.host.weights import Checkpoint
from semantic_video.kernels.prompt_timeline import Span
from semantic_video.kernels.semantic_plan import SemanticPlan
from semantic_video.nodes.plan_adapter import PlanAdapterApplyNode, PlanAdapterLoaderNode
from semantic_video.nodes.planner import PlannerLoadNode, PlannerSampleNode
from semantic_video.patches import planner as patch
from semantic_video.patches.plan_adapter import PlanGuide, apply
from semantic_video.patches.plan_weights import load_plan_adapter, load_planner, save
from semantic_video.patches.planner import PlanRequest, text_of
from semantic_video.patches.timeline_text import joined, spoken_span

NEAR = {"rtol": 1e-4, "atol": 1e-5}


def text(words=7, seed=20, width=32):
    return [[seeded(1, words, width, seed=seed), {}]]


@pytest.fixture
def planner(tmp_path):
    return load_planner(write_toy_planner(tmp_path / "planner.safetensors"))


def two_spans(second_seed=23):
    first, second = spoken_span(text(5, 22), Span(0.0, 0.75)), spoken_span(text(3, second_seed), Span(0.75, 2.0))
    return joined(first, second)


# ---- the planner


def test_a_plan_is_the_euler_walk_of_guided_velocities(planner):
    request = PlanRequest(2.0, steps=3, cfg=3.0, seed=7)
    got = patch.sample(planner, text(), text(4, 21), request)
    module = planner.model
    z = torch.randn(1, 4, 2, 3, 3, generator=torch.Generator().manual_seed(7))
    u = [1.0, 2 / 3, 1 / 3, 0.0]
    levels = [3.0 * x / (1 + 2.0 * x) for x in u]
    with torch.no_grad():
        for now, then in zip(levels, levels[1:]):
            a, b = (module(z, torch.tensor([now]), t[0][0]) for t in (text(), text(4, 21)))
            z = z + (then - now) * (b + 3.0 * (a - b))
        expected = z[0] * module.plan_std + module.plan_mean
    torch.testing.assert_close(got.tokens, expected, **NEAR)
    assert (got.fps, got.encoder) == (2.0, ENCODER)


def test_each_token_frame_reads_its_own_span(planner):
    asked, real = [], planner.model.forward

    def watch(z, s, words, sees, attend):
        asked.append((words, sees))
        return real(z, s, words, sees, attend)

    planner.model.forward = watch
    patch.sample(planner, two_spans(), None, PlanRequest(2.0, steps=1))
    [(words, sees)] = asked
    assert torch.equal(words, torch.cat([text(5, 22)[0][0], text(3, 23)[0][0]], 1))
    # token frames of half a second: middles at 0.25, 0.75, 1.25, 1.75
    assert sees.tolist() == [[True] * 5 + [False] * 3] + [[False] * 5 + [True] * 3] * 3


def test_a_plan_does_not_depend_on_texts_of_other_spans_alone_through_their_frames(planner):
    """With one token frame per span and no self-attention, each would be its own; here the mask is what is tested."""
    module, z = planner.model, seeded(1, 2, 2, 3, 3)
    sees = torch.tensor([[True, False], [False, True]])
    for block in module.blocks:
        block.out.weight.data.zero_()
        block.out.bias.data.zero_()
    words = seeded(1, 2, 32, seed=1)
    with torch.no_grad():
        both = module(z, torch.tensor([0.5]), words, sees)
        alone = module(z, torch.tensor([0.5]), words[:, :1])
    torch.testing.assert_close(both[:, 0], alone[:, 0], **NEAR)
    assert not torch.allclose(both[:, 1], alone[:, 1], **NEAR)


def test_the_text_of_a_later_span_does_not_reach_an_earlier_one_through_the_hosts_attention(planner):
    for block in planner.model.blocks:
        block.out.weight.data.zero_()
        block.out.bias.data.zero_()
    one, other = (patch.sample(planner, two_spans(seed), None, PlanRequest(2.0, steps=2)) for seed in (23, 24))
    torch.testing.assert_close(one.tokens[:1], other.tokens[:1], **NEAR)
    assert not torch.allclose(one.tokens[1:], other.tokens[1:], **NEAR)


def test_any_length_rate_and_size(planner):
    for request, shape in (
        (PlanRequest(20.0, steps=1), (40, 2, 3)),
        (PlanRequest(2.0, fps=4.0, steps=1), (8, 2, 3)),
        (PlanRequest(2.0, rows=3, columns=5, steps=1), (4, 3, 5)),
    ):
        plan = patch.sample(planner, text(), None, request)
        assert plan.tokens.shape == (*shape, 3) and plan.fps == (request.fps or 2.0)


def test_without_a_negative_prompt_or_at_cfg_one_the_negative_is_not_asked(planner):
    alone = patch.sample(planner, text(), None, PlanRequest(1.0, steps=2, cfg=5.0))
    one = patch.sample(planner, text(), text(4, 21), PlanRequest(1.0, steps=2, cfg=1.0))
    assert torch.equal(alone.tokens, one.tokens)


def test_it_reports_and_can_be_interrupted(planner, monkeypatch):
    told = []

    class Bar:
        def __init__(self, total):
            told.append(total)

        def update(self, count):
            told.append(count)
            if len(told) == 7:
                comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(patch.comfy.utils, "ProgressBar", Bar)
    patch.sample(planner, text(), None, PlanRequest(1.0, steps=3))
    assert told == [3, 1, 1, 1]
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        patch.sample(planner, text(), None, PlanRequest(1.0, steps=3))
    assert told == [3, 1, 1, 1, 3, 1, 1], "it ends behind the step in which it was interrupted"


def test_requests_that_do_not_fit(planner):
    spec = planner.model.spec
    bad = text()
    bad[0][0][0, 0, 0] = float("nan")
    cut = [[two_spans()[0][0][:, :6], two_spans()[0][1]]]
    for conditioning, message in (
        (text() * 2, "positive: holds 2 prompts"),
        (text(width=30), r"positive: text features of shape \(1, 7, 30\); .* width 32"),
        ([[None, {}]], "positive: text features of shape None"),
        (bad, "positive: contains NaN"),
        (cut, "positive: 6 text tokens, but the timeline's spans have 8"),
    ):
        with pytest.raises(ValueError, match=message):
            text_of("positive", conditioning, spec)
    for changes, message in (
        ({"seconds": 0.0}, "seconds 0.0: must be 0.001 or more"),
        ({"seconds": 0.1}, "seconds 0.1: shorter than a token frame of 0.5 seconds"),
        ({"seconds": 1e6}, "a plan of 2000000 x 2 x 3 tokens, more than"),
        ({"fps": -1.0}, "fps -1.0: must be 0 or more"),
        ({"steps": 0}, "steps 0: must be 1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            PlanRequest(**{"seconds": 2.0} | changes).shape(spec)


# ---- files


@pytest.mark.parametrize(
    ("load", "write"), [(load_planner, write_toy_planner), (load_plan_adapter, write_toy_plan_adapter)]
)
def test_files_that_are_something_else_are_refused(tmp_path, load, write):
    path = write(tmp_path / "whole.safetensors")
    weights, metadata = load_file(path), Checkpoint(path).metadata
    title = "Semantic Planner" if load is load_planner else "Plan Adapter"
    some = next(iter(weights))
    blocks = {key: value for key, value in weights.items() if ".0." not in key}
    files = {
        "cut": (None, None, "damaged or incomplete"),
        "lora": ({"up": torch.zeros(2)}, None, f"is no {title}: its metadata gives the format as None"),
        "newer": (weights, metadata | {"version": "2"}, "of version 2; this pack reads 1"),
        "part": (
            {k: v for k, v in weights.items() if k != some},
            metadata,
            f"tensors do not fit, first '{some}'.*Download or export it again",
        ),
        "blocks": (blocks, metadata, "its config speaks of 2 blocks, its tensors of 1"),
        "nan": (weights | {some: weights[some] * float("nan")}, metadata, f"'{some}' holds NaN"),
    }
    for name, (tensors, about, message) in files.items():
        file = tmp_path / f"{name}.safetensors"
        if tensors is None:
            file.write_bytes(path.read_bytes()[:-100])
        else:
            save_file(tensors, file, about)
        with pytest.raises(ValueError, match=rf"{name}\.safetensors: .*{message}"):
            load(file)


def test_what_is_saved_is_loaded(tmp_path, planner):
    save(planner.model.state_dict(), planner.model.spec, tmp_path / "again.safetensors", {"training": "x"})
    again = load_planner(tmp_path / "again.safetensors")
    assert again.model.spec == planner.model.spec
    stored = load_file(tmp_path / "again.safetensors")
    for key, value in again.model.state_dict().items():
        assert stored[key].dtype == (torch.bfloat16 if value.ndim > 1 else torch.float32), key
        torch.testing.assert_close(value.float(), planner.model.state_dict()[key], rtol=1e-2, atol=1e-2)
    assert (
        load_planner(tmp_path / "again.safetensors", torch.float8_e4m3fn).model.embed.weight.dtype
        == torch.float8_e4m3fn
    )
    assert again.model.embed.weight.dtype == torch.bfloat16, "as stored"


@pytest.mark.parametrize(
    ("load", "write"), [(load_planner, write_toy_planner), (load_plan_adapter, write_toy_plan_adapter)]
)
def test_the_host_can_load_it_again_for_another_device(tmp_path, load, write):
    path = write(tmp_path / "one.safetensors")
    again, arguments = load(path, torch.bfloat16).cached_patcher_init
    loaded = again(*arguments).model
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.bfloat16}
    for key, value in load(path).model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key].float(), value.float(), rtol=1e-2, atol=1e-2)


# ---- what does not fit is refused before the first step


def test_models_plans_and_numbers_that_do_not_fit(toys, tmp_path):
    def adapter(name="wan-t2v", **changes):
        return load_plan_adapter(write_toy_plan_adapter(tmp_path / "a.safetensors", name, **changes))

    plan, other = toy_plan(), SemanticPlan(toy_plan().tokens, 2.0, "another tower")
    for model, made, given, message in (
        ("hunyuan-t2v", adapter(), plan, "adapter: made for Wan, this model is HunyuanVideo"),
        ("wan-t2v", adapter("hunyuan-t2v"), plan, "adapter: made for HunyuanVideo, this model is Wan"),
        ("wan-t2v", adapter(width=96), plan, "of width 96 with 2 heads, this model has 48 with 2"),
        ("wan-t2v", adapter(blocks=(0, 4)), plan, "with a block 4, this one has 4"),
        ("wan-t2v", adapter(), other, f"plan: made by 'another tower', expected '{ENCODER}'"),
        ("wan-t2v", adapter(dims=4), plan, "plan: 3 dimensions, expected 4"),
    ):
        with pytest.raises(ValueError, match=message):
            apply(toys(model), made, PlanGuide(given))
    for changes, message in (
        ({"strength": 2.5}, "strength 2.5: must be from 0"),
        ({"fps": -1.0}, "fps -1.0: must be"),
        ({"passes": "negative"}, "passes 'negative': choose one of both, conditional"),
        ({"plan": SemanticPlan(torch.zeros(0, 1, 1, 3), 1.0, "e")}, "plan: tokens of shape"),
        ({"plan": SemanticPlan(torch.full((1, 1, 1, 3), float("nan")), 1.0, "e")}, "plan: holds NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            PlanGuide(**{"plan": plan} | changes)


def test_with_fps_the_plan_must_be_as_long_as_the_video(toys, tmp_path):
    adapter = load_plan_adapter(write_toy_plan_adapter(tmp_path / "a.safetensors"))
    model, shot, steps = toys("wan-t2v"), Shot("wan-t2v", steps=1), []  # 33 video frames; the plan has 2 seconds
    for fps in (8.0, 64.0):
        with pytest.raises(ValueError, match="Plan Adapter: plan: 2 seconds, .* than the video's"):
            sample(apply(model, adapter, PlanGuide(toy_plan(), fps=fps)), shot, steps.append)
    assert not steps
    spread = sample(apply(model, adapter, PlanGuide(toy_plan())), shot)
    assert torch.equal(sample(apply(model, adapter, PlanGuide(toy_plan(), fps=16.0)), shot), spread)


# ---- nodes


@pytest.mark.parametrize("node", [PlannerLoadNode, PlannerSampleNode, PlanAdapterLoaderNode, PlanAdapterApplyNode])
def test_every_widget_says_what_it_does(node):
    schema = node.GET_SCHEMA()
    assert schema.node_id.startswith("SemVid") and schema.description and schema.search_aliases
    assert all(thing.tooltip for thing in [*schema.inputs, *schema.outputs])
    assert (Path(__file__).resolve().parent.parent.parent / "web" / "docs" / f"{schema.node_id}.md").exists()


def test_the_nodes_give_what_the_functions_give(toys, planner, tmp_path):
    plan, picture = PlannerSampleNode.execute(planner, text(), 2.0, 2, 3.0, 7, negative=text(4, 21)).args
    expected = patch.sample(planner, text(), text(4, 21), PlanRequest(2.0, steps=2, cfg=3.0, seed=7))
    assert torch.equal(plan.tokens, expected.tokens) and len(picture) == 4
    adapter = load_plan_adapter(write_toy_plan_adapter(tmp_path / "a.safetensors"))
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=1)
    got = PlanAdapterApplyNode.execute(model, adapter, plan, strength=0.5).args[0]
    assert torch.equal(sample(got, shot), sample(apply(model, adapter, PlanGuide(plan, 0.5)), shot))
    assert PlanAdapterApplyNode.execute(model, adapter, plan, strength=0.0).args[0] is model
