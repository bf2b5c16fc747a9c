"""Swin Renderer's anchors and the window that suits them: on real models, within the frames a model was trained on."""

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT
from semantic_video.host.editing import edit_attention
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.masked_windows import masked_windows, reference

AUTOMATIC = [  # toy, trained latent frames, windows chosen with no anchors, the first frame and rotating anchors
    ("wan-t2v", 21, 22, 20, 12),
    ("wan-5b", 31, 32, 30, 16),
    ("hunyuan-t2v", 33, 34, 32, 18),
    ("hunyuan-1.5", 33, 34, 32, 18),
]


@pytest.mark.parametrize(("name", "trained", "plain", "first", "rotating"), AUTOMATIC)
def test_window_0_suits_the_model_and_the_anchors(toys, name, trained, plain, first, rotating):
    model, shot = toys(name), Shot(name, frames=40, height=2, width=2, steps=2)
    interval = -(-40 // (trained - rotating))  # as dense as the trained length allows

    def turning(call, proceed):
        return masked_windows(call, proceed, rotating, anchors=range(call.forward.step % interval, 40, interval))

    moving = edit_attention(model, "reference", turning, sites=("self", "joint"))
    for anchors, patched in {
        "none": reference(model, window=plain),
        "first frame": reference(model, window=first, anchors=(0,)),
        "rotating": moving,
    }.items():
        got = sample(apply(model, SwinRenderer(anchors=anchors)), shot)
        torch.testing.assert_close(got, sample(patched, shot), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(got, sample(model, shot), rtol=1e-2, atol=1e-2), anchors


def test_window_22_without_anchors_is_what_it_was(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", frames=40, height=2, width=2, steps=2)
    old = sample(apply(model, SwinRenderer(window=22)), shot)
    assert torch.equal(old, sample(apply(model, SwinRenderer()), shot)), "0 means 22 for Wan"
    torch.testing.assert_close(old, sample(reference(model, window=22), shot), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", STRAIGHT)
def test_anchors_and_no_shift(toys, name):
    model, shot = toys(name), Shot(name)
    expected = sample(reference(model, window=3, shift=False, anchors=(0,)), shot)
    got = sample(apply(model, SwinRenderer(window=3, shift=False, anchors="first frame")), shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_rotating_anchors_move_with_the_step(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")

    def rotating(call, proceed):
        return masked_windows(call, proceed, 4, anchors=range(call.forward.step % 3, 9, 3))

    expected = sample(edit_attention(model, "reference", rotating, sites=("self",)), shot)
    torch.testing.assert_close(
        sample(apply(model, SwinRenderer(window=4, anchors="rotating", anchor_interval=3)), shot),
        expected,
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("anchors", ["first frame", "rotating"])
@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("wan-t2v", {"window": 22}, "window 22 leaves no room.*span 21 .*window to 0 .automatic. or at most 20, or"),
        ("wan-t2v", {"window": 8, "anchor_budget": 8}, "window 8 leaves.*span 8 .*at most 6, or anchors to none"),
        ("wan-t2v", {"anchor_budget": 2}, "window 0 leaves.*span 2 latent.*Set anchor_budget to 0, or"),
        ("wan-5b", {"window": 32}, "window 32 leaves no room.*span 31 .*at most 30"),
        ("hunyuan-t2v", {"window": 34}, "window 34 leaves no room.*span 33 .*at most 32"),
    ],
)
def test_windows_without_room_for_anchors_are_refused_by_the_node(toys, anchors, name, config, message):
    with pytest.raises(ValueError, match=message):
        apply(toys(name), SwinRenderer(anchors=anchors, **config))
    for one_less in ({**config, "window": 6}, {**config, "anchor_budget": 35}):
        if "anchor_budget" not in one_less or one_less["anchor_budget"] > 6:
            apply(toys(name), SwinRenderer(anchors=anchors, **one_less))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"window": 4, "anchors": "rotating", "anchor_interval": 2, "anchor_budget": 8},
            r"^Swin Renderer: anchor_interval 2: a window of 4 and its anchors span 17 latent frames, more than the 8 "
            r"of anchor_budget.*at least 7",
        ),
        (
            {"anchors": "rotating", "anchor_interval": 1},
            r"^Swin Renderer: anchor_interval 1: a window of 2 .* span 28 .* than the 21 .*at least 2,",
        ),
    ],
)
def test_anchors_beyond_the_budget_stop_before_the_first_step(toys, config, message):
    stepped = []
    with pytest.raises(ValueError, match=message):
        sample(
            apply(toys("wan-t2v"), SwinRenderer(**config)),
            Shot("wan-t2v", frames=26, height=2, width=2),
            callback=stepped.append,
        )
    assert not stepped


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_automatic_anchors_fill_the_budget(toys, name):
    """26 frames of one token: windows of 4 and up to 4 anchors, one in 7 frames."""
    model, shot = toys(name), Shot(name, frames=26, height=2, width=2, steps=2)
    frames_seen = set()

    def watch(call, proceed):
        text = shot.words if call.site.kind == "joint" else 0
        if call.k.shape[1] < 26:  # not the text's own queries
            frames_seen.add(call.k.shape[1] - text)
        return proceed(call)

    # applied first: next to the backend
    watched = edit_attention(model, "watch", watch, sites=("self", "joint"), splits="windows")
    sample(apply(watched, SwinRenderer(window=4, anchors="rotating", anchor_budget=8, shift=False)), shot)
    assert frames_seen <= {5, 6, 7, 8}
    assert max(frames_seen) >= 7
