"""Training an SSG Adapter: what is trained is what is sampled, on Wan and Hunyuan; only the adapter learns; what stops
it, and what it survives."""

import json
from dataclasses import replace
from random import Random

import comfy.model_management
import comfy.sd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from semantic_video.harness.sampling import Shot, conditioning, sample, seeded
from semantic_video.harness.toy import STRAIGHT, TOYS, randomize, write_toy_adapter
from semantic_video.host.families import family_of
from semantic_video.host.frozen_model import (
    cat_conds,
    checkpointed,
    copying_norms,
    denoised,
    in_training,
    load_frozen,
    model_conds,
    own_copy,
)
from semantic_video.kernels.ssg_adapter import SSGAdapter
from semantic_video.kernels.ssg_spec import Spec
from semantic_video.patches.ssg_adapter import apply
from semantic_video.patches.ssg_adapter_file import load_adapter
from semantic_video.patches.ssg_guide import Guide
from semantic_video.training import validation
from semantic_video.training.plan import Plan
from semantic_video.training.ssg_adapter import Settings, save_adapter, train_adapter
from semantic_video.training.ssg_loss import Batch, losses
from semantic_video.training.ssg_model import option_of, spec_for, with_adapter

SMALL = {"clip_width": 20, "grid": (3, 3), "token_width": 10}
TOYS_TRAINED = (*STRAIGHT, "wan-i2v", "wan-5b", "hunyuan-i2v")


def shot_of(name):
    return Shot(name, frames=3, cfg=1.0, steps=1)


def spec_of(model, **changes):
    return spec_for(model, seeded(1, 10, 20), **{"rank": 4, "token_width": 10} | changes)


def batch_of(model, shot, count=2, scale=1.0):
    """Clips that differ in all they have; their texts fit one batch but for the last one's."""
    x0 = scale * seeded(count, TOYS[shot.toy].channels, shot.frames, shot.height, shot.width, seed=40)

    def conds(i):
        ((text, extra),) = conditioning(shot, shot.words + (i == count - 1), 50 + i)
        return model_conds(model, x0[:1], text, extra)

    each = [conds(i) for i in range(count)]
    return Batch(x0, each, each[-1:] * count, seeded(count, 10, 20, seed=41))


@pytest.mark.parametrize("name", STRAIGHT)
def test_a_training_forward_is_what_ssg_adapter_apply_gives_in_the_sampler(toys, tmp_path, name):
    """One euler step from pure noise ends at what the model predicts there."""
    shot = shot_of(name)
    path = write_toy_adapter(tmp_path / "adapter.safetensors", name, **SMALL | {"blocks": (0, 3)})
    adapter, features, model = load_adapter(path), seeded(1, 10, 20, seed=41), toys(name)
    expected = sample(apply(model, adapter, Guide(features)), shot)
    assert not torch.allclose(expected, sample(model, shot), atol=1e-2)
    with in_training():
        mine = own_copy(model)
        load_frozen(mine)
        module = SSGAdapter(Spec.read(safe_open(path, "pt").metadata()))
        module.load_state_dict(load_file(path))
        ((text, extra),) = conditioning(shot, shot.words, 20)
        sampling = mine.get_model_object("model_sampling")
        noise = seeded(1, *expected.shape[1:], seed=shot.seed)
        sigma = sampling.sigma_max.view(1)
        x = sampling.noise_scaling(sigma, noise, torch.zeros_like(noise))
        conds = cat_conds([model_conds(mine, noise, text, extra)], x.device)
        found = denoised(with_adapter(mine, module), x, sigma, conds, option_of(features))
        assert found.requires_grad
    torch.testing.assert_close(mine.model.process_latent_out(found.detach()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TOYS_TRAINED)
def test_gradients_are_the_same_with_checkpointed_blocks_and_reach_the_adapter_alone(toys, name):
    with in_training():
        model = own_copy(toys(name))
        load_frozen(model)
        before = {key: value.clone() for key, value in model.model.state_dict().items()}
        module = SSGAdapter(spec_of(model))
        randomize(module)
        shot = replace(shot_of(name), words=7)
        gradients = []
        blocks = family_of(model).block_modules(model.model.diffusion_model)
        for twice in ([], blocks):
            with copying_norms(blocks), checkpointed(twice):
                losses(with_adapter(model, module), lambda rng: batch_of(model, shot), Random(0), None)[
                    "loss"
                ].backward()
            gradients.append({key: value.grad.clone() for key, value in module.named_parameters()})
            module.zero_grad()
        assert not any("forward" in vars(block) or block._forward_pre_hooks for block in blocks)
        for key, value in gradients[0].items():
            torch.testing.assert_close(gradients[1][key], value, rtol=1e-4, atol=1e-6)
            assert value.abs().sum() > 0, key
        assert all(parameter.grad is None for parameter in model.model.parameters())
        assert all(torch.equal(value, before[key]) for key, value in model.model.state_dict().items())


def plan_of(tmp_path, **changes):
    return Plan(
        **{"name": "toy", "cache": tmp_path, "steps": 20, "batch": 2, "rate": 2e-2, "warmup": 1, "ema": 0.5} | changes
    )


FP32 = Settings(dtype=None)


def start(model, tmp_path, settings=FP32, **changes):
    """train_adapter on two clips; returns state and the file."""
    shot, path, spec = Shot("wan-t2v", frames=3), tmp_path / "adapter.safetensors", spec_of(model)

    def export(weights, state):
        save_adapter(weights, spec, path, {"steps": str(state.step)})

    return train_adapter(
        model, spec, lambda rng: batch_of(model, shot, scale=0.1), plan_of(tmp_path, **changes), export, settings
    )[1], path


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(dtype=None, checkpointing=False)], ids=["bf16, checkpointed", "fp32, plain"]
)
def test_the_loss_falls_the_model_stays_and_the_loader_reads_the_file(toys, tmp_path, settings):
    model = toys("wan-t2v")
    before, plain = (
        {key: value.clone() for key, value in model.model.state_dict().items()},
        sample(model, Shot("wan-t2v")),
    )
    state, path = start(model, tmp_path, settings)
    curve = [value for _, value in state.curves["loss"]]
    assert state.step == 20 and curve[-1] < curve[0]
    assert not comfy.model_management.in_training and torch.is_inference_mode_enabled()
    assert all(torch.equal(value, before[key]) for key, value in model.model.state_dict().items())
    assert torch.equal(sample(model, Shot("wan-t2v")), plain)
    patched = apply(model, load_adapter(path), Guide(seeded(1, 10, 20, seed=41)))
    assert not torch.equal(sample(patched, Shot("wan-t2v")), plain)


def test_resuming_goes_on_where_it_stopped(toys, tmp_path):
    start(toys("wan-t2v"), tmp_path, steps=6)
    state, path = start(toys("wan-t2v"), tmp_path, steps=9, resume=True)
    assert state.step == 9 and safe_open(path, "pt").metadata()["steps"] == "9"
    again, _ = start(toys("wan-t2v"), tmp_path, steps=9, resume=True)
    assert again.step == 9
    with pytest.raises(
        ValueError, match=r"resume: .*toy\.safetensors: .* made for another model or with other settings .rank"
    ):
        model = toys("wan-t2v")
        train_adapter(model, spec_of(model, rank=5), None, plan_of(tmp_path, resume=True), None)


def test_an_interruption_leaves_the_last_checkpoint(toys, tmp_path, monkeypatch):
    path = plan_of(tmp_path).checkpoint

    def step():
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["state"])["step"]

    def interrupted():
        if path.exists() and step() == 7:
            raise comfy.model_management.InterruptProcessingException

    with monkeypatch.context() as patch, pytest.raises(comfy.model_management.InterruptProcessingException):
        patch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", interrupted)
        start(toys("wan-t2v"), tmp_path, checkpoint_minutes=0.0)
    assert not comfy.model_management.in_training and step() == 7
    state, _ = start(toys("wan-t2v"), tmp_path, resume=True, steps=9)
    assert state.step == step() == 9


def test_training_stops_when_validation_gets_no_better_and_keeps_the_best(toys, tmp_path, monkeypatch):
    values = iter([3.0, 2.0, 2.5, 2.1, 1.0])
    monkeypatch.setattr(validation, "loss_of", lambda *_: next(values))
    state, path = start(toys("wan-t2v"), tmp_path, Settings(validate=lambda rng: None, every=2, patience=2, dtype=None))
    assert state.step == 8 and state.curves["validation"] == [(2, 3.0), (4, 2.0), (6, 2.5), (8, 2.1)]
    assert safe_open(path, "pt").metadata()["steps"] == "4"


def test_validation_is_of_the_averaged_weights_and_always_the_same(toys, tmp_path, monkeypatch):
    """Of an average that lags far behind: at each validation the loss is that of a second adapter that holds it."""
    model, found, loss_of = toys("wan-t2v"), [], validation.loss_of
    plan, held_out = plan_of(tmp_path, ema=0.9), lambda rng: batch_of(model, Shot("wan-t2v", frames=3), scale=0.1)

    def losses_of(weights):
        other = SSGAdapter(spec_of(model))
        other.load_state_dict(weights)
        mine = own_copy(model)
        load_frozen(mine)
        patched = with_adapter(mine, other)
        rngs = [Random(f"{plan.seed}/{i}/validation") for i in range(validation.BATCHES)]
        with torch.no_grad():
            return [float(losses(patched, held_out, rng, None, dropout=False)["loss"]) for rng in rngs]

    def compared(module, weights, *rest):
        before = {key: value.clone() for key, value in module.state_dict().items()}
        values = [loss_of(module, weights, *rest) for _ in range(2)]
        assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
        found.append((values, losses_of(weights), losses_of(before)))
        return values[0]

    monkeypatch.setattr(validation, "loss_of", compared)
    state, _ = start(model, tmp_path, Settings(validate=held_out, every=5, dtype=None), ema=0.9)
    assert [value for _, value in state.curves["validation"]] == [values[0] for values, *_ in found]
    assert len(found) == 4
    for values, averaged, own in found:
        assert values[0] == values[1] == pytest.approx(sum(averaged) / len(averaged), rel=1e-5)
        assert abs(values[0] - sum(own) / len(own)) > 1e-3


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("wan-vace", {}, "model: VACE cannot be trained on"),
        ("wan-t2v", {"blocks": (0, 4)}, "blocks 0, 4: this model has 4. Use 0 to 3"),
    ],
)
def test_models_and_blocks_that_cannot_be(toys, name, changes, message):
    with pytest.raises(ValueError, match=message):
        spec_of(toys(name), **changes)


def test_features_that_are_no_square():
    with pytest.raises(ValueError, match="12 tokens per image are no class token and a square"):
        spec_for(None, seeded(1, 12, 20), 4)
