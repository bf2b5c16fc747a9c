"""DyMoS on the real host against the formula, written out in fp64."""

import pytest
import torch
from comfy.context_windows import get_matching_context_schedule

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import TOYS
from semantic_video.host.editing import edit_attention
from semantic_video.host.schedule import Interval
from semantic_video.patches.dymos import DyMoS, apply
from semantic_video.tests.host import naive
from semantic_video.tests.host.stacking import windows


@pytest.mark.parametrize(("gamma", "toy"), [(0.6, "wan-i2v"), (-1.0, "wan-i2v-clip"), (2.0, "wan-t2v")])
def test_it_is_the_formula_on_wan(toys, gamma, toy, monkeypatch):
    """All blocks, the positive prompt's rows, steps 0 to 7 of 40 at shift 5 as noise levels."""
    model, shot = toys(toy), Shot(toy, steps=6)
    got = sample(apply(model, DyMoS(gamma)), shot)
    sigmas = set()

    def formula(kind, q, k, v, options):
        sigma = float(options["sigmas"][0])
        bias = torch.zeros(q.shape[0], 1, 1, k.shape[1])
        if kind == "self" and sigma > 5 * 0.8 / (1 + 4 * 0.8) + 1e-4:
            sigmas.add(sigma)
            for row, prompt in enumerate(options["cond_or_uncond"]):
                if prompt == 0:
                    bias[row, ..., :4] = -gamma  # 2 x 2 tokens of frame 0
        return naive.attention(q, k, v, bias)

    plain = sample(model, shot)
    naive.in_wan(monkeypatch, formula)
    expected = sample(model, shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert 0 < len(sigmas) < 6
    assert (expected - plain).norm() > 100 * (expected - got).norm()


def reference(call, proceed, gamma, first):
    """Any family: `first` is where frame 0's tokens begin, or None."""
    positive = [row for row, prompt in enumerate(call.forward.rows) if prompt == 0]
    out = proceed(call)
    if first is None or call.site.stream == "side":
        return out
    area = call.forward.layout.height * call.forward.layout.width
    bias = torch.zeros(1, 1, 1, call.k.shape[1])
    bias[..., first : first + area] = -gamma
    bias = bias if call.mask is None else bias + call.mask
    for row in positive:
        q, k, v = (x[row : row + 1] for x in (call.q, call.k, call.v))
        video = slice(call.before, q.shape[1] - call.after)
        out[row, video] = naive.attention(q[:, video], k, v, bias)[0].flatten(1).to(out)
    return out


@pytest.mark.parametrize("toy", TOYS)
def test_it_is_the_formula_in_every_family(toys, toy):
    """Queries of text, references and in-context tokens stay."""
    model, shot = toys(toy), Shot(toy)
    first = {"wan-reference": 4, "hunyuan-t2v": 7, "hunyuan-i2v": 7 + 4, "hunyuan-1.5": 6 + 3 + 7}.get(toy, 0)

    def edit(call, proceed):
        return reference(call, proceed, 1.5, first)

    expected = sample(edit_attention(model, "reference", edit, sites=("self", "joint")), shot)
    got = sample(apply(model, DyMoS(1.5, interval=Interval())), shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(expected, sample(model, shot), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("causal", [True, False])
def test_context_windows_act_where_the_first_frame_is(toys, causal):
    """Windows 0-3, (2) 3-6, (4) 5-8: the first has frame 0; a shorter overlap puts it in front of the second."""
    model, shot = toys("wan-i2v"), Shot("wan-i2v")
    for overlap in (1, 3):
        cut = windows(model, length=4, overlap=overlap, causal_window_fix=causal)
        seen = set()

        def edit(call, proceed, seen=seen):
            frames = call.forward.frames
            seen.add(frames)
            at = [4 * i for i, frame in enumerate(frames) if frame == 0]
            return reference(call, proceed, 1.5, at[0] if at else None)

        expected = sample(edit_attention(cut, "reference", edit, sites=("self",)), shot)
        got = sample(apply(cut, DyMoS(1.5, interval=Interval())), shot)
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
        assert {0 in frames for frames in seen} == {True, False}
    if causal:
        assert (0, 1, 2, 3, 4) in seen, "frame 0 in front of a window that begins at frame 1"


def test_hunyuan_1_mask_of_padded_text(toys, monkeypatch):
    """HunyuanVideo 1 passes an additive mask over its text: it stays."""
    import semantic_video.harness.sampling as sampling

    plain = sampling.conditioning

    def padded(shot, words, seed):
        [[tensor, extra]] = plain(shot, words, seed)
        mask = torch.ones(1, words, dtype=torch.long)
        mask[:, -2:] = 0
        return [[tensor, extra | {"attention_mask": mask}]]

    model, shot = toys("hunyuan-t2v"), Shot("hunyuan-t2v", negative_words=9)
    unmasked = sample(apply(model, DyMoS()), shot)
    monkeypatch.setattr(sampling, "conditioning", padded)

    def edit(call, proceed):
        assert call.mask is not None
        return reference(call, proceed, 0.6, call.before)

    interval = Interval(min_sigma=DyMoS().interval.min_sigma)
    expected = sample(edit_attention(model, "reference", edit, sites=("joint",), interval=interval), shot)
    got = sample(apply(model, DyMoS()), shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(got, unmasked, rtol=1e-2, atol=1e-2)


def test_gamma_zero_is_the_model_and_a_low_noise_part_says_so(toys, caplog):
    model = toys("wan-i2v")
    assert apply(model, DyMoS(0.0)) is model
    shot = Shot("wan-i2v", steps=6, start_step=4)
    with caplog.at_level("INFO"):
        assert torch.equal(sample(model, shot), sample(apply(model, DyMoS()), shot))
    assert "is a part of the schedule that start, end and min_sigma leave out; it acts in the other" in caplog.text
    assert "did nothing" not in caplog.text


def test_windows_that_wrap_around_hold_the_first_frame_in_their_middle(toys):
    """A looped schedule of the host: the first frame comes after the last ones."""
    model, shot = toys("wan-i2v"), Shot("wan-i2v", steps=4)
    cut = windows(model, length=4, overlap=1, causal_window_fix=False, closed_loop=True)
    cut.model_options["context_handler"].context_schedule = get_matching_context_schedule("looped_uniform")
    places = set()

    def edit(call, proceed):
        frames = call.forward.frames
        places.update(frames.index(0) for _ in range(0 in frames))
        return reference(call, proceed, 1.5, 4 * frames.index(0) if 0 in frames else None)

    expected = sample(edit_attention(cut, "reference", edit, sites=("self",)), shot)
    got = sample(apply(cut, DyMoS(1.5, interval=Interval())), shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert max(places) > 0
