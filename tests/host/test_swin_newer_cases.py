"""Swin Renderer in further cases of MiniMax H3 and LTX that are hard to get right: start frames in the latent, pictures
in the prompt, shifted noise levels, perturbed passes."""

import inspect

import comfy.ldm.lightricks.av_model as av_model
import comfy.nested_tensor
import comfy.sample
import pytest
import torch

from semantic_video.harness.sampling import Shot, conditioning, sample, seeded, sound_shape
from semantic_video.harness.toy import NEWER
from semantic_video.patches.swin_renderer import apply
from semantic_video.tests.host.test_newer_families import watching
from semantic_video.tests.host.test_swin_newer import WINDOWS, reference, same

needs_h3 = pytest.mark.skipif("h3" not in NEWER, reason="this host has no MiniMax H3")


def from_start_frames(model):
    """Two latent frames kept by a noise mask, and a prompt whose first four tokens are of a picture."""
    shot, nested = Shot("h3", frames=12, cfg=1.0, steps=1), comfy.nested_tensor.NestedTensor
    [[text, extra]] = conditioning(shot, 9, 20)
    extra = extra | {"minimax_token_tags": torch.tensor([[0] * 4 + [1] * 5])}
    size, sound = (1, 24, 12, 4, 4), sound_shape(shot)
    mask = torch.ones(1, 1, *size[2:])
    mask[:, :, :2] = 0
    conds = [[[text, extra]]] * 2
    noise, latent = (nested((seeded(*size, seed=s), seeded(*sound, seed=s + 1))) for s in (1, 3))
    noise_mask = nested((mask, torch.ones(1, 1, *sound[2:])))
    settings = dict(noise_mask=noise_mask, seed=1, disable_pbar=True)
    out = comfy.sample.sample(model, noise, 1, 1.0, "euler", "simple", *conds, latent, **settings)
    return comfy.utils.pack_latents(out.unbind())[0]


@needs_h3
@pytest.mark.parametrize("shifted", [False, True])
def test_start_frames_pictures_and_shifts_of_minimax_h3(toys, shifted):
    model, seen = toys("h3"), []
    if shifted:
        from comfy_extras.nodes_minimax_h3 import MiniMaxH3SigmaShift

        model = MiniMaxH3SigmaShift.execute(model, 6.0, 2.0).args[0]
    plain = from_start_frames(model)
    assert torch.equal(plain, from_start_frames(watching(model, seen)))
    assert {call.before for call in seen} == {9 + 130}
    expected = from_start_frames(reference(model))
    same(from_start_frames(apply(model, WINDOWS)), expected)
    assert (expected - plain).abs().mean() > 1e-3


@pytest.mark.parametrize(
    "options", [{"stg_self_attn_blocks": [1]}, {"a2v_cross_attn": False}, {"v2a_cross_attn": False}]
)
def test_perturbed_and_severed_passes_of_ltx(toys, options):
    """Where 7 x 1 x 7 tokens of video meet as many of sound, so that lengths tell nothing."""
    name, size = "ltxav23", (7, 1, 7)
    if not all(option in inspect.getsource(av_model) for option in options):
        pytest.skip("this host has no such option")
    model, shot = toys(name), Shot(name, *size, cfg=1.0, steps=1)
    model.model_options["transformer_options"] |= options
    expected = sample(reference(model), shot)
    same(sample(apply(model, WINDOWS), shot), expected)
    assert (expected - sample(model, shot)).abs().mean() > 1e-4
