"""The one loss beside a MODEL: noise levels, x_s and prediction are those of the host's sampler for that very model."""

import comfy.conds
import comfy.model_sampling
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from semantic_video.harness.sampling import Shot, conditioning, seeded
from semantic_video.harness.toy import TOYS
from semantic_video.host.frozen_model import in_training, load_frozen, model_conds, own_copy, sigmas_at
from semantic_video.kernels.flow_matching import noised, object_weight, shifted
from semantic_video.training.flow_matching import Batch, losses, noise_levels


def with_shift(model, shift):
    """As the host's ModelSamplingSD3 does."""

    class Sampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    sampling = Sampling(model.model.model_config)
    sampling.set_parameters(shift=shift, multiplier=1000)
    patched = model.clone()
    patched.add_object_patch("model_sampling", sampling)
    return patched


@pytest.mark.parametrize(("name", "shift"), [("wan-t2v", 8.0), ("hunyuan-t2v", 7.0)])
def test_noise_levels_are_the_host_s_for_each_model_and_each_shift(toys, name, shift):
    for model, expected in ((toys(name), shift), (with_shift(toys(name), 3.0), 3.0)):
        levels = noise_levels(model, 4000, torch.Generator().manual_seed(0))
        u = (torch.arange(4000) + torch.rand(4000, generator=torch.Generator().manual_seed(0))) / 4000
        torch.testing.assert_close(levels, shifted(1 - u, expected).clamp(min=1e-3))
        assert float(levels.median()) == pytest.approx(expected / (1 + expected), abs=2e-3)


def test_the_ends_of_a_schedule(toys):
    sampling = toys("wan-t2v").get_model_object("model_sampling")
    assert sigmas_at(sampling, torch.tensor([0.0, 1.0])).tolist() == pytest.approx([1.0, 1e-3])


def calls_of(model, calls):
    """Records what the model is asked, and lets it answer 0.1 x."""

    def answer(executor, x, t, *args, **kwargs):
        calls.append((x.clone(), t.clone()))
        return 0.1 * x

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", answer)
    return model


@pytest.mark.parametrize("words", [(7, 7, 7), (7, 9, 7)], ids=["one call", "two calls"])
def test_the_loss_is_the_sum_written_out(toys, words):
    """Of a model that answers v' = 0.1 x_s, at the shift that it is patched to."""
    shot, calls = Shot("wan-t2v", frames=3), []
    with in_training():
        model = own_copy(with_shift(toys(shot.toy), 3.0))
        load_frozen(model)
        model = calls_of(model, calls)
        x0 = seeded(3, TOYS[shot.toy].channels, 3, 4, 4, seed=5)
        cover = (seeded(3, 1, 3, 4, 4, seed=6) > 0).float()
        conds = [model_conds(model, x0[:1], *conditioning(shot, count, 50 + i)[0]) for i, count in enumerate(words)]
        found = losses(model, Batch(x0, conds, cover), seed=11, dtype=None)
    generator = torch.Generator().manual_seed(11)
    noise = torch.randn(x0.shape, generator=generator)
    s = shifted(1 - (torch.arange(3) + torch.rand(3, generator=generator)) / 3, 3.0)
    x = noised(x0, noise, s)
    rows = [0, 1, 2] if len(set(words)) == 1 else [0, 2, 1]
    torch.testing.assert_close(torch.cat([x for x, _ in calls]), x[rows])
    torch.testing.assert_close(torch.cat([t for _, t in calls]), 1000 * s[rows])
    error = (0.1 * x - (noise - x0)).square().mean(1, keepdim=True)
    weight = object_weight(s, cover)
    torch.testing.assert_close(found["loss"], (weight * error).sum() / weight.sum(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["objects"], (cover * error).sum() / cover.sum(), rtol=1e-4, atol=1e-5)


def test_options_have_a_row_for_each_video(toys):
    seen, shot = [], Shot("wan-t2v", frames=3)

    def answer(executor, x, t, context, *args, **kwargs):
        options = next(value for value in (*args, *kwargs.values()) if isinstance(value, dict) and "mine" in value)
        seen.append(options["mine"].flatten().tolist())
        return 0.1 * x

    with in_training():
        model = own_copy(toys(shot.toy))
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", answer)
        x0 = seeded(3, 16, 3, 4, 4, seed=5)
        conds = [model_conds(model, x0[:1], *conditioning(shot, count, 50)[0]) for count in (7, 9, 7)]
        losses(model, Batch(x0, conds, options={"mine": torch.tensor([[1.0], [2.0], [3.0]])}), 0, None)
    assert seen == [[1.0, 3.0], [2.0]]


def test_what_nodes_attach_to_a_conditioning_reaches_the_model(toys):
    model, x0 = toys("wan-t2v"), seeded(1, 16, 3, 4, 4)
    attached = {"model_conds": {"mine": comfy.conds.CONDRegular(torch.ones(1, 2))}}
    conds = model_conds(model, x0, seeded(1, 7, 32), attached)
    assert conds.keys() >= {"mine", "c_crossattn"} and torch.equal(conds["mine"].cond, torch.ones(1, 2))
    assert attached["model_conds"].keys() == {"mine"}
