"""Compressed places in time: exactly the host's own RoPE at those places, in every family, with and without windows."""

import logging

import comfy.ldm.hunyuan_video.model as hunyuan_model
import comfy.ldm.wan.model as wan_model
import pytest
import torch
from comfy.ldm.flux.math import apply_rope1

from semantic_video.harness.sampling import Shot, sample, seeded
from semantic_video.harness.toy import STRAIGHT
from semantic_video.host.editing import edit_attention
from semantic_video.host.families import family_of
from semantic_video.kernels.rope import time_shifts, turn_
from semantic_video.patches.queries import for_video
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.masked_windows import masked_windows
from semantic_video.tests.host.stacking import windows

SCALE = 5 / 23
WHOLE = SwinRenderer(window=1024, time_scale=SCALE)  # full attention
CLOSE = dict(rtol=1e-3, atol=1e-4)


def at(module, times, height, width):
    """The host's RoPE at any places in time, [1, tokens, 1, pairs, 2, 2]."""
    times, rows, columns = (torch.as_tensor(x, dtype=torch.float32) for x in (times, range(height), range(width)))
    ids = torch.stack(torch.meshgrid(times, rows, columns, indexing="ij"), -1).reshape(1, -1, 3)
    embedder = module.rope_embedder if hasattr(module, "rope_embedder") else module.pe_embedder
    return embedder(ids).movedim(1, 2)


@pytest.fixture
def placed(monkeypatch):
    """placed(times): from then on Wan places its frames at times(frames); HunyuanVideo those of the video."""

    def place(times):
        encode, ids_of = wan_model.WanModel.rope_encode, hunyuan_model.HunyuanVideo.img_ids

        def rope_encode(self, t, h, w, *args, source_id=0, **options):
            if source_id:
                return encode(self, t, h, w, *args, source_id=source_id, **options)
            return at(self, times(t), -(-h // 2), -(-w // 2))

        def img_ids(self, x):
            ids = ids_of(self, x).clone()
            if x.shape[2] == 1:  # the reference
                return ids
            ids[..., 0] = torch.tensor(times(x.shape[2]))[ids[..., 0].long()]
            return ids

        monkeypatch.setattr(wan_model.WanModel, "rope_encode", rope_encode)
        monkeypatch.setattr(hunyuan_model.HunyuanVideo, "img_ids", img_ids)

    return place


def block_modules(model):
    return family_of(model).block_modules(model.model.diffusion_model)


def scaled(frames):
    return [SCALE * t for t in range(frames)]


@pytest.mark.parametrize("name", ["wan-t2v", "wan-5b", "hunyuan-t2v", "hunyuan-1.5"])
def test_turning_on_is_the_host_s_rope_at_those_places(toys, name):
    model = toys(name)
    module, family, frames = model.model.diffusion_model, family_of(model), 97
    dim = family.width_heads(module)[0] // family.width_heads(module)[1]
    x = seeded(2, frames * 6, 3, dim)
    rope = family.time_rope(module, {"transformer_options": {}})
    got = apply_rope1(x, at(module, range(frames), 2, 3))
    turn_(got, time_shifts(frames, SCALE, rope.freqs), rope.first, rope.second)
    torch.testing.assert_close(got, apply_rope1(x, at(module, scaled(frames), 2, 3)), rtol=0, atol=4e-6)


@pytest.mark.parametrize("stretched", [1.0, 1.5])
@pytest.mark.parametrize("name", ["wan-t2v", "wan-i2v-clip", "wan-vace", "wan-camera"])
def test_wan_is_as_with_the_host_s_rope_options(toys, name, stretched):
    """Also where time has been stretched by them already."""
    model, shot = toys(name), Shot(name, frames=24, height=2, width=2, steps=2)

    def with_options(scale):
        options = {"scale_x": 1, "shift_x": 0, "scale_y": 1, "shift_y": 0, "scale_t": scale, "shift_t": 0}
        changed = model.clone()
        changed.set_model_rope_options(**options)
        return changed

    base = model if stretched == 1.0 else with_options(stretched)
    expected, got = sample(with_options(SCALE * stretched), shot), sample(apply(base, WHOLE), shot)
    torch.testing.assert_close(got, expected, **CLOSE)
    assert not torch.allclose(got, sample(base, shot), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", ["wan-t2v", "wan-5b", "hunyuan-t2v", "hunyuan-1.5", "hunyuan-i2v", "wan-in-context"])
def test_full_attention_at_scaled_places(toys, placed, name):
    """Text, a reference image (HunyuanVideo) and in-context latents (Wan) stay where they are."""
    model, shot = toys(name), Shot(name, frames=24, height=4, width=4, steps=2)
    plain, got = sample(model, shot), sample(apply(model, WHOLE), shot)
    dense = SwinRenderer(window=6, dense_blocks=f"0-{len(block_modules(model)) - 1}", time_scale=SCALE)
    assert torch.equal(got, sample(apply(model, dense), shot)), "dense blocks keep full attention, at scaled places"
    placed(scaled)
    torch.testing.assert_close(got, sample(model, shot), **CLOSE)
    assert not torch.allclose(got, plain, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("wan-reference", lambda t: [0.0, *(1 + x for x in scaled(t - 1))]),
        ("wan-phantom", lambda t: [*scaled(t - 2), SCALE * (t - 3) + 1, SCALE * (t - 3) + 2]),
    ],
)
def test_reference_frames_keep_their_distance(toys, placed, name, times):
    """A frame in front stands one before the first frame; Phantom's stand after the last one."""
    model, shot = toys(name), Shot(name, frames=12, steps=2)
    plain, got = sample(model, shot), sample(apply(model, WHOLE), shot)
    placed(times)
    torch.testing.assert_close(got, sample(model, shot), **CLOSE)
    assert not torch.allclose(got, plain, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", STRAIGHT)
def test_windows_and_anchors_at_scaled_places(toys, placed, name):
    model, shot = toys(name), Shot(name, frames=24, height=2, width=2, steps=2)
    config = SwinRenderer(6, True, "rotating", anchor_interval=4, anchor_budget=12, time_scale=SCALE)
    got = sample(apply(model, config), shot)

    def turning(call, proceed):
        return masked_windows(call, proceed, 6, anchors=range(call.forward.step % 4, 24, 4))

    placed(scaled)
    expected = sample(edit_attention(model, "reference", turning, sites=("self", "joint")), shot)
    torch.testing.assert_close(got, expected, **CLOSE)


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_places_start_anew_in_each_context_window(toys, placed, name):
    model, shot = windows(toys(name), length=8, overlap=2), Shot(name, frames=13, steps=2)
    got = sample(apply(model, WHOLE), shot)
    placed(scaled)
    torch.testing.assert_close(got, sample(model, shot), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-1.5"])
def test_half_precision_is_near_full(toys, placed, name, dtype):
    shot = Shot(name, frames=24, height=2, width=2, steps=2)
    got = sample(apply(toys(name, dtype=dtype), WHOLE), shot)
    placed(scaled)
    expected = sample(toys(name), shot)
    assert (got - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("name", ["wan-t2v", "wan-phantom", "hunyuan-t2v", "hunyuan-i2v"])
def test_editors_that_split_queries_find_keys_in_place(toys, name):
    """HunyuanVideo's text and Phantom's frames ask on their own there."""
    model, shot = toys(name), Shot(name, frames=12, steps=2)

    def apart(call, proceed):
        return for_video(call, call, proceed)

    split = edit_attention(model, "apart", apart, sites=("self", "joint"), splits="queries")
    for config in (WHOLE, SwinRenderer(4, True, "first frame", time_scale=0.5)):
        torch.testing.assert_close(sample(apply(split, config), shot), sample(apply(model, config), shot), **CLOSE)


def test_strength_blends_outputs(toys, placed):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", frames=24, height=2, width=2, steps=1)
    outputs = {}

    def watch(call, proceed):
        return outputs.setdefault(call.site.block, proceed(call))

    def first_block(config):
        outputs.clear()
        sample(edit_attention(apply(model, config), "watch", watch, sites=("self",)), shot)
        return outputs[0]

    plain, full = first_block(SwinRenderer(strength=0.0)), first_block(WHOLE)
    half = first_block(SwinRenderer(window=1024, time_scale=SCALE, strength=0.3))
    torch.testing.assert_close(half, 0.7 * plain + 0.3 * full, rtol=1e-4, atol=1e-5)


def test_automatic_is_the_trained_length_and_never_more(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", frames=24, height=2, width=2, steps=2)
    automatic = sample(apply(model, SwinRenderer(window=1024, time_scale=0.0)), shot)
    assert torch.equal(automatic, sample(apply(model, SwinRenderer(window=1024, time_scale=20 / 23)), shot))
    for frames in (21, 9, 1):
        short = shot.but(frames=frames)
        assert torch.equal(sample(model, short), sample(apply(model, SwinRenderer(time_scale=0.0)), short))
    assert torch.equal(sample(model, shot), sample(apply(model, SwinRenderer(window=1024)), shot))


@pytest.mark.parametrize(("name", "trained", "window"), [("wan-t2v", 21, 22), ("hunyuan-t2v", 33, 34)])
def test_what_is_automatic_suits_compressed_time(toys, placed, name, trained, window):
    """Windows and rotating anchors together span twice the trained length."""
    model, shot = toys(name), Shot(name, frames=70, height=2, width=2, steps=2)
    interval = -(-70 // (2 * trained - window))
    got = sample(apply(model, SwinRenderer(anchors="rotating", time_scale=0.0)), shot)

    def turning(call, proceed):
        return masked_windows(call, proceed, window, anchors=range(call.forward.step % interval, 70, interval))

    placed(lambda frames: [t * (trained - 1) / (frames - 1) for t in range(frames)])
    expected = sample(edit_attention(model, "reference", turning, sites=("self", "joint")), shot)
    torch.testing.assert_close(got, expected, **CLOSE)


@pytest.mark.parametrize(
    ("config", "warned"),
    [
        ({"time_scale": 0.0}, True),
        ({"time_scale": 0.5, "window": 6}, True),
        ({"time_scale": 0.0, "anchors": "rotating"}, False),
        ({"time_scale": 0.0, "window": 1024}, False),
        ({"time_scale": 0.0, "window": 6, "dense_blocks": "0-3"}, False),
        ({"window": 6}, False),
    ],
)
def test_a_combination_that_fails_is_said(toys, caplog, config, warned):
    with caplog.at_level(logging.WARNING):
        sample(apply(toys("wan-t2v"), SwinRenderer(**config)), Shot("wan-t2v", frames=24, height=2, width=2, steps=1))
    assert ("windows without anchors lose the story" in caplog.text) == warned


@pytest.mark.parametrize("value", [-0.1, 1.01, float("nan")])
def test_bad_scales_are_refused(value):
    with pytest.raises(ValueError, match=f"time_scale {value}: must be from 0"):
        SwinRenderer(time_scale=value)
