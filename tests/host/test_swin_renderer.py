"""Swin Renderer on real models: what is windowed, what is left alone, and what it stacks with."""

import logging

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT, TOYS
from semantic_video.host.editing import edit_attention
from semantic_video.host.schedule import Interval
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.test_editing import foreign, windows

WINDOWS = SwinRenderer(window=4)


def masked_windows(call, proceed, window, anchors=(), shift=True, area=None):
    """The same through the host's attention with the mask written out: the naive reference. area: tokens of a frame,
    where nothing stands behind the video and the layout is not to be believed."""
    frames, before, after = call.forward.layout.frames, call.before, call.after
    if area is None:
        area = (call.q.shape[1] - before - after) // frames
    else:
        before, after = call.q.shape[1] - frames * area, 0
    start = window // 2 if shift and call.site.block % 2 else window
    cuts = [0, *range(start, frames, window), frames]
    if cuts[-1] - cuts[-2] < window / 2 and len(cuts) > 2:
        cuts.pop(-2)
    allowed = torch.ones(call.q.shape[1], call.k.shape[1], dtype=torch.bool)
    video = allowed[before : before + frames * area, before : before + frames * area]
    video[:] = False
    for first, last in zip(cuts, cuts[1:]):
        video[first * area : last * area, first * area : last * area] = True
    for anchor in anchors:
        video[:, anchor * area : (anchor + 1) * area] = True
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)[None, None].to(call.q.dtype)
    return proceed(call.replace(mask=mask if call.mask is None else mask + call.mask))


def reference(model, **options):
    return edit_attention(
        model, "reference", lambda call, proceed: masked_windows(call, proceed, **options), sites=("self", "joint")
    )


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


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
@pytest.mark.parametrize(("words", "negative_words"), [(7, 7), (7, 12)])
def test_prompts_of_equal_and_unequal_length(toys, name, words, negative_words):
    model, shot = toys(name), Shot(name, words=words, negative_words=negative_words)
    torch.testing.assert_close(
        sample(apply(model, WINDOWS), shot), sample(reference(model, window=4), shot), rtol=1e-3, atol=1e-4
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", STRAIGHT)
def test_half_precision_keeps_its_dtype(toys, name, dtype):
    model, shot = toys(name, dtype=dtype), Shot(name, steps=2)
    expected, got = sample(reference(model, window=4), shot), sample(apply(model, WINDOWS), shot)
    assert torch.isfinite(got).all()
    assert (got - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"window": -4}, "window -4: must not be negative; 0 chooses for you"),
        ({"window": 5}, "window 5: must be even.*Use 6, or turn shift off"),
        ({"anchors": "some"}, "anchors 'some': choose one of none, first frame, rotating"),
        ({"anchor_interval": -1}, "must not be negative"),
        ({"strength": 1.5}, "strength 1.5: must be from 0"),
        ({"strength": float("nan")}, "strength nan: must be from 0"),
        ({"dense_blocks": "0-9"}, "dense_blocks: '0-9' is out of range: this model has blocks 0 to 3"),
        ({"dense_blocks": "first"}, "dense_blocks: 'first' is not a block"),
        ({"dense_blocks": "3-1"}, "dense_blocks: '3-1' is out of range"),
    ],
)
def test_bad_settings_are_refused_by_the_node(toys, config, message):
    with pytest.raises(ValueError, match=message):
        apply(toys("wan-t2v"), SwinRenderer(**config))


@pytest.mark.parametrize(("start", "end"), [(0.6, 0.4), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_bad_intervals_are_refused(start, end):
    with pytest.raises(ValueError, match="must satisfy 0 <= start <= end <= 1"):
        Interval(start, end)


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


def test_a_latent_that_is_no_video_is_refused(toys):
    import comfy.sample

    from semantic_video.harness.sampling import conditioning

    shot = Shot("wan-t2v")
    with pytest.raises(ValueError, match=r"latent_image: shape \(1, 16, 4, 4\) is not a video latent"):
        comfy.sample.sample(
            apply(toys("wan-t2v"), WINDOWS),
            torch.zeros(1, 16, 4, 4),
            2,
            1.0,
            "euler",
            "simple",
            conditioning(shot, 5, 1),
            conditioning(shot, 5, 2),
            torch.zeros(1, 16, 4, 4),
            disable_pbar=True,
        )


def test_it_says_when_there_is_nothing_to_cut(toys, caplog):
    with caplog.at_level(logging.INFO):
        sample(apply(toys("wan-t2v"), SwinRenderer(window=22)), Shot("wan-t2v"))
    assert [m for m in caplog.messages if "semantic-video" in m] == [
        "[semantic-video] Swin Renderer: the video's 9 latent frames fit into one window of 22; nothing to cut."
    ]
