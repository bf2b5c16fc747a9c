"""Draft Plan with the autoencoders of MiniMax H3, which work in chunks of 17 frames, and of LTX."""

import comfy.nested_tensor
import comfy.sd
import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.harness.toy_ltx import write_toy_ltx
from semantic_video.harness.toy_nodes.minimax_vaes import ToyMiniMaxVAE
from semantic_video.host import video_vae
from semantic_video.host.video_vae import Rhythm, encode_video, rhythm_of
from semantic_video.kernels.draft_plan import resized, retimed
from semantic_video.nodes.draft_plan import DraftPlanNode


def draft(frames=9, height=16, width=32, seed=1):
    return seeded(frames, height, width, 3, seed=seed).sigmoid()


def test_rhythms_of_their_videos():
    h3 = rhythm_of(ToyMiniMaxVAE())
    assert h3 == Rhythm(17, 5, 5, 2) and str(h3) == "17 n + 5"
    lengths = [(5, 2), (22, 7), (39, 12), (124, 37), (362, 107)]
    assert [(length, h3.latents_of(length)) for length, _ in lengths] == lengths
    assert [(h3.length_of(latents), latents) for _, latents in lengths] == lengths
    assert [length for length in range(60) if h3.accepts(length)] == [5, 22, 39, 56]
    assert [h3.nearest(length) for length in (1, 5, 21, 22, 361)] == [5, 5, 5, 22, 345]


@pytest.mark.parametrize("latents", [2, 7, 12, 22])
@pytest.mark.parametrize("chunks", [1, 2])
def test_chunks_make_the_whole(monkeypatch, latents, chunks):
    """Each part but the last also takes the five frames behind it, and drops what becomes of them."""
    vae, rhythm, seen = ToyMiniMaxVAE(), Rhythm(17, 5, 5, 2), []
    frames = draft(rhythm.length_of(latents))

    def take(start, end):
        seen.append((start, end))
        return frames[start:end]

    monkeypatch.setattr(video_vae, "PIXELS_AT_ONCE", 16 * 32 * (17 * chunks + 5))
    assert torch.equal(encode_video(vae, take, latents, 16 * 32), vae.encode(frames))
    if (latents, chunks) == (12, 1):
        assert seen == [(0, 22), (17, 39)]


def test_a_plan_for_minimax_h3():
    vae = ToyMiniMaxVAE()
    latent, growth = DraftPlanNode.execute(draft(), vae, 64, 32, 39).args
    assert torch.equal(latent["samples"], vae.encode(resized(retimed(draft(), 39), 32, 64)))
    assert latent["samples"].shape == (1, 24, 12, 2, 4) and growth == 2.0
    with pytest.raises(ValueError, match=r"length 40: must be 17 n \+ 5, as this VAE makes videos. Try 39"):
        DraftPlanNode.execute(draft(), vae, 64, 32, 40)


def test_onto_a_latent_with_sound():
    """Its size, its sound and what its mask keeps of the video stay."""
    vae, sound = ToyMiniMaxVAE(), seeded(1, 32, 2, 65, seed=3)
    samples, mask = seeded(1, 24, 12, 2, 4, seed=2), torch.ones(1, 1, 12, 2, 4)
    mask[:, :, 0] = 0
    nested = comfy.nested_tensor.NestedTensor
    given = {"samples": nested((samples, sound)), "noise_mask": nested((mask, torch.ones(1, 1, 2, 65)))}
    latent, _ = DraftPlanNode.execute(draft(), vae, 0, 0, 0, latent=given).args
    video, kept = latent["samples"].unbind()
    alone = DraftPlanNode.execute(draft(), vae, 64, 32, 39).args[0]["samples"]
    assert torch.equal(kept, sound) and latent["noise_mask"] is given["noise_mask"]
    assert torch.equal(video[:, :, 1:], alone[:, :, 1:]) and torch.equal(video[:, :, :1], samples[:, :, :1])


def test_a_plan_for_ltx(tmp_path):
    path = write_toy_ltx("ltxav23", tmp_path / "ltx.safetensors")
    vae = comfy.sd.load_checkpoint_guess_config(str(path), output_clip=False)[2]
    assert rhythm_of(vae) == Rhythm(8)
    latent, growth = DraftPlanNode.execute(draft(), vae, 64, 32, 17).args
    assert torch.equal(latent["samples"], vae.encode(resized(retimed(draft(), 17), 32, 64))) and growth == 2.0
    assert latent["samples"].shape == (1, 128, 3, 1, 2)
    with pytest.raises(ValueError, match=r"length 21: must be 8 n \+ 1, as this VAE makes videos. Try 17"):
        DraftPlanNode.execute(draft(), vae, 64, 32, 21)
