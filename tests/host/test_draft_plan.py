"""Draft Plan and Draft Edit: what is encoded, what of a latent stays, and what is refused."""

import types

import comfy.sd
import comfy.utils
import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.harness.toy import write_toy_vae
from semantic_video.host import video_vae
from semantic_video.host.video_vae import encode_video, parts
from semantic_video.kernels.draft_plan import resized, retimed
from semantic_video.mini import family as mini
from semantic_video.miniworld.render import render
from semantic_video.miniworld.scene import sample_scenes
from semantic_video.nodes.draft_plan import DraftEditNode, DraftPlanNode

SIZE = {"width": 48, "height": 32, "length": 17}


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    path = write_toy_vae(tmp_path_factory.mktemp("vae") / "vae.safetensors")
    return comfy.sd.VAE(comfy.utils.load_torch_file(str(path)))


def draft(frames=5, height=16, width=24, channels=3, seed=1):
    return seeded(frames, height, width, channels, seed=seed).sigmoid()


def plan(vae, frames, **changes):
    return DraftPlanNode.execute(frames, vae, **SIZE | changes).args


def edit(frames, what, **inputs):
    return DraftEditNode.execute(frames, what, **inputs).args[0]


def test_the_plan_is_the_stretched_draft_as_the_host_encodes_it(vae):
    latent, growth = plan(vae, draft())
    assert torch.equal(latent["samples"], vae.encode(resized(retimed(draft(), 17), 32, 48)))
    assert latent["samples"].shape == (1, 16, 5, 4, 6) and list(latent) == ["samples"]
    assert growth == 2.0


def test_a_draft_of_the_right_size_is_vae_encode(vae):
    frames = draft(17, 32, 48)
    latent, growth = plan(vae, frames)
    assert torch.equal(latent["samples"], vae.encode(frames))
    assert growth == 1.0


def test_a_video_its_frames_grey_and_transparency(vae):
    frames = draft()
    expected = plan(vae, frames)[0]["samples"]
    video = types.SimpleNamespace(get_components=lambda: types.SimpleNamespace(images=frames))
    assert torch.equal(plan(vae, video)[0]["samples"], expected)
    assert torch.equal(plan(vae, torch.cat((frames, frames[..., :1]), -1))[0]["samples"], expected)
    grey = plan(vae, frames[..., :1])[0]["samples"]
    assert torch.equal(grey, plan(vae, frames[..., :1].repeat(1, 1, 1, 3))[0]["samples"])
    assert not torch.equal(grey, expected)


def test_fit_and_in_between_reach_the_pixels(vae):
    wide = draft(5, 16, 48)
    for fit in ("crop", "stretch"):
        for in_between in ("blend", "nearest"):
            latent, growth = plan(vae, wide, fit=fit, in_between=in_between)
            expected = vae.encode(resized(retimed(wide, 17, in_between), 32, 48, fit).clamp(0, 1))
            assert torch.equal(latent["samples"], expected)
            assert growth == pytest.approx(2.0 if fit == "crop" else 2**0.5)


def test_parts_cover_a_video_once_with_a_lead_in_front():
    for latents in range(1, 30):
        for at_once in (4, 5, 17):
            found = parts(latents, at_once)
            assert [i for _, start, end in found for i in range(start, end)] == list(range(latents))
            assert all(lead == max(0, start - 4) for lead, start, _ in found)


class Causal:
    """A VAE whose latent frame is the sum of its own video frames and of those of the `look_back` latent frames before;
    before the first there is nothing."""

    latent_dim, look_back = 3, 3  # the first latent of a part is made of one frame, not of four

    def temporal_compression_decode(self):
        return 4

    def spacial_compression_encode(self):
        return 8

    def encode(self, frames):
        own = [frames[:1].sum(), *(part.sum() for part in frames[1:].split(4) if len(part))]
        sums = [sum(own[max(0, i - self.look_back) : i + 1]) for i in range(len(own))]
        return torch.stack(sums).view(1, 1, -1, 1, 1)


@pytest.mark.parametrize("latents", [1, 5, 6, 7, 16, 23])
def test_parts_make_the_whole(monkeypatch, latents):
    """Exactly, for a VAE that looks back no further than the lead."""
    frames = torch.arange(4.0 * latents - 3).view(-1, 1, 1, 1)
    seen = []

    def take(start, end):
        seen.append((start, end))
        return frames[start:end]

    monkeypatch.setattr(video_vae, "PIXELS_AT_ONCE", 4 * 10)  # 10 latent frames, 4 of them the lead
    assert torch.equal(encode_video(Causal(), take, latents, 1), Causal().encode(frames))
    if latents == 16:
        assert seen == [(0, 21), (8, 45), (32, 61)]  # latent frames 0-5, 2-11 and 8-15


@pytest.mark.skipif(not mini.has("vae"), reason="the mini VAE is not trained yet")
def test_a_trained_vae_looks_back_little_further(monkeypatch):
    """Behind a border within 1 % of the latents' deviation; without a lead a fifth of it."""
    vae = comfy.sd.VAE(comfy.utils.load_torch_file(str(mini.WEIGHTS / "mini_vae.safetensors")))
    frames = render(sample_scenes(1, seed=5, split="heldout"), 41).frames[0, :, 16:48, 16:48]
    whole = vae.encode(frames)

    def off(latents, start):
        wanted = whole[:, :, start : start + latents.shape[2]]
        return (latents - wanted).square().mean((0, 1, 3, 4)).sqrt() / whole.std()

    monkeypatch.setattr(video_vae, "PIXELS_AT_ONCE", 32 * 32 * 4 * 10)
    assert off(encode_video(vae, lambda start, end: frames[start:end], 11, 32 * 32), 0).max() < 0.01
    assert off(vae.encode(frames[24:]), 6).max() > 0.1


def test_memory_is_that_of_a_part(vae, monkeypatch):
    """However long the video, and however large the draft."""
    monkeypatch.setattr(video_vae, "PIXELS_AT_ONCE", 32 * 48 * 4 * 12)
    sizes = []
    monkeypatch.setattr(
        vae, "encode", lambda part: sizes.append(len(part)) or torch.zeros(1, 16, len(part) // 4 + 1, 4, 6)
    )
    for length in (17, 161, 1601):
        assert plan(vae, draft(), length=length)[0]["samples"].shape[2] == length // 4 + 1
        assert max(sizes) <= 4 * 12
    assert len(sizes) == 1 + 6 + 51
    sizes.clear()
    plan(vae, draft(5, 64, 96), length=161)  # four times the pixels
    assert max(sizes) == 4 * 7 + 1, "at least as much is kept as leads"


def test_tiles(vae, monkeypatch):
    seen = []
    monkeypatch.setattr(vae, "encode_tiled", lambda part, *tiles: seen.append(tiles) or vae.encode(part))
    assert torch.equal(plan(vae, draft(), tile_size=512)[0]["samples"], plan(vae, draft())[0]["samples"])
    plan(vae, draft(), tile_size=64)
    assert seen == [(512, 512, 64), (64, 64, 16)]


def test_tiles_of_the_host(vae):
    """Where tiles reach over the whole frame they are the frame."""
    assert torch.equal(plan(vae, draft(), tile_size=64)[0]["samples"], plan(vae, draft())[0]["samples"])
    wide = plan(vae, draft(5, 16, 96), width=192, tile_size=64)[0]["samples"]
    assert wide.shape == (1, 16, 5, 4, 24) and torch.isfinite(wide).all()


def test_a_latent_gives_the_size(vae):
    given = {"samples": torch.zeros(1, 16, 3, 4, 6), "batch_index": [0]}
    latent, growth = plan(vae, draft(), latent=given, width=64, height=64, length=81)
    expected = vae.encode(resized(retimed(draft(), 9), 32, 48))
    assert torch.equal(latent["samples"], expected) and latent["batch_index"] == [0]
    assert not given["samples"].any(), "the other node's output is its own"
    assert growth == 2.0
    batch = plan(vae, draft(), latent={"samples": torch.zeros(2, 16, 3, 4, 6)})[0]["samples"]
    assert torch.equal(batch, expected.repeat(2, 1, 1, 1, 1))


def test_the_start_image_stays(vae):
    """As HunyuanImageToVideo (replace) and Wan22ImageToVideoLatent hand it over."""
    samples = seeded(1, 16, 3, 4, 6, seed=7)
    mask = torch.ones(1, 1, 3, 4, 6)
    mask[:, :, 0] = 0
    latent, _ = plan(vae, draft(), latent={"samples": samples, "noise_mask": mask})
    expected = vae.encode(resized(retimed(draft(), 9), 32, 48))
    assert torch.equal(latent["samples"][:, :, 0], samples[:, :, 0])
    assert torch.equal(latent["samples"][:, :, 1:], expected[:, :, 1:])
    assert latent["noise_mask"] is mask
    half, _ = plan(vae, draft(), latent={"samples": samples, "noise_mask": torch.full_like(mask, 0.25)})
    torch.testing.assert_close(half["samples"], 0.75 * samples + 0.25 * expected)


@pytest.mark.parametrize("frames, message", [
    (torch.zeros(0, 8, 8, 3), r"frames: shape \(0, 8, 8, 3\); an image is"),
    (torch.zeros(5, 8, 8, 2), r"frames: shape \(5, 8, 8, 2\); an image is"),
    (torch.zeros(5, 0, 8, 3), "frames: shape"),
    (torch.zeros(5, 8, 3), "frames: shape"),
    (torch.full((5, 8, 8, 3), torch.nan), "frames: contains NaN"),
    (torch.cat((torch.zeros(99, 8, 8, 3), torch.full((1, 8, 8, 3), torch.inf))), "frames: contains NaN or infinite"),
])  # fmt: skip
def test_what_is_no_draft(vae, frames, message):
    for call in (lambda: plan(vae, frames), lambda: edit(frames, "nothing")):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match=message.replace("frames:", "then:")):
        edit(draft(), "nothing", then=frames)


@pytest.mark.parametrize("changes, message", [
    ({"length": 18}, r"length 18: must be 4 n \+ 1, as this VAE makes videos. Try 17"),
    ({"length": 0}, "length 0: .* Try 1"),
    ({"width": 50}, "width 50: must be a multiple of 8, this VAE's pixel. Try 48"),
    ({"height": 4}, "height 4: must be a multiple of 8, this VAE's pixel. Try 8"),
    ({"width": 16384, "height": 16384, "length": 16381}, r"17,179,869,184 positions of a latent, more than the 67,10"),
    ({"latent": {"samples": torch.zeros(1, 48, 3, 4, 6)}}, r"latent: shape \(1, 48, 3, 4, 6\); this VAE makes"),
    ({"latent": {"samples": torch.zeros(1, 16, 4, 6)}}, "latent: shape .*Connect the latent of an image-to-video"),
])  # fmt: skip
def test_sizes_that_are_none(vae, changes, message):
    with pytest.raises(ValueError, match=message):
        plan(vae, draft(), **changes)


def test_a_vae_of_pictures():
    picture = types.SimpleNamespace(latent_dim=2, temporal_compression_decode=lambda: None)
    with pytest.raises(ValueError, match="vae: is one of pictures, not of videos"):
        plan(picture, draft())


def test_edits():
    frames = draft(6)
    assert torch.equal(edit(frames, "nothing", start=9), frames)
    assert torch.equal(edit(frames, "keep", start=2), frames[2:])
    assert torch.equal(edit(frames, "keep", start=2, end=4), frames[2:4])
    assert torch.equal(edit(frames, "remove", start=2, end=4), frames[[0, 1, 4, 5]])
    assert torch.equal(edit(frames, "hold", start=5, end=1, length=3), frames[[0, 1, 2, 3, 4, 5, 5, 5]])
    slow = edit(frames, "re-time", start=1, end=3, length=3)
    assert torch.equal(slow, torch.cat((frames[:1], retimed(frames[1:3], 3), frames[3:])))
    jerky = edit(frames, "re-time", length=11, in_between="nearest")
    assert torch.equal(jerky, frames[[0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]])


def test_joins():
    first, then = draft(4), draft(3, 32, 48, seed=2)
    small = resized(then, 16, 24)
    assert torch.equal(edit(first, "nothing", then=then), torch.cat((first, small)))
    faded = edit(first, "keep", end=2, then=then, crossfade=1)
    torch.testing.assert_close(faded, torch.cat((first[:1], (first[1:2] + small[:1]) / 2, small[1:])))
    alpha = torch.cat((then, then[..., :1]), -1)
    assert torch.equal(edit(first, "nothing", then=alpha), torch.cat((first, small)))


@pytest.mark.parametrize("what, inputs, message", [
    ("keep", {"start": 6}, "start 6, end 6: the draft has frames 0 to 5; must satisfy 0 <= start < end <= 6"),
    ("remove", {"start": 3, "end": 2}, "start 3, end 2: "),
    ("re-time", {"end": 7}, "start 0, end 7: "),
    ("hold", {"start": 6}, "start 6, end 7: the draft has frames 0 to 5"),
    ("remove", {}, "start 0, end 6: nothing would be left of 6 frames"),
    ("nothing", {"then": draft(3), "crossfade": 4}, "crossfade 4: the drafts have 6 and 3 frames. Lower it to at m"),
])  # fmt: skip
def test_edits_that_cannot_be(what, inputs, message):
    with pytest.raises(ValueError, match=message):
        edit(draft(6), what, **inputs)
