"""Start Sigmas and Start Step: what a model sees first when the render of a draft begins."""

import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import BasicScheduler, SamplerCustom

from nodes import KSamplerAdvanced
from semantic_video.harness.sampling import Shot, conditioning, seeded
from semantic_video.nodes.start_sigmas import StartSigmasNode, StartStepNode

STRAIGHT = ("wan-t2v", "hunyuan-t2v")


def started(model, **changes):
    inputs = {"scheduler": "simple", "steps": 20, "sigma": 0.9} | changes
    return StartSigmasNode.execute(model, **inputs).args


def stepped(model, **changes):
    inputs = {"scheduler": "simple", "steps": 20, "sampler_name": "euler", "sigma": 0.9} | changes
    return StartStepNode.execute(model, **inputs).args


def probed(model):
    """(a clone, what its diffusion model is given: (x, timestep) of every call)"""
    seen, model = [], model.clone()

    def probe(executor, x, timestep, *args, **kwargs):
        seen.append((x[:1].clone(), float(timestep[0])))
        return executor(x, timestep, *args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "probe", probe)
    return model, seen


def draft_latent():
    return {"samples": seeded(1, 16, 5, 4, 4, seed=5)}


def sample(model, toy, sigmas, latent, **changes):
    shot = Shot(toy, frames=5)
    conds = conditioning(shot, 7, 20), conditioning(shot, 7, 21)
    sampler = comfy.samplers.sampler_object("euler")
    inputs = dict(add_noise=True, noise_seed=3, cfg=3.0) | changes
    arguments = inputs | dict(positive=conds[0], negative=conds[1], sampler=sampler)
    return SamplerCustom.execute(model, sigmas=sigmas, latent_image=latent, **arguments).args


def renoised(model, latent, sigma, seed=3):
    """x = (1 - sigma) z + sigma eps, z as the model has latents, in fp64."""
    z = model.model.process_latent_in(latent["samples"]).double()
    eps = torch.randn(z.shape, generator=torch.manual_seed(seed), dtype=torch.float32).double()
    return (1 - sigma) * z + sigma * eps


@pytest.mark.parametrize("toy", STRAIGHT)
@pytest.mark.parametrize("sigma", [0.9, 0.875, 0.6123])
def test_the_model_starts_at_exactly_this_noise(toys, toy, sigma):
    model, seen = probed(toys(toy))
    sigmas, _, reported = started(model, sigma=sigma)
    assert reported == sigma and sigmas[0] == torch.tensor(sigma)
    latent = draft_latent()
    sample(model, toy, sigmas, latent)
    x, timestep = seen[0]
    assert timestep == pytest.approx(1000 * sigma, rel=1e-6)
    torch.testing.assert_close(x.double(), renoised(model, latent, sigma), rtol=0, atol=2e-6)
    assert len({timestep for _, timestep in seen}) == len(sigmas) - 1, "one step, one level"


@pytest.mark.parametrize("toy", STRAIGHT)
def test_sigma_1_is_a_run_without_a_draft(toys, toy):
    model = toys(toy)
    sigmas, above, _ = started(model, sigma=1.0)
    assert torch.equal(sigmas, BasicScheduler.execute(model, "simple", 20, 1.0).args[0])
    assert above.tolist() == [1.0]
    drafted = sample(model, toy, sigmas[:4], draft_latent())[0]["samples"]
    empty = {"samples": torch.zeros_like(draft_latent()["samples"])}
    assert torch.equal(drafted, sample(model, toy, sigmas[:4], empty)[0]["samples"])


def test_steps_below_are_the_schedulers(toys):
    model = toys("wan-t2v")
    for scheduler in ("simple", "normal", "beta", "sgm_uniform"):
        whole = BasicScheduler.execute(model, scheduler, 20, 1.0).args[0]
        sigmas, above, _ = started(model, scheduler=scheduler)
        assert sigmas[0] == above[-1] == torch.tensor(0.9)
        assert torch.equal(sigmas[1:], whole[-len(sigmas) + 1 :])
        assert torch.equal(above[:-1], whole[: len(above) - 1])
        assert len(sigmas) + len(above) == len(whole) + 1


def test_growth_raises_it(toys):
    sigmas, _, reported = started(toys("wan-t2v"), sigma=0.875, growth=1.5)
    assert reported == pytest.approx(1.5 * 0.875 / 1.4375)
    assert sigmas[0] == torch.tensor(reported)


@pytest.mark.parametrize("toy", STRAIGHT)
@pytest.mark.parametrize("sampler", ["euler", "uni_pc"])
def test_start_step_is_where_ksampler_advanced_starts(toys, toy, sampler):
    """And its noise there is as exact; uni_pc leaves out the last step but one."""
    model, seen = probed(toys(toy))
    step, sigma = stepped(model, steps=8, sampler_name=sampler)
    sigmas = comfy.samplers.KSampler(model, 8, "cpu", sampler, "simple").sigmas
    assert sigma == float(sigmas[step])
    assert abs(sigma - 0.9) == min(abs(float(s) - 0.9) for s in sigmas[:-1])
    shot, latent = Shot(toy, frames=5), draft_latent()
    conds = conditioning(shot, 7, 20), conditioning(shot, 7, 21)
    KSamplerAdvanced().sample(model, "enable", 3, 8, 3.0, sampler, "simple", *conds, latent, step, step + 1, "enable")
    x, timestep = seen[0]
    assert timestep == pytest.approx(1000 * sigma, rel=1e-6)
    torch.testing.assert_close(x.double(), renoised(model, latent, sigma), rtol=0, atol=2e-6)


def test_uni_pc_steps_elsewhere(toys):
    model = toys("wan-t2v")
    assert stepped(model, steps=4, sigma=0.3) != stepped(model, steps=4, sigma=0.3, sampler_name="uni_pc")


def test_two_experts_meet_at_the_boundary(toys):
    """One plans down to exactly the boundary, its estimate is the draft, and the other goes on from there."""
    high, seen_high = probed(toys("wan-t2v"))
    low, seen_low = probed(toys("wan-t2v"))
    sigmas, above, _ = started(high, sigma=0.875)
    empty = {"samples": torch.zeros(1, 16, 5, 4, 4)}
    _, estimate = sample(high, "wan-t2v", above, empty)
    assert seen_high[0][1] == pytest.approx(1000) and min(t for _, t in seen_high) > 875
    sample(low, "wan-t2v", sigmas, {"samples": estimate["samples"]})
    x, timestep = seen_low[0]
    assert timestep == pytest.approx(875)
    torch.testing.assert_close(x.double(), renoised(low, estimate, 0.875), rtol=0, atol=2e-6)


def test_what_the_mask_keeps_stays_in_place(toys):
    """The start image of an image-to-video latent (HunyuanVideo, replace) is seen clean and comes out as it went in."""
    toy = "hunyuan-t2v"
    model, seen = probed(toys(toy))
    latent = draft_latent()
    mask = torch.ones(1, 1, 5, 4, 4)
    mask[:, :, 0] = 0
    sigmas, _, _ = started(model)
    out = sample(model, toy, sigmas, latent | {"noise_mask": mask})[0]["samples"]
    torch.testing.assert_close(out[:, :, 0], latent["samples"][:, :, 0], rtol=0, atol=1e-5)
    assert not torch.allclose(out[:, :, 1:], latent["samples"][:, :, 1:], atol=0.1)
    expected = renoised(model, latent, 0.9)
    expected[:, :, 0] = model.model.process_latent_in(latent["samples"])[:, :, 0]
    torch.testing.assert_close(seen[0][0].double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("call", [started, stepped])
def test_levels_that_are_none(toys, call):
    model = toys("wan-t2v")
    for sigma in (0.0, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"sigma {sigma}: must be above 0, .* at most 1, this model's pure noise"):
            call(model, sigma=sigma)


@pytest.mark.parametrize("call", [started, stepped])
def test_a_model_that_is_no_flow_model(call):
    from types import SimpleNamespace

    model = SimpleNamespace(get_model_object=lambda name: SimpleNamespace(sigma_max=14.6))
    with pytest.raises(ValueError, match="model: its noise levels are not those of a flow model"):
        call(model)
