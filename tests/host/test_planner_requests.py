"""What a Semantic Planner is asked for: the limits of a request, what of a conditioning it reads, and what it says."""

from types import SimpleNamespace

import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.harness.toy_plans import write_toy_planner
from semantic_video.host.editing import attend
from semantic_video.patches import planner as patch
from semantic_video.patches.plan_weights import load_planner
from semantic_video.patches.planner import MOST_TOKENS, PlanRequest, text_of
from semantic_video.tests.host.test_planner import two_spans

SPEC = SimpleNamespace(fps=2.0, rows=2, columns=3, text_width=32)


def text(words=7, seed=20, batch=1):
    return [[seeded(batch, words, 32, seed=seed), {}]]


@pytest.fixture
def planner(tmp_path):
    return load_planner(write_toy_planner(tmp_path / "planner.safetensors"))


@pytest.mark.parametrize(
    ("name", "least", "below"),
    [
        ("seconds", 0.001, 0.0009),
        ("fps", 0, -1),
        ("rows", 0, -1),
        ("columns", 0, -1),
        ("steps", 1, 0),
        ("shift", 0, -1),
    ],
)
def test_the_least_of_each_number(name, least, below):
    assert getattr(PlanRequest(**{"seconds": 2.0} | {name: least}), name) == least
    for value in (below, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"^{name} {value}: must be {least} or more"):
            PlanRequest(**{"seconds": 2.0} | {name: value})


def test_shapes_up_to_the_largest():
    assert PlanRequest(0.5).shape(SPEC) == (1, 2, 3), "one token frame"
    assert PlanRequest(0.25).shape(SPEC) == (1, 2, 3), "half of one counts as one"
    assert PlanRequest(1.0, 8.0, 5, 4).shape(SPEC) == (8, 5, 4)
    assert PlanRequest(0.5, rows=1024, columns=1024).shape(SPEC) == (1, 1024, 1024)
    with pytest.raises(ValueError, match=f"seconds 0.5, fps 2: a plan of 1 x 1025 x 1024 .* more than {MOST_TOKENS}"):
        PlanRequest(0.5, rows=1025, columns=1024).shape(SPEC)
    with pytest.raises(ValueError, match="seconds 0.05: shorter than a token frame of 0.125 seconds"):
        PlanRequest(0.05, 8.0).shape(SPEC)


def test_what_is_read_of_a_conditioning():
    [[two, extras]] = text(batch=2)
    read, borders, tokens = text_of("positive", [[two, extras]], SPEC)
    assert torch.equal(read, two[:1]) and (borders, tokens) == ([], [7]), "the first of a batch"
    [[whole, extras]] = two_spans()
    read, borders, tokens = text_of("positive", [[whole.repeat(2, 1, 1), extras]], SPEC)
    assert torch.equal(read, whole) and (borders, tokens) == ([0.75], [5, 3])


def test_a_single_prompt_is_seen_by_all_through_the_host_s_attention(planner):
    asked, real = [], planner.model.forward

    def watch(z, s, words, sees, how):
        asked.append((s.tolist(), sees, how))
        return real(z, s, words, sees, how)

    planner.model.forward = watch
    patch.sample(planner, text(), None, PlanRequest(1.0, steps=2, shift=1.0))
    assert asked == [([1.0], None, attend), ([0.5], None, attend)], "shift 1 leaves the levels at equal distances"


def test_half_precision_text_is_read_in_full(planner):
    [[words, extras]] = text()
    plans = [
        patch.sample(planner, [[given, extras]], None, PlanRequest(1.0, steps=1)).tokens
        for given in (words.bfloat16(), words.bfloat16().float())
    ]
    assert torch.equal(*plans)


def test_room_is_made_for_one_block_s_activations(planner, monkeypatch):
    asked = []
    load = patch.comfy.model_management.load_models_gpu

    def watch(models, memory_required):
        asked.append((models, memory_required))
        return load(models, memory_required=memory_required)

    monkeypatch.setattr(patch.comfy.model_management, "load_models_gpu", watch)
    patch.sample(planner, text(), None, PlanRequest(2.0, rows=5, columns=7, steps=1))
    assert asked == [([planner], 64 * 4 * 5 * 7 * 24)]


def test_the_input_that_is_wrong_is_named(planner):
    for prompts, name in (((text() * 2, text()), "positive"), ((text(), text() * 2), "negative")):
        with pytest.raises(ValueError, match=f"^{name}: holds 2 prompts"):
            patch.sample(planner, *prompts, PlanRequest(1.0, steps=1))
    planner.model.plan_std.fill_(torch.inf)
    with pytest.raises(ValueError, match="^planner: holds NaN or infinite values"):
        patch.sample(planner, text(), None, PlanRequest(1.0, steps=1))
