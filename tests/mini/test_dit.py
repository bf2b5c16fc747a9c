"""What is particular to the training of the mini DiTs: which noise levels it sees, and the attention it is compiled
with."""

from random import Random

import comfy.ldm.wan.model as host_model
import comfy.sd
import pytest
import torch
from comfy.ldm.modules.attention import attention_basic

from semantic_video.mini import latents
from semantic_video.mini import vae as mini_vae
from semantic_video.mini.dit import (
    BAND_SHARE,
    CONFIG,
    DEAF,
    Hearing,
    build,
    caption_for,
    captions_heard,
    compiled,
    export,
    from_t2v,
    initialise,
    noise_levels,
    plain_attention,
    stored_as,
    with_layers,
)
from semantic_video.miniworld.caption import parse
from semantic_video.miniworld.scene import Scene, Thing, sample_scene, sample_scenes


@pytest.mark.parametrize("count", [1, 2, 8, 24])
def test_noise_levels_are_those_of_the_band_and_of_the_sampler(count):
    levels = noise_levels(count, torch.Generator().manual_seed(0))
    assert levels.shape == (count,) and ((levels > 0) & (levels < 1)).all()
    inside = round(BAND_SHARE * count)
    assert (levels[:inside].diff() > 0).all() and (levels[inside:].diff() > 0).all()


def test_noise_levels_have_the_medians_they_claim():
    levels = noise_levels(4000, torch.Generator().manual_seed(0))
    assert float(levels[:3000].median()) == pytest.approx(float(torch.tensor(1.7).sigmoid()), abs=2e-3)
    assert float(levels[3000:].median()) == pytest.approx(8 / 9, abs=2e-3)


def test_the_deaf_model_hears_half_of_its_captions_and_the_others_most():
    captions = [f"video {i}" for i in range(4000)]
    for hearing in (DEAF, Hearing()):
        heard = captions_heard(captions, Random(0), hearing)
        silent = sum(text == "" for text in heard) / len(heard)
        wrong = [i for i, text in enumerate(heard) if text not in ("", captions[i])]
        assert silent == pytest.approx(hearing.dropped, abs=0.02)
        assert len(wrong) / len(heard) == pytest.approx(hearing.wrong, abs=0.02)
        assert all(heard[i] == captions[i - 1] for i in wrong)


def test_captions_name_any_relation():
    rng = Random(0)
    scenes = sample_scenes(2000, 0, objects=(2,))
    facts = [parse(caption_for(scene, rng)) for scene in scenes]
    named = [(said.relation, scene.relation) for said, scene in zip(facts, scenes) if said.relation]
    assert 0.75 < len(named) / len(scenes) < 0.85
    assert 0.2 < sum(said == true for said, true in named) / len(named) < 0.3
    assert all(
        (a.shape, a.colour, a.motion) == (b.shape, b.colour, b.motion)
        for said, scene in zip(facts, scenes)
        for a, b in zip(said.things[:1], scene.things[:1])
    )
    assert parse(caption_for(sample_scene(0), rng)).relation is None


def test_plain_attention_is_attention():
    q, k, v = (
        torch.randn(2, tokens, 5 * 32, generator=torch.Generator().manual_seed(tokens)) for tokens in (96, 32, 32)
    )
    assert torch.allclose(plain_attention(q, k, v, 5), attention_basic(q, k, v, 5), atol=1e-5)


def test_the_host_has_its_attention_back_afterwards():
    before = host_model.optimized_attention
    with pytest.raises(RuntimeError, match="stop"), compiled(build(False), True):
        assert host_model.optimized_attention is plain_attention
        raise RuntimeError("stop")
    assert host_model.optimized_attention is before


def blocks(model):
    weights = model.state_dict()
    return [
        {k.split(".", 2)[2]: v for k, v in weights.items() if k.startswith(f"blocks.{i}.")}
        for i in range(len(model.blocks))
    ]


def test_a_deeper_model_begins_as_the_one_it_comes_from():
    shallow, deep = build(True), build(False)
    assert len(shallow.blocks) < len(deep.blocks)
    initialise(shallow, 0)
    shallow.head.head.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    weights = shallow.state_dict() | {"patch_embedding.weight": shallow.patch_embedding.weight[:, :16]}
    deep.load_state_dict(with_layers(weights, len(deep.blocks)))
    x = torch.randn(2, 36, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    x[:, 16:] = 0
    time, text = (
        torch.tensor([300.0, 900.0]),
        torch.randn(2, 4, CONFIG["text_dim"], generator=torch.Generator().manual_seed(3)),
    )
    with torch.no_grad():
        answer = shallow(x, time, text)
        assert torch.equal(deep(x[:, :16], time, text), answer)


def test_a_shallower_model_takes_evenly_spaced_blocks():
    deep, shallow = build(False), build(True)
    initialise(deep, 0)
    kept = with_layers(from_t2v(deep.state_dict()), len(shallow.blocks))
    shallow.load_state_dict(kept)
    spaced = [blocks(deep)[i] for i in (0, 1, 3, 4, 6, 7)]
    assert all(torch.equal(a[key], b[key]) for a, b in zip(blocks(shallow), spaced, strict=True) for key in a)
    assert with_layers(kept, 6).keys() == kept.keys()


def test_blocks_of_the_t2v_are_stored_in_eight_bits():
    model = build(False).state_dict()
    eight = {key for key, weight in model.items() if stored_as(key, weight, True) == torch.float8_e4m3fn}
    assert "blocks.8.ffn.0.weight" in eight and "blocks.0.self_attn.q.weight" in eight
    assert not [
        key for key in eight if "modulation" in key or not key.startswith("blocks.") or not key.endswith("weight")
    ]
    assert stored_as("blocks.0.modulation", model["blocks.0.modulation"], True) == torch.bfloat16
    assert stored_as("blocks.0.ffn.0.bias", model["blocks.0.ffn.0.bias"], True) == torch.float32
    assert {stored_as(key, weight, False) for key, weight in model.items()} == {torch.bfloat16, torch.float32}


def test_the_hosts_loader_reads_what_is_exported(tmp_path):
    model = build(False)
    initialise(model, 0)
    model.head.head.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    weights = model.state_dict()
    export(weights, tmp_path / "t2v.safetensors", {}, eight_bits=True)
    loaded = comfy.sd.load_diffusion_model(str(tmp_path / "t2v.safetensors")).model.diffusion_model
    model.load_state_dict({key: weight.to(stored_as(key, weight, True)).float() for key, weight in weights.items()})
    assert torch.equal(model.head.head.weight, loaded.head.head.weight) and len(loaded.blocks) == len(model.blocks)
    x, text = (
        torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(2)),
        torch.zeros(1, 4, CONFIG["text_dim"]),
    )
    with torch.inference_mode():
        assert torch.allclose(loaded(x, torch.tensor([500.0]), text), model(x, torch.tensor([500.0]), text), atol=1e-4)


def test_half_of_a_batch_is_the_harder_of_two(tmp_path):
    latents.save_weights(
        {"latents": torch.zeros(64, 16, 1, 1, 1), "cover": torch.zeros(64, 1, 1, 1, 1)},
        tmp_path / "clip-0000.safetensors",
        {},
    )
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
