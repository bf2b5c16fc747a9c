"""Swin Renderer on MiniMax H3 and LTX: equal to the host's attention with the mask written out, in the cases that are
hard to get right."""

from dataclasses import replace

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import NEWER
from semantic_video.host import pieces
from semantic_video.host.editing import edit_attention
from semantic_video.host.schedule import Interval
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.stacking import foreign, windows
from semantic_video.tests.host.test_newer_families import replaced

WINDOWS = SwinRenderer(window=4)
ONE_OF_EACH = [name for name in ("h3", "ltxv", "ltxav", "ltxav23") if name in NEWER]
H3 = ONE_OF_EACH[:-3]


def masked_windows(call, proceed, window, anchors=(), shift=True, look_back=0):
    """The video's queries see keys of their window, of anchors and of all that is not video; the others see all."""
    layout = call.forward.layout
    frames, area = layout.frames, layout.height * layout.width
    start = window // 2 if shift and call.site.block % 2 else window
    cuts = [0, *range(start, frames, window), frames]
    if cuts[-1] - cuts[-2] < window / 2:
        cuts.pop(-2)
    of_frame = torch.tensor([sum(frame >= cut for cut in cuts[1:]) for frame in range(frames)])
    own = of_frame.repeat_interleave(area)
    span = slice(call.before, call.before + frames * area)
    allowed = torch.ones(call.q.shape[1], call.k.shape[1], dtype=torch.bool)
    first = torch.tensor([0, *cuts[1:]])[own]  # of the window of each token
    frame = torch.arange(frames).repeat_interleave(area)
    back = (frame < first[:, None]) & (frame >= first[:, None] - look_back)
    allowed[span, span] = (own[:, None] == own) | back
    for anchor in anchors:
        allowed[:, call.before + anchor * area : call.before + (anchor + 1) * area] = True
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)[None, None].to(call.q)
    return proceed(call.replace(mask=mask if call.mask is None else mask + call.mask))


def reference(model, window=4, **options):
    return edit_attention(
        model, "reference", lambda call, go: masked_windows(call, go, window, **options), sites=("self", "joint")
    )


def same(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NEWER)
def test_windows_are_masked_attention(toys, name):
    """Also keyframes and references of H3, and guides of LTX: weighing half, and on a grid half as fine."""
    model, shot = toys(name), Shot(name, steps=2)
    expected = sample(reference(model), shot)
    same(sample(apply(model, WINDOWS), shot), expected)
    plain = sample(model, shot)
    assert (plain - expected).abs().mean() > 1e-3, "the windows must matter for this test to mean anything"


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_windows_look_back(toys, name):
    model, shot = toys(name), Shot(name, steps=1)
    expected = sample(reference(model, look_back=2), shot)
    same(sample(apply(model, replace(WINDOWS, look_back=2)), shot), expected)
    assert (sample(apply(model, WINDOWS), shot) - expected).abs().mean() > 1e-4


@pytest.mark.parametrize("name", ["ltxv", "ltxav23"])
def test_long_videos_of_theirs_are_not_cut_into_pieces(toys, name, monkeypatch):
    """Nor into chunks: their blocks take more than the video."""
    monkeypatch.setattr(pieces, "FEWEST_TOKENS", 1)
    model, shot = toys(name), Shot(name, steps=1)
    same(sample(apply(model, WINDOWS), shot), sample(reference(model), shot))


@pytest.mark.parametrize("name", [name for name in NEWER if name != "ltxav25"])
def test_one_window_and_strength_0_are_the_host(toys, name):
    model, shot = toys(name), Shot(name, steps=1)
    plain = sample(model, shot)
    for config in (SwinRenderer(window=10), SwinRenderer(window=4, interval=Interval(0.99, 1.0)), SwinRenderer()):
        assert torch.equal(plain, sample(apply(model, config), shot)), config
    assert apply(model, SwinRenderer(window=4, strength=0.0)) is model


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize(("frames", "height", "width"), [(12, 5, 7), (7, 1, 7), (9, 3, 2)])
def test_odd_sizes_and_equal_lengths(toys, name, frames, height, width):
    """H3 pads odd latents; 7 x 1 x 7 are as many tokens of LTX's video as of its sound."""
    model, shot = toys(name), Shot(name, frames, height, width, words=9, negative_words=9, steps=1)
    same(sample(apply(model, WINDOWS), shot), sample(reference(model), shot))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_anchors_blends_and_dense_blocks(toys, name):
    model, shot = toys(name), Shot(name, steps=2, cfg=1.0)
    same(
        sample(apply(model, SwinRenderer(window=4, anchors="first frame")), shot),
        sample(reference(model, anchors=(0,)), shot),
    )

    def turning(call, proceed):
        return masked_windows(call, proceed, 4, anchors=range(call.forward.step % 3, 9, 3))

    def half(call, proceed):
        windowed = proceed(call) if call.site.block == 2 else masked_windows(call, proceed, 4)
        return 0.5 * proceed(call) + 0.5 * windowed

    for edit, config in (
        (turning, SwinRenderer(window=4, anchors="rotating", anchor_interval=3)),
        (half, SwinRenderer(window=4, strength=0.5, dense_blocks="2")),
    ):
        expected = edit_attention(model, "reference", edit, sites=("self", "joint"))
        same(sample(apply(model, config), shot), sample(expected, shot))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_blocks_that_another_pack_leaves_out(toys, name):
    model, shot = replaced(toys(name), 1, lambda args, extra: {"img": args["img"]}), Shot(name, steps=1, cfg=1.0)
    same(sample(apply(model, WINDOWS), shot), sample(reference(model), shot))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_it_stacks_with_an_editor_and_a_foreign_override(toys, name):
    model, shot, log = toys(name), Shot(name, steps=1), []

    def scaled(call, proceed):
        return proceed(call.replace(q=call.q * 1.3))

    def on(model):
        return edit_attention(model, "scaled", scaled, sites=("self", "joint"))

    assert torch.equal(sample(apply(on(model), WINDOWS), shot), sample(on(apply(model, WINDOWS)), shot))
    same(sample(apply(on(model), WINDOWS), shot), sample(on(reference(model)), shot))
    below = model.clone()
    below.model_options["transformer_options"]["optimized_attention_override"] = foreign(1.0, log)
    same(sample(apply(below, WINDOWS), shot), sample(apply(model, WINDOWS), shot))
    assert log


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_batched_and_split_cfg_agree(toys, name, monkeypatch):
    import comfy.samplers

    model, shot = apply(toys(name), WINDOWS), Shot(name, steps=1)
    batched = sample(model, shot)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, sample(model, shot), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["ltxv", "ltxav23", "ltxav23-guides"])
def test_context_windows_around_it(toys, name):
    """Of 13 latent frames each call of the model sees 8 and one before; guides come along where they lie."""
    model, seen = windows(toys(name), length=8, overlap=2), []
    shot = Shot(name, frames=13, steps=1, cfg=1.0)
    same(sample(apply(model, WINDOWS), shot), sample(reference(model), shot))

    def watch(call, proceed):
        seen.append((call.forward.frames, call.forward.run.total_frames))
        return proceed(call)

    sample(edit_attention(model, "watch", watch, sites=("self",)), shot)
    assert {total for _, total in seen} == {13}
    assert {frame for frames, _ in seen for frame in frames} == set(range(13))


@pytest.mark.parametrize("name", H3)
def test_automatic_windows_of_minimax_h3_end_on_chunks(toys, name):
    """No window for the 107 latent frames of its longest trained videos; tens beyond."""
    model = toys(name)
    for frames, window in ((107, None), (112, 110)):
        shot = Shot(name, frames, 2, 2, steps=1, cfg=1.0)
        expected = sample(model if window is None else reference(model, window=window), shot)
        same(sample(apply(model, SwinRenderer()), shot), expected)
    config = SwinRenderer(anchors="first frame")
    same(sample(apply(model, config), shot), sample(reference(model, window=100, anchors=(0,)), shot))


@pytest.mark.parametrize(("rate", "window"), [(None, 64), (12.0, 32)])
def test_automatic_windows_of_ltx_are_seconds(toys, rate, window, monkeypatch):
    """20 s: 63 latent frames at 25 video frames a second, 31 at 12."""
    import semantic_video.harness.sampling as sampling

    plain = sampling.conditioning
    extra = {} if rate is None else {"frame_rate": rate}
    monkeypatch.setattr(sampling, "conditioning", lambda *args: [[x, y | extra] for x, y in plain(*args)])
    model, shot = toys("ltxav"), Shot("ltxav", 66, 1, 2, steps=1, cfg=1.0)
    same(sample(apply(model, SwinRenderer()), shot), sample(reference(model, window=window), shot))


def test_what_a_window_of_ltx_may_have_depends_on_the_frame_rate(toys, monkeypatch):
    """20 s are 31 latent frames at 12 a second, 63 at 25, 76 at 30: a window of 64 fits the last alone."""
    import semantic_video.harness.sampling as sampling

    plain = sampling.conditioning
    model, shot = toys("ltxav"), Shot("ltxav", 80, 1, 2, steps=1, cfg=1.0)
    for rate, window, fits in ((12.0, 32, False), (24.0, 62, False), (25.0, 64, False), (30.0, 64, True)):
        extra = {"frame_rate": rate}
        monkeypatch.setattr(sampling, "conditioning", lambda *args, e=extra: [[x, y | e] for x, y in plain(*args)])
        anchored = apply(model, SwinRenderer(window=window, anchors="rotating"))
        if fits:
            assert torch.isfinite(sample(anchored, shot)).all()
            continue
        with pytest.raises(ValueError, match=f"window {window} leaves no room for anchors"):
            sample(anchored, shot)
