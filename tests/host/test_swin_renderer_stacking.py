"""Swin Renderer with other patches, another pack's override, CFG in one batch or two, and context windows."""

import logging

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT
from semantic_video.host.editing import edit_attention
from semantic_video.host.schedule import Interval
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.masked_windows import WINDOWS, reference
from semantic_video.tests.host.stacking import foreign, windows


def scaled(call, proceed):
    """Another technique: louder attention where it is certain, read from whole queries and keys."""
    assert call.q.shape[1] == call.forward.layout.tokens + (call.before - call.forward.layout.before)
    return proceed(call.replace(q=call.q * 1.3))


@pytest.mark.parametrize("name", STRAIGHT)
def test_it_stacks_in_both_orders(toys, name):
    model, shot = toys(name), Shot(name)
    one = apply(edit_attention(model, "scaled", scaled, sites=("self", "joint")), WINDOWS)
    other = edit_attention(apply(model, WINDOWS), "scaled", scaled, sites=("self", "joint"))
    result = sample(one, shot)
    assert torch.equal(result, sample(other, shot))
    assert not torch.allclose(result, sample(apply(model, WINDOWS), shot))


@pytest.mark.parametrize("name", STRAIGHT)
@pytest.mark.parametrize("foreign_first", [True, False])
def test_a_foreign_override_attends_within_the_windows(toys, name, foreign_first):
    model, shot, log = toys(name), Shot(name), []
    both = model.clone() if foreign_first else apply(model, WINDOWS)
    both.model_options["transformer_options"]["optimized_attention_override"] = foreign(1.5, log)
    both = apply(both, WINDOWS) if foreign_first else both
    expected = edit_attention(
        apply(model, WINDOWS),
        "louder",
        lambda call, proceed: 1.5 * proceed(call),
        sites=("self", "text", "image", "joint"),
    )
    got = sample(both, shot)
    assert log
    if "hunyuan" not in name:  # there the foreign override also meets the token refiner
        torch.testing.assert_close(got, sample(expected, shot), rtol=1e-4, atol=1e-5)


def test_patched_twice_the_later_acts_where_both_do(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=4)
    assert torch.equal(
        sample(apply(apply(model, SwinRenderer(window=6)), WINDOWS), shot), sample(apply(model, WINDOWS), shot)
    )
    halves = apply(
        apply(model, SwinRenderer(window=6, interval=Interval(0.0, 0.5))),
        SwinRenderer(window=4, interval=Interval(0.5, 1.0)),
    )
    assert not torch.equal(
        sample(halves, shot), sample(apply(model, SwinRenderer(window=6, interval=Interval(0.0, 0.5))), shot)
    )


@pytest.mark.parametrize("name", STRAIGHT)
def test_batched_and_split_cfg_agree(toys, name, monkeypatch):
    import comfy.samplers

    model, shot = apply(toys(name), SwinRenderer(window=4, anchors="first frame")), Shot(name)
    batched = sample(model, shot)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, sample(model, shot), rtol=1e-3, atol=1e-4)
    alone = sample(model, shot.but(cfg=1.0))
    assert torch.isfinite(alone).all()
    assert not torch.equal(alone, batched)


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_context_windows_around_it(toys, name):
    model, shot = toys(name), Shot(name, frames=13)
    long, short = windows(model, length=8, overlap=2), windows(model, length=3, overlap=1)
    torch.testing.assert_close(
        sample(apply(long, WINDOWS), shot), sample(reference(long, window=4), shot), rtol=1e-3, atol=1e-4
    )
    assert torch.equal(sample(apply(short, WINDOWS), shot), sample(short, shot)), (
        "a context window of 3 + 1 frames fits into one of ours"
    )


def test_context_windows_count_with_the_frame_in_front_of_them(toys, caplog):
    """Of 26 frames the model sees 8 and, but for the first window, the frame before them: 9."""
    model, shot = windows(toys("wan-t2v"), length=8, overlap=2), Shot("wan-t2v", frames=26, height=2, width=2, steps=1)

    def rotating(interval, budget):
        return apply(model, SwinRenderer(4, True, "rotating", interval, budget))

    assert torch.isfinite(sample(rotating(3, 7), shot)).all(), "4 and 3 of 9"
    with pytest.raises(ValueError, match="anchor_interval 4: a window of 4 and its anchors span 7 .* the 6 .*least 5"):
        sample(rotating(4, 6), shot)
    with caplog.at_level(logging.INFO):
        sample(apply(model, SwinRenderer(window=10)), shot)
    assert "Swin Renderer: the video's 9 latent frames fit into one window of 10; nothing to cut." in caplog.text
    bare = windows(toys("wan-t2v"), length=8, overlap=2, causal_window_fix=False)
    with caplog.at_level(logging.INFO):
        sample(apply(bare, SwinRenderer(window=8)), shot)
    assert "the video's 8 latent frames fit into one window of 8" in caplog.text
