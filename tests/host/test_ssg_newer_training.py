"""Training an SSG Adapter beside LTX (text attention) and MiniMax H3 (joint attention): what is trained is what is
sampled, and only the adapter learns. LTX-2 is trained without its sound, MiniMax H3 with silence under noise."""

from random import Random

import comfy.sample
import comfy.sd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from semantic_video.harness.sampling import Shot, conditioning, sample, seeded, sound_shape
from semantic_video.harness.toy import EVERY, NEWER, randomize, write_toy_adapter
from semantic_video.harness.toy_ltx import write_toy_ltx
from semantic_video.harness.toy_nodes import ToyCLIP, ToyCLIPVision
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
from semantic_video.kernels.ssg_adapter import SSGAdapter, initialise
from semantic_video.kernels.ssg_spec import Spec
from semantic_video.patches.ssg_adapter import apply
from semantic_video.patches.ssg_adapter_file import load_adapter
from semantic_video.patches.ssg_guide import Guide
from semantic_video.tests.host.test_ssg_training import FP32, plan_of
from semantic_video.tests.host.test_video_folder import write
from semantic_video.training import ssg_model
from semantic_video.training.ssg_adapter import save_adapter, train_adapter, train_on_videos
from semantic_video.training.ssg_loss import Batch, losses
from semantic_video.training.ssg_model import LTX_2_ALONE, option_of, spec_for, version_of_host, with_adapter
from semantic_video.training.video_encoding import Encoders, Shape
from semantic_video.training.video_folder import VideoFolder

FEATURES = seeded(1, 10, 20, seed=41)
H3 = [name for name in ("h3", "h3-both") if name in NEWER]
LTX_2 = ["ltxav23"] if version_of_host() >= LTX_2_ALONE else []
ONE_OF_EACH = [*H3[:1], "ltxv", *LTX_2]


def video_alone(model, shot):
    """The video's latents of one step, sampled without sound where the model can."""
    toy, size = EVERY[shot.toy], (shot.frames, shot.height, shot.width)
    if shot.toy in H3:
        packed = sample(model, shot)
        return packed[..., : toy.channels * size[0] * size[1] * size[2]].reshape(1, toy.channels, *size)
    conds = [conditioning(shot, shot.words, seed) for seed in (20, 21)]
    noise = seeded(1, toy.channels, *size, seed=shot.seed)
    started = ("euler", "simple", *conds, torch.zeros_like(noise))
    return comfy.sample.sample(model, noise, 1, 1.0, *started, seed=shot.seed, disable_pbar=True)


@pytest.mark.parametrize("name", [*H3, "ltxv", *LTX_2])
def test_a_training_forward_is_what_the_sampler_gives(toys, tmp_path, name):
    """One euler step from pure noise ends at what the model predicts there."""
    shot, model = Shot(name, frames=7, cfg=1.0, steps=1), toys(name)
    small = {"clip_width": 20, "grid": (3, 3), "token_width": 10, "blocks": (0, 3)}
    path = write_toy_adapter(tmp_path / "adapter.safetensors", name, **small)
    expected = video_alone(apply(model, load_adapter(path), Guide(FEATURES)), shot)
    assert not torch.allclose(expected, video_alone(model, shot), atol=1e-2)
    with in_training():
        mine = own_copy(toys(name))
        load_frozen(mine)
        module = SSGAdapter(Spec.read(safe_open(path, "pt").metadata()))
        module.load_state_dict(load_file(path))
        ((text, extra),) = conditioning(shot, shot.words, 20)
        sampling = mine.get_model_object("model_sampling")
        noise, sigma = seeded(*expected.shape, seed=shot.seed), sampling.sigma_max.view(1)
        x = sampling.noise_scaling(sigma, noise, torch.zeros_like(noise))
        extra |= {"seed": shot.seed}  # of the faint noise that the host puts on keyframes
        conds = cat_conds([model_conds(mine, noise, text, extra)], x.device)
        sound = seeded(*sound_shape(shot), seed=shot.seed + 100) if name in H3 else None
        found = denoised(with_adapter(mine, module), x, sigma, conds, option_of(FEATURES), sound)
        assert found.requires_grad and mine.model.latent_shapes is None
    torch.testing.assert_close(mine.model.process_latent_out(found.detach()), expected, rtol=1e-4, atol=1e-4)


def batch_of(model, name, count=2, scale=1.0):
    x0 = scale * seeded(count, EVERY[name].channels, 2, 4, 4, seed=40)
    conds = []
    for i in range(count):
        ((text, extra),) = conditioning(Shot(name, frames=2), 7, 50 + i)
        conds.append(model_conds(model, x0[:1], text, extra))
    return Batch(x0, conds, conds, seeded(count, 10, 20, seed=41))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_gradients_reach_the_adapter_alone(toys, name):
    """And are the same with checkpointed blocks, which write into their inputs."""
    with in_training():
        model = own_copy(toys(name))
        load_frozen(model)
        module = SSGAdapter(spec_for(model, FEATURES, rank=4, token_width=10))
        randomize(module)
        blocks, gradients = family_of(model).block_modules(model.model.diffusion_model), []
        for twice in ([], blocks):
            with copying_norms(blocks), checkpointed(twice):
                losses(with_adapter(model, module), lambda rng: batch_of(model, name), Random(0), None)[
                    "loss"
                ].backward()
            gradients.append({key: value.grad.clone() for key, value in module.named_parameters()})
            module.zero_grad()
        for key, value in gradients[0].items():
            torch.testing.assert_close(gradients[1][key], value, rtol=1e-4, atol=1e-6)
            assert value.abs().sum() > 0, key
        assert all(parameter.grad is None for parameter in model.model.parameters())


def losses_of(model, spec, weights, batch):
    """With what training made, `weights`, or a new adapter: of three fixed draws of noise and its levels."""
    with in_training(False):
        module = SSGAdapter(spec)
        initialise(module)
        module.load_state_dict(weights or {}, strict=weights is not None)
        return [
            float(losses(with_adapter(model, module), lambda rng: batch, Random(i), None, dropout=False)["loss"])
            for i in range(3)
        ]


@pytest.mark.parametrize("name", [*H3[:1], "ltxv"])
def test_it_learns_and_the_loader_reads_the_file(toys, tmp_path, name):
    """Two videos by heart, seen under other noise than they were learnt with; without a rate nothing moves."""
    model, path = toys(name), tmp_path / "adapter.safetensors"
    spec = spec_for(model, FEATURES, rank=4, token_width=10)
    before = {key: value.clone() for key, value in model.model.state_dict().items()}
    with in_training():
        batch = batch_of(model, name, scale=0.1)

    def trained(steps, rate):
        plan = plan_of(tmp_path, steps=steps, rate=rate, name=f"{rate}")
        return train_adapter(model, spec, lambda rng: batch, plan, lambda w, _: save_adapter(w, spec, path, {}), FP32)

    new = losses_of(model, spec, None, batch)
    assert losses_of(model, spec, trained(1, 0.0)[0], batch) == new
    weights, state = trained(10, 0.1)
    assert state.step == 10
    for learnt, fresh in zip(losses_of(model, spec, weights, batch), new, strict=True):
        assert learnt < 0.85 * fresh
    assert all(torch.equal(value, before[key]) for key, value in model.model.state_dict().items())
    shot = Shot(name, frames=2, steps=1, cfg=1.0)
    assert not torch.equal(sample(apply(model, load_adapter(path), Guide(FEATURES)), shot), sample(model, shot))


def test_hosts_that_fail_without_sound_are_told(toys, monkeypatch):
    monkeypatch.setattr(ssg_model, "version_of_host", lambda: (0, 29))
    with pytest.raises(ValueError, match="model: LTX-2 is trained on without its sound.* Update ComfyUI to 0.33"):
        spec_for(toys("ltxav23"), FEATURES, 4)
    spec_for(toys("ltxv"), FEATURES, 4)


@pytest.mark.skipif(not LTX_2, reason="this ComfyUI fails on LTX-2 without sound")
def test_a_folder_of_videos_for_ltx_2(toys, tmp_path):
    """Its conditionings say that they have not been through the connector yet, and how fast the video is."""
    clips = tmp_path / "clips"
    clips.mkdir()
    for i in range(2):
        write(clips / f"{i}.mp4", frames=9, caption=f"a red square {i}")
    loaded = comfy.sd.load_checkpoint_guess_config(
        str(write_toy_ltx("ltxav", tmp_path / "ltx.safetensors")), output_clip=False
    )
    encoders = Encoders(loaded[2], ToyCLIP(), ToyCLIPVision())
    with pytest.raises(ValueError, match=r"length 5: must be 8 n \+ 1, as this VAE makes videos. Try 1"):
        VideoFolder(clips, Shape(64, 32, 5, 8.0), encoders, loaded[0], tmp_path / "cache")
    videos = VideoFolder(clips, Shape(64, 32, 9, 8.0), encoders, loaded[0], tmp_path / "cache")
    target, plan = tmp_path / "adapter.safetensors", plan_of(tmp_path, steps=2, batch=1)
    train_on_videos(videos, target, plan, lambda *_: {}, 0.0, FP32, rank=4, token_width=16)
    assert load_adapter(target).model.spec.family == "ltx"
    conds = videos.draw(videos.split(0.0, 0)[0], 1)(Random(0)).conds[0]
    assert conds["frame_rate"].cond == 8.0 and conds["c_crossattn"].cond.shape[1] == 1024
