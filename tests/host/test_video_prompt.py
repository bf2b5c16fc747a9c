"""Video-As-Prompt against the published class, by single forwards and through the sampler."""

import pytest
import torch

from semantic_video.host import wan_stream
from semantic_video.kernels.video_prompt import IMAGE, LATENT, TEXT
from semantic_video.patches import video_prompt
from semantic_video.patches.video_prompt import VideoPrompt, apply
from semantic_video.patches.video_prompt_expert import layers_of
from semantic_video.tests.host.vap_golden import CASES, GOLDEN, conditioning, drawn, sample


def inputs(case):
    b, f, h, w, fr, hr, wr = CASES[case]
    text, ref_text = drawn(f"{case}.text", (b, 512, 4096)), drawn(f"{case}.ref_text", (b, 512, 4096))
    text[:, 37:] = 0
    ref_text[:, 61:] = 0
    main = (
        drawn(f"{case}.hidden_states", (b, 36, f, h, w)),
        torch.full((b,), 637.0),
        text,
        drawn(f"{case}.image", (b, 257, 1280)),
    )
    return main, {
        LATENT: [drawn(f"{case}.ref", (b, 36, fr, hr, wr))],
        TEXT: ref_text,
        IMAGE: drawn(f"{case}.ref_image", (b, 257, 1280)),
    }


def forward(model, case):
    main, reference = inputs(case)
    options = {**model.model_options["transformer_options"], "wrappers": model.wrappers}
    return model.model.diffusion_model(*main, None, options, **reference)


def error(model, case):
    golden = torch.from_numpy(GOLDEN[case])
    return float((forward(model, case) - golden).norm() / golden.norm())


@pytest.mark.parametrize("case", ["same", "resized"])
def test_it_is_the_published_model(backbone, expert, case):
    assert layers_of(expert) == (0, 2, 4)
    assert error(apply(backbone, expert, VideoPrompt()), case) < 5e-5
    assert error(backbone, case) > 0.1, "the reference must matter for this test to mean anything"


@pytest.mark.parametrize("case", ["same", "resized"])
def test_the_known_mistakes_are_caught(backbone, expert, case, monkeypatch):
    patched = apply(backbone, expert, VideoPrompt())
    start = wan_stream.WanStream.__init__
    for shift, least in ((1, 2e-2), (CASES[case][4], 5e-2)):  # positions off by one; positions 0, 1, ...

        def shifted(self, module, latent, text, image, position, *rest, by=shift):
            start(self, module, latent, text, image, position + by, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(wan_stream.WanStream, "__init__", shifted)
            assert error(patched, case) > least
    monkeypatch.setattr(video_prompt, "TIMESTEP", 0.0)
    assert error(patched, case) > 0.1


def test_the_host_s_sampler_integrates_the_published_velocity(backbone, expert):
    """Euler over the host's own schedule with CFG, by hand, from single forwards as the golden ones."""
    import comfy.samplers

    from semantic_video.harness.sampling import seeded

    patched = apply(backbone, expert, VideoPrompt())
    positive, negative = conditioning(7, 20), conditioning(7, 21)
    sigmas = comfy.samplers.calculate_sigmas(patched.get_model_object("model_sampling"), "simple", 3)
    x = seeded(1, 16, 3, 8, 12, seed=1)
    x = x * sigmas[0]
    options = {**patched.model_options["transformer_options"], "wrappers": patched.wrappers}
    process_in = patched.model.latent_format.process_in

    def velocity(x, sigma, entry):
        text, extra = entry[0]
        conds = extra["model_conds"]
        image = torch.cat(
            (1 - extra["concat_mask"].expand(-1, 4, -1, -1, -1), process_in(extra["concat_latent_image"])), dim=1
        )
        main = (
            torch.cat((x, image), dim=1),
            sigma.view(1) * 1000,
            text,
            extra["clip_vision_output"].penultimate_hidden_states,
        )
        return patched.model.diffusion_model(
            *main, None, options, **{LATENT: conds[LATENT].cond, TEXT: conds[TEXT].cond, IMAGE: conds[IMAGE].cond}
        )

    for sigma, following in zip(sigmas, sigmas[1:]):
        v, v_negative = velocity(x, sigma, positive), velocity(x, sigma, negative)
        x = x + (following - sigma) * (v_negative + 3.0 * (v - v_negative))
    expected, got = patched.model.latent_format.process_out(x), sample(patched, steps=3)
    assert float((got - expected).norm() / expected.norm()) < 5e-5


def test_the_reference_reaches_the_sampler_and_the_parent_stays(backbone, expert):
    plain = sample(backbone)
    followed = sample(apply(backbone, expert, VideoPrompt()))
    assert torch.isfinite(followed).all()
    assert not torch.allclose(plain, followed, rtol=1e-2, atol=1e-2)
    assert torch.equal(plain, sample(backbone))
    without = conditioning(7, 20, reference=False), conditioning(7, 21, reference=False)
    assert torch.equal(sample(backbone, *without), plain), (
        "conditioning that carries a reference must not change an unpatched model"
    )


def test_strength(backbone, expert):
    assert apply(backbone, expert, VideoPrompt(0.0)) is backbone
    none, half, full = (sample(apply(backbone, expert, VideoPrompt(s)), steps=1) for s in (0.0, 0.5, 1.0))
    assert (half - none).norm() < (full - none).norm()
    with pytest.raises(ValueError, match="strength 2"):
        VideoPrompt(2.0)


def test_another_reference_gives_another_video(backbone, expert):
    from semantic_video.kernels.video_prompt import LATENT

    patched = apply(backbone, expert, VideoPrompt())
    other = conditioning(7, 20)
    other[0][1]["model_conds"][LATENT].cond[0] = -other[0][1]["model_conds"][LATENT].cond[0]
    assert not torch.allclose(sample(patched), sample(patched, other), rtol=1e-2, atol=1e-2)


def test_references_are_encoded_as_published(toys, tmp_path):
    import comfy.utils

    from semantic_video.harness.toy import write_toy_vae
    from semantic_video.host.reference import encode_reference

    vae = comfy.sd.VAE(comfy.utils.load_torch_file(str(write_toy_vae(tmp_path / "vae.safetensors"))))
    clip = torch.rand(9, 40, 56, 4)  # another size, and with alpha
    latent = encode_reference(vae, clip, 48, 32)
    assert latent.shape == (1, 36, 3, 4, 6)
    assert latent[:, 16:20, 0].eq(1).all()
    assert latent[:, 16:20, 1:].eq(0).all()
    # both see the first frame first
    torch.testing.assert_close(latent[:, :16, 0], latent[:, 20:, 0], rtol=1e-4, atol=1e-4)
    vae.first_stage_model = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"vae: Identity is not the VAE of Wan 2\.1"):
        encode_reference(vae, clip, 48, 32)
