"""Swin Renderer's time_scale on MiniMax H3 and LTX-Video: places in time as the model would have them."""

import pytest
import torch

from semantic_video.harness import sampling
from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import NEWER
from semantic_video.host.editing import edit_attention
from semantic_video.host.families import family_of
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.test_swin_newer import masked_windows, same

SCALE = 0.4
H3 = [name for name in ("h3", "h3-both") if name in NEWER]
WHOLE = SwinRenderer(window=1024, time_scale=SCALE)


def turned(call, x):
    """H3's queries or keys, turned on to where they belong: tokens of the video, its sound and its keyframes."""
    from comfy.ldm.minimax.model import rope_rotation_table

    module, layout = call.forward.module, call.forward.arguments["minimax_payload"]["layout"]
    places = layout.position_ids[:, 0]
    start = float(places[call.before])
    moves = torch.zeros(len(places), 3, dtype=torch.float64)
    for first, past, kind in layout.segments:
        if kind not in ("text", "ref_img", "ref_audio"):
            moves[first:past, 0] = (SCALE - 1) * (places[first:past] - start)
    turn = rope_rotation_table(module.rope_freqs(moves, "cpu"), torch.float64)[0, :, 0]  # [tokens, pairs, 2, 2]
    pairs = turn.shape[1]
    halves = torch.stack((x[..., :pairs], x[..., pairs : 2 * pairs]), dim=-1).double()
    out = torch.einsum("tpij,bthpj->bthpi", turn, halves).to(x)
    return torch.cat((out[..., 0], out[..., 1], x[..., 2 * pairs :]), dim=-1)


def moved(call, proceed):
    return proceed(call.replace(q=turned(call, call.q), k=turned(call, call.k)))


@pytest.mark.parametrize("name", H3)
def test_minimax_h3_at_scaled_places(toys, name):
    """References and text stay; keyframes and sound keep to the video's time."""
    model, shot = toys(name), Shot(name, frames=12, steps=1, cfg=1.0)
    expected = sample(edit_attention(model, "moved", moved, sites=("joint",)), shot)
    same(sample(apply(model, WHOLE), shot), expected)
    assert (expected - sample(model, shot)).abs().mean() > 1e-3

    def both(call, proceed):
        return masked_windows(call.replace(q=turned(call, call.q), k=turned(call, call.k)), proceed, 4, anchors=(0,))

    config = SwinRenderer(window=4, anchors="first frame", time_scale=SCALE)
    same(sample(apply(model, config), shot), sample(edit_attention(model, "both", both, sites=("joint",)), shot))


@pytest.mark.parametrize("name", ["ltxv", "ltxv-guides"])
def test_ltx_video_at_scaled_places_is_one_of_more_frames_a_second(toys, name, monkeypatch):
    model, shot = toys(name), Shot(name, steps=1)
    got, plain = sample(apply(model, WHOLE), shot), sample(model, shot)
    cut = sample(apply(model, SwinRenderer(window=4, time_scale=SCALE)), shot)
    given = sampling.conditioning
    faster = {"frame_rate": 25.0 / SCALE}
    monkeypatch.setattr(sampling, "conditioning", lambda *args: [[x, y | faster] for x, y in given(*args)])
    same(got, sample(model, shot))
    same(cut, sample(apply(model, SwinRenderer(window=4)), shot))
    assert (got - plain).abs().mean() > 1e-3


@pytest.mark.parametrize("name", [*H3[:1], "ltxv"])
def test_automatic_scale_and_none(toys, name, monkeypatch):
    """12 latent frames come to stand where the trained 7 stood; as many as trained stay where they are."""
    model, long, trained = toys(name), 12, 7
    monkeypatch.setattr(family_of(model), "trained_frames", lambda module, rate=None: trained)
    shot = Shot(name, frames=long, height=2, width=2, steps=1, cfg=1.0)
    by_hand = SwinRenderer(window=1024, time_scale=(trained - 1) / (long - 1))
    automatic = sample(apply(model, SwinRenderer(window=1024, time_scale=0.0)), shot)
    torch.testing.assert_close(automatic, sample(apply(model, by_hand), shot))
    shot = shot.but(frames=trained)
    assert torch.equal(sample(apply(model, SwinRenderer(window=1024, time_scale=0.0)), shot), sample(model, shot))
    assert apply(model, SwinRenderer(time_scale=0.0, strength=0.0)) is model


@pytest.mark.parametrize("name", [*H3[:1], "ltxv", "ltxav23"])
def test_windows_one_by_one_are_refused(toys, name):
    with pytest.raises(ValueError, match="lead_in 2, blend 1: windows cannot go through (MiniMax H3|LTX) one by one"):
        apply(toys(name), SwinRenderer(lead_in=2, blend=1))


def test_what_cannot_be(toys):
    with pytest.raises(ValueError, match="time_scale 0.5: the sound of this LTX keeps its own time"):
        apply(toys("ltxav23"), SwinRenderer(time_scale=0.5))
    with pytest.raises(ValueError, match="strength 0.5: LTX is told where its frames are before its blocks, once"):
        apply(toys("ltxv"), SwinRenderer(time_scale=0.5, strength=0.5))
