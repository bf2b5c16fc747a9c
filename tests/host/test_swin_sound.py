"""The sound of LTX-2 in the video's windows: equal to the host's attentions with the masks written out."""

from dataclasses import replace

import pytest
import torch

from semantic_video.harness import sampling
from semantic_video.harness.sampling import Shot, sample, seeded
from semantic_video.host.editing import edit_attention
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.stacking import windows
from semantic_video.tests.host.test_swin_newer import masked_windows, same

SITES = ("self", "audio", "from_audio", "to_audio")
AV = ["ltxav", "ltxav23-guides"]


def windows_of(frames, window, block):
    """[frames]: the number of the window that each is in."""
    cuts = [*range(window // 2 if block % 2 else window, frames, window)]
    if cuts and frames - cuts[-1] < window / 2:
        cuts.pop()
    return torch.tensor([sum(frame >= cut for cut in cuts) for frame in range(frames)])


def frames_of_sound(call):
    """The latent frame of each token: one of 1 + 8 (T - 1) video frames, 25 a second of both; -1: a reference's."""
    layout, frames = call.forward.layout, call.forward.frames
    length = [1 if frame == 0 else 8 for frame in frames]
    ends = torch.tensor(length).cumsum(0)
    tokens = layout.audio - layout.voice
    each = float(ends[-1]) / tokens
    at = [sum(end <= (token + 0.5) * each for end in ends.tolist()) for token in range(tokens)]
    return torch.tensor([-1] * layout.voice + at)


def masked(call, proceed, window=4, anchors=()):
    layout, kind = call.forward.layout, call.site.kind
    if kind == "self":
        return masked_windows(call, proceed, window, anchors)
    area = layout.height * layout.width
    video = torch.cat((torch.arange(layout.frames).repeat_interleave(area), torch.full((layout.after,), -1)))
    sound = frames_of_sound(call)
    mine = sound if kind != "from_audio" else video
    other = sound if kind != "to_audio" else video
    window_of = windows_of(layout.frames, window, call.site.block)
    allowed = (window_of[mine][:, None] == window_of[other]) | (mine < 0)[:, None] | (other < 0)
    for anchor in anchors:
        allowed |= other == anchor
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)[None, None].to(call.q)
    return proceed(call.replace(mask=mask if call.mask is None else mask + call.mask))


def reference(model, **options):
    return edit_attention(model, "reference", lambda call, go: masked(call, go, **options), sites=SITES)


@pytest.mark.parametrize("name", AV)
def test_windows_of_sound_are_masked_attention(toys, name):
    model, shot = toys(name), Shot(name, steps=1, cfg=1.0)
    config = SwinRenderer(window=4, anchors="first frame" if name == "ltxav" else "none")
    expected = sample(reference(model, anchors=(0,) if name == "ltxav" else ()), shot)
    same(sample(apply(model, replace(config, sound="windows")), shot), expected)
    assert (expected - sample(apply(model, config), shot)).abs().mean() > 1e-4, "the sound must matter"


def test_one_window_and_strength_0_are_the_host(toys):
    model, shot = toys("ltxav23"), Shot("ltxav23", steps=1, cfg=1.0)
    assert torch.equal(sample(apply(model, SwinRenderer(window=10, sound="windows")), shot), sample(model, shot))
    assert apply(model, SwinRenderer(window=4, sound="windows", strength=0.0)) is model
    plain, whole = sample(model, shot), sample(apply(model, SwinRenderer(window=4, sound="windows")), shot)
    half = sample(apply(model, SwinRenderer(window=4, sound="windows", strength=0.5)), shot)
    assert not torch.allclose(half, plain, atol=1e-4) and not torch.allclose(half, whole, atol=1e-4)


def test_inside_context_windows(toys):
    """The host hands each window of video frames its part of the sound."""
    model, shot = windows(toys("ltxav23"), length=8, overlap=2), Shot("ltxav23", frames=13, steps=1, cfg=1.0)
    same(sample(apply(model, SwinRenderer(window=4, sound="windows")), shot), sample(reference(model), shot))


def test_a_voice_to_refer_to_is_heard_everywhere(toys, monkeypatch):
    plain = sampling.conditioning
    voice = {"ref_audio": {"tokens": seeded(1, 5, 128, seed=60)}}
    monkeypatch.setattr(sampling, "conditioning", lambda *args: [[x, y | voice] for x, y in plain(*args)])
    model, shot, seen = toys("ltxav"), Shot("ltxav", steps=1, cfg=1.0), set()
    watch = edit_attention(model, "w", lambda call, go: seen.add(call.forward.layout.voice) or go(call), sites=SITES)
    sample(watch, shot)
    assert seen == {5}
    same(sample(apply(model, SwinRenderer(window=4, sound="windows")), shot), sample(reference(model), shot))


def test_models_without_a_stream_of_sound_refuse(toys):
    for name, family in (("ltxv", "LTX"), ("wan-t2v", "Wan")):
        with pytest.raises(ValueError, match=f"sound 'windows': this {family} makes no sound in a stream of its own"):
            apply(toys(name), SwinRenderer(sound="windows"))
    with pytest.raises(ValueError, match="sound 'loud': choose one of whole, windows"):
        SwinRenderer(sound="loud")
