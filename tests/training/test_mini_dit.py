"""What is particular to the training of the mini DiTs: which noise levels it sees, and the attention it is compiled with."""
import comfy.ldm.wan.model as host_model
import pytest
import torch
from comfy.ldm.modules.attention import attention_basic

from semantic_video.training import latents, mini_vae
from semantic_video.training.mini_dit import BAND_SHARE, build, compiled, noise_levels, plain_attention, shifted


@pytest.mark.parametrize("count", [1, 2, 8, 24])
def test_noise_levels_are_those_of_the_band_and_of_the_sampler(count):
    levels = noise_levels(count, torch.Generator().manual_seed(0))
    assert levels.shape == (count,) and ((levels > 0) & (levels < 1)).all()
    inside = round(BAND_SHARE * count)
    assert (levels[:inside].diff() > 0).all() and (levels[inside:].diff() > 0).all()


def test_noise_levels_have_the_medians_they_claim():
    levels = noise_levels(4000, torch.Generator().manual_seed(0))
    assert float(levels[:3000].median()) == pytest.approx(float(torch.tensor(1.4).sigmoid()), abs=2e-3)
    assert float(levels[3000:].median()) == pytest.approx(float(shifted(torch.tensor(0.5))), abs=2e-3)


def test_plain_attention_is_attention():
    q, k, v = (torch.randn(2, tokens, 5 * 32, generator=torch.Generator().manual_seed(tokens)) for tokens in (96, 32, 32))
    assert torch.allclose(plain_attention(q, k, v, 5), attention_basic(q, k, v, 5), atol=1e-5)


def test_the_host_has_its_attention_back_afterwards():
    before = host_model.optimized_attention
    with pytest.raises(RuntimeError, match="stop"), compiled(build(False), True):
        assert host_model.optimized_attention is plain_attention
        raise RuntimeError("stop")
    assert host_model.optimized_attention is before


def test_latents_of_another_world_have_another_folder(tmp_path, monkeypatch):
    vae = mini_vae.build()
    before = latents.folder_of(tmp_path, vae, 0)
    assert latents.folder_of(tmp_path, vae, 0) == before != latents.folder_of(tmp_path, vae, 1)
    drawn = latents.scene_number
    monkeypatch.setattr(latents, "scene_number", lambda seed, index: drawn(seed, index + 1))
    assert latents.folder_of(tmp_path, vae, 0) != before
