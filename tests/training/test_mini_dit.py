"""What is particular to the training of the mini DiTs: which noise levels it sees, and the attention it is compiled with."""
from random import Random

import comfy.ldm.wan.model as host_model
import pytest
import torch
from comfy.ldm.modules.attention import attention_basic

from semantic_video.miniworld.caption import parse
from semantic_video.miniworld.scene import Scene, Thing, sample_scene, sample_scenes
from semantic_video.training import latents, mini_vae
from semantic_video.training.mini_dit import BAND_SHARE, build, caption_for, compiled, losses_of, noise_levels, plain_attention, shifted


@pytest.mark.parametrize("count", [1, 2, 8, 24])
def test_noise_levels_are_those_of_the_band_and_of_the_sampler(count):
    levels = noise_levels(count, torch.Generator().manual_seed(0))
    assert levels.shape == (count,) and ((levels > 0) & (levels < 1)).all()
    inside = round(BAND_SHARE * count)
    assert (levels[:inside].diff() > 0).all() and (levels[inside:].diff() > 0).all()


def test_noise_levels_have_the_medians_they_claim():
    levels = noise_levels(4000, torch.Generator().manual_seed(0))
    assert float(levels[:3000].median()) == pytest.approx(float(torch.tensor(1.7).sigmoid()), abs=2e-3)
    assert float(levels[3000:].median()) == pytest.approx(float(shifted(torch.tensor(0.5))), abs=2e-3)


def test_objects_count_four_times_where_their_place_is_known_and_once_where_it_is_not():
    cover = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 1, 2, 2)
    for level, mean in ((0.0, 4 / 7), (0.7, 4 / 7), (0.825, 2.5 / 5.5), (0.95, 1 / 4), (1.0, 1 / 4)):
        losses = losses_of(cover, torch.full((1, 1, 1, 1, 1), level), cover)  # an error of 1 on the object, none beside it
        assert float(losses["loss"]) == pytest.approx(mean) and float(losses["objects"]) == 1


def test_captions_name_any_relation():
    rng = Random(0)
    scenes = sample_scenes(2000, 0, objects=(2,))
    facts = [parse(caption_for(scene, rng)) for scene in scenes]
    named = [(said.relation, scene.relation) for said, scene in zip(facts, scenes) if said.relation]
    assert 0.75 < len(named) / len(scenes) < 0.85
    assert 0.2 < sum(said == true for said, true in named) / len(named) < 0.3
    assert all((a.shape, a.colour, a.motion) == (b.shape, b.colour, b.motion) for said, scene in zip(facts, scenes)
               for a, b in zip(said.things[:1], scene.things[:1]))
    assert parse(caption_for(sample_scene(0), rng)).relation is None


def test_plain_attention_is_attention():
    q, k, v = (torch.randn(2, tokens, 5 * 32, generator=torch.Generator().manual_seed(tokens)) for tokens in (96, 32, 32))
    assert torch.allclose(plain_attention(q, k, v, 5), attention_basic(q, k, v, 5), atol=1e-5)


def test_the_host_has_its_attention_back_afterwards():
    before = host_model.optimized_attention
    with pytest.raises(RuntimeError, match="stop"), compiled(build(False), True):
        assert host_model.optimized_attention is plain_attention
        raise RuntimeError("stop")
    assert host_model.optimized_attention is before


def test_half_of_a_batch_is_the_harder_of_two(tmp_path):
    latents.atomic_save({"latents": torch.zeros(64, 16, 1, 1, 1), "cover": torch.zeros(64, 1, 1, 1, 1)}, tmp_path / "clip-0000.safetensors", {})
    scenes, tensors = latents.Latents(tmp_path, 0).batch(Random(0), 2000)
    hardness = [latents.hardness(scene) for scene in scenes]
    assert tensors["latents"].shape == (2000, 16, 1, 1, 1)
    assert sum(hardness[1::2]) > 1.15 * sum(hardness[::2])
    circle, cross = (Thing(shape, "red", "small", 0.5, 0.5, 0.1) for shape in ("circle", "cross"))
    assert [latents.hardness(Scene(things, "white")) for things in ((circle,), (cross,), (cross, cross))] == [1, 3, 6]


def test_latents_of_another_world_have_another_folder(tmp_path, monkeypatch):
    vae = mini_vae.build()
    before = latents.folder_of(tmp_path, vae, 0)
    assert latents.folder_of(tmp_path, vae, 0) == before != latents.folder_of(tmp_path, vae, 1)
    drawn = latents.scene_number
    monkeypatch.setattr(latents, "scene_number", lambda seed, index: drawn(seed, index + 1))
    assert latents.folder_of(tmp_path, vae, 0) != before
