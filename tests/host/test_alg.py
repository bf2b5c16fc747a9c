"""ALG on the real host against conditions blurred by hand, and its guidance against three passes made by hand."""

import comfy.sample
import pytest
import torch
import torch.nn.functional as F
from comfy.patcher_extension import WrappersMP

import semantic_video.harness.sampling as sampling
from semantic_video.harness.sampling import Shot, conditioning, sample, seeded
from semantic_video.harness.toy import TOYS
from semantic_video.host.schedule import Interval
from semantic_video.patches.alg import ALG, apply
from semantic_video.tests.host.stacking import windows

THREE = "three passes (published)"
AT_20_OF_50 = 5 * 0.8 / (1 + 4 * 0.8)  # step 10 of 50 at shift 5


def blur(x, factor):
    """The published filter, frame by frame."""
    size = x.shape[-2:]
    small = [max(1, round(n * factor)) for n in size]
    frames = []
    for frame in x.unbind(2):
        frame = F.interpolate(frame, size=small, mode="bilinear", align_corners=False, antialias=True)
        frames.append(F.interpolate(frame, size=size, mode="bilinear", align_corners=False, antialias=True))
    return torch.stack(frames, dim=2)


def blurring(model, factor, above=0.0):
    """`model` with c_concat blurred where ComfyUI hands it on: the naive reference."""
    model = model.clone()

    def wrapper(executor, x, t, c_concat=None, *args, **kwargs):
        c_concat = blur(c_concat, factor) if float(t[0]) > above + 1e-4 else c_concat
        return executor(x, t, c_concat, *args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "reference", wrapper)
    return model


@pytest.mark.parametrize("toy", ["wan-i2v", "wan-i2v-clip", "wan-camera"])
def test_the_condition_is_blurred_in_the_published_steps(toys, toy):
    model, shot = toys(toy), Shot(toy, height=6, width=8, steps=6)
    expected = sample(blurring(model, 0.4, AT_20_OF_50), shot)
    torch.testing.assert_close(sample(apply(model, ALG()), shot), expected, rtol=1e-4, atol=1e-5)
    for other in (model, blurring(model, 0.4), blurring(model, 0.625, AT_20_OF_50)):
        assert not torch.allclose(expected, sample(other, shot), rtol=1e-3, atol=1e-4)


def predictions(model, shot, words_seed):
    """One step from pure noise to nothing at CFG 1: what the model predicts for one prompt."""
    toy = TOYS[shot.toy]
    shape = (1, toy.channels, shot.frames, shot.height, shot.width)
    cond = conditioning(shot, shot.words, words_seed)
    noise = seeded(*shape, seed=shot.seed)
    return comfy.sample.sample(
        model, noise, 1, 1.0, "euler", "simple", cond, cond, torch.zeros(shape), seed=shot.seed, disable_pbar=True
    )


@pytest.mark.parametrize("toy", ["wan-i2v", "wan-i2v-clip"])
@pytest.mark.parametrize("cfg", [2.0, 5.0])
@pytest.mark.parametrize("split", [False, True])
def test_three_passes_are_the_published_guidance(toys, toy, cfg, split, monkeypatch):
    model, shot = toys(toy), Shot(toy, height=6, width=8, steps=1, cfg=cfg)
    blurred = blurring(model, 0.4)
    expected = predictions(model, shot, 21) + cfg * (predictions(blurred, shot, 20) - predictions(blurred, shot, 21))
    if split:
        monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(sample(apply(model, ALG(guidance=THREE)), shot), expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(sample(apply(model, ALG()), shot), expected, rtol=1e-2, atol=1e-3), "the variant"


def test_the_variant_blurs_both_passes(toys):
    model, shot = toys("wan-i2v"), Shot("wan-i2v", height=6, width=8, steps=1, cfg=3.0)
    blurred = blurring(model, 0.4)
    cond, uncond = predictions(blurred, shot, 20), predictions(blurred, shot, 21)
    torch.testing.assert_close(sample(apply(model, ALG()), shot), uncond + 3 * (cond - uncond), rtol=1e-3, atol=1e-4)


def test_three_passes_act_in_their_steps_and_at_cfg_1_there_is_one(toys):
    model, shot = toys("wan-i2v"), Shot("wan-i2v", height=6, width=8, steps=6)
    calls = []

    def counting(of):
        of = of.clone()
        of.add_wrapper_with_key(
            WrappersMP.DIFFUSION_MODEL, "count", lambda executor, *a, **k: calls.append(len(a[0])) or executor(*a, **k)
        )
        return of

    sample(counting(apply(model, ALG(guidance=THREE))), shot)
    sigmas = [1 - i / 6 for i in range(6)]
    shift = model.get_model_object("model_sampling").shift
    acting = sum(shift * s / (1 + (shift - 1) * s) > AT_20_OF_50 + 1e-4 for s in sigmas)
    assert 0 < acting < 6
    assert sum(calls) == 2 * 6 + acting
    one = shot.but(cfg=1.0)
    assert torch.equal(sample(apply(model, ALG(guidance=THREE)), one), sample(apply(model, ALG()), one))


def test_the_same_twice_makes_three_passes_not_five(toys):
    model, shot = toys("wan-i2v"), Shot("wan-i2v", height=6, width=8)
    once = apply(model, ALG(guidance=THREE))
    assert torch.equal(sample(once, shot), sample(apply(once, ALG(guidance=THREE)), shot))


def test_context_windows_have_three_passes_each(toys):
    model, shot = toys("wan-i2v"), Shot("wan-i2v", frames=13, height=6, width=8, steps=1, cfg=3.0)
    cut, whole = windows(model, length=8, overlap=2), shot
    blurred = windows(blurring(model, 0.4), length=8, overlap=2)
    expected = predictions(cut, whole, 21) + 3 * (predictions(blurred, whole, 20) - predictions(blurred, whole, 21))
    torch.testing.assert_close(sample(apply(cut, ALG(guidance=THREE)), whole), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("toy", ["hunyuan-i2v"])
def test_hunyuan_s_replaced_first_frame_is_blurred(toys, toy):
    """ "v2 (replace)": the image is frame 0 of the latent. Published for one pass, steps 0 and 1 of 50 at shift 7."""
    model, shot = toys(toy), Shot(toy, height=6, width=8, steps=1, cfg=1.0)
    reference = model.clone()

    def wrapper(executor, x, *args, **kwargs):
        x = torch.cat([blur(x[:, :, :1], 0.625), x[:, :, 1:]], dim=2)
        return executor(x, *args, **kwargs)

    reference.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "reference", wrapper)
    expected, got = sample(reference, shot), sample(apply(model, ALG()), shot)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got, sample(model, shot), rtol=1e-3, atol=1e-3)
    late = shot.but(steps=6, start_step=1)  # from below 0.994
    assert torch.equal(sample(apply(model, ALG()), late), sample(model, late))


def test_hunyuan_1_5_s_channels_are_blurred(toys, monkeypatch):
    plain = sampling.conditioning

    def with_image(shot, words, seed):
        [[tensor, extra]] = plain(shot, words, seed)
        image = seeded(1, 32, shot.frames, shot.height, shot.width, seed=3)
        return [[tensor, extra | {"concat_latent_image": image, "concat_mask": torch.ones(1, 1, *image.shape[2:])}]]

    monkeypatch.setattr(sampling, "conditioning", with_image)
    model, shot = toys("hunyuan-1.5"), Shot("hunyuan-1.5", height=6, width=8)
    expected, got = sample(blurring(model, 0.625), shot), sample(apply(model, ALG(min_sigma=0.0)), shot)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got, sample(model, shot), rtol=1e-3, atol=1e-3)


def test_settings_override_the_published_ones(toys):
    model, shot = toys("wan-i2v"), Shot("wan-i2v", height=6, width=8, steps=4)
    got = sample(apply(model, ALG(0.7, min_sigma=0.0)), shot)
    torch.testing.assert_close(got, sample(blurring(model, 0.7), shot), rtol=1e-4, atol=1e-5)
    half = sample(apply(model, ALG(strength=0.5, min_sigma=0.0)), shot)
    torch.testing.assert_close(half, got, rtol=1e-4, atol=1e-5)  # 1 - 0.5 * (1 - 0.4)
    halfway = Interval(0.0, 0.5)
    assert not torch.equal(half, sample(apply(model, ALG(0.7, interval=halfway, min_sigma=0.0)), shot))


@pytest.mark.parametrize("toy", ["wan-t2v", "wan-5b", "wan-vace", "wan-phantom"])
def test_models_without_a_start_image_are_refused(toys, toy):
    with pytest.raises(ValueError, match="model: this Wan has no channels for a start image.*Load an I2V model"):
        apply(toys(toy), ALG())


@pytest.mark.parametrize("toy", ["wan-reference", "hunyuan-t2v", "hunyuan-1.5"])
def test_runs_without_a_start_image_stop_before_the_first_step(toys, toy):
    stepped = []
    with pytest.raises(ValueError, match="ALG: no conditioning carries a start image.*WanImageToVideo"):
        sample(apply(toys(toy), ALG()), Shot(toy), callback=lambda *a: stepped.append(a))
    assert not stepped


def test_in_context_windows_only_the_first_frame_of_the_video_is_blurred(toys):
    """HunyuanVideo's "v2 (replace)": later windows begin with a frame that is no start image."""
    shot = Shot("hunyuan-i2v", frames=13, height=6, width=8, steps=1, cfg=1.0)
    model = windows(toys("hunyuan-i2v"), length=8, overlap=2, causal_window_fix=False)
    reference = model.clone()

    def wrapper(executor, x, *args, **kwargs):
        [options] = [a for a in (*args, *kwargs.values()) if isinstance(a, dict) and "context_window" in a]
        if options["context_window"].index_list[0] == 0:
            x = torch.cat([blur(x[:, :, :1], 0.625), x[:, :, 1:]], dim=2)
        return executor(x, *args, **kwargs)

    reference.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "reference", wrapper)
    torch.testing.assert_close(sample(apply(model, ALG()), shot), sample(reference, shot), rtol=1e-4, atol=1e-5)
