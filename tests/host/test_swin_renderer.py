"""Swin Renderer on real models: what is windowed, and what is left alone."""

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT, TOYS
from semantic_video.host.editing import edit_attention
from semantic_video.host.schedule import Interval
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.masked_windows import WINDOWS, masked_windows, reference


@pytest.mark.parametrize("name", TOYS)
def test_windows_are_masked_attention(toys, name):
    model, shot = toys(name), Shot(name)
    expected, got = sample(reference(model, window=4), shot), sample(apply(model, WINDOWS), shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(expected, sample(model, shot), rtol=1e-2, atol=1e-2), (
        "the windows must matter for this test to mean anything"
    )


@pytest.mark.parametrize("name", [name for name in STRAIGHT if name != "hunyuan-t2v"])  # the host's own cannot
@pytest.mark.parametrize(("height", "width"), [(5, 4), (4, 7), (3, 5)])
def test_odd_latents_are_padded_to_whole_tokens(toys, name, height, width):
    """The host pads them, so that a frame has ceil(height / 2) x ceil(width / 2) tokens (HunyuanVideo 1.5: each its
    own)."""
    model, shot = toys(name), Shot(name, height=height, width=width, steps=2)
    patch = 1 if name == "hunyuan-1.5" else 2
    area = -(-height // patch) * -(-width // patch)
    expected = sample(reference(model, window=4, area=area), shot)
    torch.testing.assert_close(sample(apply(model, WINDOWS), shot), expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(expected, sample(model, shot), rtol=1e-2, atol=1e-2)


def test_hunyuan_1_mask_of_padded_text(toys, monkeypatch):
    """HunyuanVideo 1 passes an additive mask over its text; windows keep their columns of it."""
    import semantic_video.harness.sampling as sampling

    plain = sampling.conditioning

    def padded(shot, words, seed):
        [[tensor, extra]] = plain(shot, words, seed)
        mask = torch.ones(1, words, dtype=torch.long)
        mask[:, -2:] = 0
        return [[tensor, extra | {"attention_mask": mask}]]

    # the host takes such masks one prompt at a time
    model, shot = (
        toys("hunyuan-t2v"),
        Shot("hunyuan-t2v", negative_words=9),
    )
    unmasked = sample(apply(model, WINDOWS), shot)
    monkeypatch.setattr(sampling, "conditioning", padded)
    expected, got = sample(reference(model, window=4), shot), sample(apply(model, WINDOWS), shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(got, unmasked, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", TOYS)
def test_what_leaves_the_host_s_path_bit_for_bit(toys, name):
    model, shot = toys(name), Shot(name)
    plain = sample(model, shot)
    blocks = "0-4" if name == "hunyuan-t2v" or name == "hunyuan-i2v" else "0-3"
    for config in (
        SwinRenderer(window=4, strength=0.0),
        SwinRenderer(window=10),
        SwinRenderer(window=9, shift=False),
        SwinRenderer(window=4, dense_blocks=blocks),
        SwinRenderer(window=4, interval=Interval(0.99, 1.0)),
    ):
        assert torch.equal(plain, sample(apply(model, config), shot)), config
    assert apply(model, SwinRenderer(strength=0.0)) is model


@pytest.mark.parametrize("strength", [0.25, 0.7])
def test_strength_blends_windows_into_full_attention(toys, strength):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=2)

    def blended(call, proceed):
        return (1 - strength) * proceed(call) + strength * masked_windows(call, proceed, 4)

    expected = sample(edit_attention(model, "reference", blended, sites=("self",)), shot)
    got = sample(apply(model, SwinRenderer(window=4, strength=strength)), shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_dense_blocks_keep_full_attention(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=2)

    def but_one_and_two(call, proceed):
        return proceed(call) if call.site.block in (1, 2) else masked_windows(call, proceed, 4)

    expected = sample(edit_attention(model, "reference", but_one_and_two, sites=("self",)), shot)
    got = sample(apply(model, SwinRenderer(window=4, dense_blocks="1-2")), shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
@pytest.mark.parametrize(("words", "negative_words"), [(7, 7), (7, 12)])
def test_prompts_of_equal_and_unequal_length(toys, name, words, negative_words):
    model, shot = toys(name), Shot(name, words=words, negative_words=negative_words)
    torch.testing.assert_close(
        sample(apply(model, WINDOWS), shot), sample(reference(model, window=4), shot), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", STRAIGHT)
def test_half_precision_keeps_its_dtype(toys, name, dtype):
    model, shot = toys(name, dtype=dtype), Shot(name, steps=2)
    expected, got = sample(reference(model, window=4), shot), sample(apply(model, WINDOWS), shot)
    assert torch.isfinite(got).all()
    assert (got - expected).norm() < 0.03 * expected.norm()
