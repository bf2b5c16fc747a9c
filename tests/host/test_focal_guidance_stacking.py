"""Focal Guidance with other patches, another pack's override, CFG in one batch or two, and context windows."""

import math

import comfy.samplers
import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT
from semantic_video.host.editing import edit_attention
from semantic_video.tests.host.focal_reference import ALL, FAR, INDICES, NEAR, explicit, guided
from semantic_video.tests.host.stacking import foreign, windows


@pytest.mark.parametrize("name", STRAIGHT)
@pytest.mark.parametrize("weight", [3.0, 2.5])
def test_batched_and_split_cfg_agree(toys, name, weight, monkeypatch):
    patched, shot = guided(toys(name), weight=weight, **ALL), Shot(name)
    batched = sample(patched, shot)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, sample(patched, shot), **NEAR)


@pytest.mark.parametrize("name", STRAIGHT)
def test_it_stacks_in_both_orders(toys, name):
    def scaled(call, proceed):
        return 1.3 * proceed(call.replace(v=call.v * 0.9))

    model, shot = toys(name), Shot(name)
    sites = {"sites": ("self", "text", "joint")}
    one = guided(edit_attention(model, "scaled", scaled, **sites), **ALL)
    other = edit_attention(guided(model, **ALL), "scaled", scaled, **sites)
    got = sample(one, shot)
    if "wan" in name:  # in joint attention the cache measures with attentions of its own
        torch.testing.assert_close(got, sample(other, shot), **NEAR)
    assert not torch.allclose(got, sample(guided(model, **ALL), shot), **FAR)
    assert not torch.allclose(
        sample(other, shot), sample(edit_attention(model, "scaled", scaled, **sites), shot), **FAR
    )


@pytest.mark.parametrize("name", ["hunyuan-t2v", "wan-t2v"])
def test_it_stacks_with_windows_of_the_swin_renderer(toys, name):
    """Copies of keywords stand behind the last key, where every window sees them: as a mask on whole keys would."""
    from semantic_video.patches.swin_renderer import SwinRenderer
    from semantic_video.patches.swin_renderer import apply as swin

    model, shot, config = toys(name), Shot(name), SwinRenderer(window=4)
    one, other = guided(swin(model, config)), swin(guided(model), config)
    got = sample(one, shot)
    assert torch.equal(got, sample(other, shot))

    def masked(call, proceed):
        count = call.k.shape[1] if call.site.kind == "text" else call.before
        bias = torch.zeros(len(call.q), 1, 1, call.k.shape[1])
        for row, kind in enumerate(call.forward.rows):
            if kind == 0:
                bias[row, ..., [count - 7 + index for index in INDICES]] = math.log(3)
        return proceed(call.replace(mask=bias))

    expected = swin(edit_attention(model, "masked", masked, sites=("text", "joint")), config)
    torch.testing.assert_close(got, sample(expected, shot), **NEAR)


@pytest.mark.parametrize("name", STRAIGHT)
@pytest.mark.parametrize("foreign_first", [True, False])
def test_a_foreign_override_is_kept(toys, name, foreign_first):
    model, shot, log = toys(name), Shot(name, steps=1), []
    patched = model.clone() if foreign_first else guided(model)
    patched.model_options["transformer_options"]["optimized_attention_override"] = foreign(1.5, log)
    patched = guided(patched) if foreign_first else patched
    got = sample(patched, shot)
    assert log
    louder = edit_attention(
        guided(model), "louder", lambda call, proceed: 1.5 * proceed(call), sites=("self", "text", "image", "joint")
    )
    if "hunyuan" not in name:  # there the foreign override also meets the token refiner
        torch.testing.assert_close(got, sample(louder, shot), **NEAR)
    assert not torch.allclose(got, sample(guided(model), shot), **FAR)


@pytest.mark.parametrize("name", ["wan-t2v", "wan-i2v-clip", "hunyuan-t2v"])
def test_context_windows_take_their_frames_of_the_region(toys, name):
    model, shot = toys(name), Shot(name)
    mask = torch.zeros(9, 4, 4)
    mask[:4] = 1

    def by_frame(call, proceed):
        region = mask[list(call.forward.frames)]
        tokens = torch.nn.functional.adaptive_avg_pool2d(region, call.forward.layout.height)
        return explicit(weight=3.0, region=tokens)(call, proceed)

    expected = windows(edit_attention(model, "reference", by_frame, sites=("text", "joint")))
    got = sample(windows(guided(model, region=mask)), shot)
    torch.testing.assert_close(got, sample(expected, shot), **NEAR)
    assert not torch.allclose(got, sample(windows(guided(model)), shot), **FAR)
