"""The loop of all trainings: plans and their names, the averaged weights, and gradients that are not finite."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from semantic_video.host.frozen_model import in_training
from semantic_video.training.loop import MOST_BAD_STEPS, averaged, train
from semantic_video.training.plan import Plan, State, progress, rate_at


@pytest.fixture(autouse=True)
def _in_training():
    with in_training():
        yield


def plan_of(tmp_path, **changes):
    return Plan(**{"name": "toy", "cache": tmp_path, "steps": 30, "rate": 1e-2, "ema": 0.5} | changes)


def loss_with(module, bad=()):
    """A loss that falls, whose gradients are NaN at the steps `bad`."""

    def loss_of(step, done):
        loss = module(torch.ones(2, 4)).square().mean()
        return {"loss": loss * (torch.nan if step in bad else 1.0)}

    return loss_of


def test_the_average_is_the_one_written_out():
    module, decay = nn.Linear(3, 2), 0.6
    average, expected = averaged(module, decay), None
    for n in range(12):
        with torch.no_grad():
            module.weight.copy_(torch.randn(2, 3, generator=torch.Generator().manual_seed(n)))
        average.update_parameters(module)
        keep = 0.0 if n == 0 else min(decay, (1 + n) / (10 + n))
        expected = module.weight.detach().clone() if n == 0 else keep * expected + (1 - keep) * module.weight.detach()
        torch.testing.assert_close(average.module.weight.detach(), expected)


def test_the_rate_ends_at_zero_by_steps_or_by_minutes(tmp_path):
    plan = Plan("x", tmp_path, minutes=10, steps=1000, rate=1.0, warmup=10)
    assert rate_at(plan, State(0)) == pytest.approx(0.1, rel=0.01)
    assert rate_at(plan, State(499)) == pytest.approx(0.5, abs=2e-3)
    assert rate_at(plan, State(1000)) == rate_at(plan, State(50, 600.0)) == 0
    assert progress(plan, State(500, 100)) == 0.5
    with pytest.raises(ValueError, match="--minutes or --steps"):
        progress(Plan("x", tmp_path), State())


def test_one_bad_step_is_left_out_with_one_warning(tmp_path, caplog):
    module = nn.Linear(4, 4)
    with caplog.at_level(logging.WARNING):
        weights, state = train(plan_of(tmp_path), module, loss_with(module, {3, 7}))
    assert state.step == 30 and all(torch.isfinite(value).all() for value in weights.values())
    assert [record.message for record in caplog.records] == [
        "[semantic-video] toy: step 3 left out, its gradients are NaN or infinite"
    ]
    assert state.loss < state.curves["loss"][-2][1], "it goes on learning"


def test_bad_steps_in_a_row_end_the_training_and_their_causes_are_named(tmp_path):
    module = nn.Linear(4, 4)
    before = module.weight.detach().clone()
    steps = []

    def loss_of(step, done):
        steps.append(step)
        return loss_with(module, range(1000))(step, done)

    with pytest.raises(
        ValueError, match=rf"toy: the gradients of {MOST_BAD_STEPS} steps in a row, up to step 19, .* rate too high"
    ):
        train(plan_of(tmp_path), module, loss_of)
    assert steps == list(range(MOST_BAD_STEPS)) and torch.equal(module.weight.detach(), before)


def test_bad_steps_with_a_good_one_between_do_not(tmp_path):
    module = nn.Linear(4, 4)
    bad = set(range(60)) - {MOST_BAD_STEPS - 1, 2 * MOST_BAD_STEPS - 1, 59}
    assert train(plan_of(tmp_path, steps=60), module, loss_with(module, bad))[1].step == 60


def test_resuming_gives_what_one_run_gives(tmp_path):
    def run(plan):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 16), nn.LayerNorm(16))
        return train(plan, module, loss_with(module))

    plan = plan_of(tmp_path, rate=1e-2, warmup=1)
    whole, _ = run(replace(plan, name="whole", steps=20))
    # the rate follows the plan, so the run that is cut short is one that an error ends
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 16), nn.LayerNorm(16))

    def stopped(step, done):
        if step == 9:
            raise KeyboardInterrupt
        return loss_with(module)(step, done)

    parted = replace(plan, name="parted", steps=20, checkpoint_minutes=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(parted, module, stopped)
    again, state = run(replace(parted, resume=True))
    assert state.step == 20
    for key, value in whole.items():
        torch.testing.assert_close(again[key], value, rtol=1e-4, atol=1e-5)


def test_trainings_of_one_name_in_two_folders_have_two_checkpoints(tmp_path):
    for name in ("a/foo", "b/foo"):
        module = nn.Linear(4, 4)
        train(plan_of(tmp_path, name=name, steps=2), module, loss_with(module))
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    assert found == {"a/foo.safetensors", "a/foo.png", "b/foo.safetensors", "b/foo.png"}


@pytest.mark.parametrize("name", ["", "../a", "/a", "a//b", "x/LPT1", "a:b", "a" * 240, "b" * 240 + "/a"])
def test_names_that_are_no_file_s_are_refused_before_any_work(tmp_path, name):
    with pytest.raises(ValueError, match="^name '"):
        Plan(name, tmp_path)


@pytest.mark.parametrize("name", ["my_adapter", "cats/small.v2", "a" * 234])
def test_names_of_files_can_be_written(tmp_path, name):
    plan, module = plan_of(tmp_path, name=name, steps=1), nn.Linear(4, 4)
    train(plan, module, loss_with(module))
    assert plan.checkpoint == tmp_path / f"{name}.safetensors" and plan.checkpoint.exists() and plan.picture.exists()
