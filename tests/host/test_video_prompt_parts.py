"""Video-As-Prompt part by part: what an expert must be, what its stream is made of, and the form of its files."""

import json
from types import SimpleNamespace

import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.harness.toy import write_toy_expert
from semantic_video.host.families import wan
from semantic_video.host.weights import Checkpoint
from semantic_video.kernels.video_prompt import IMAGE, LATENT, TEXT
from semantic_video.patches import video_prompt as patch
from semantic_video.patches.video_prompt import reference, require_compatible
from semantic_video.patches.video_prompt_expert import (
    MOST,
    extract_expert,
    host_config,
    layers_of,
    load_expert,
    plain,
    zero_head,
)
from semantic_video.patches.video_prompt_keys import PUBLISHED_LAYERS, block_of, expert_keys, layers_in, used_keys


def model_of(blocks=8, dim=48, heads=2, image=True, embeds=True):
    module = SimpleNamespace(
        dim=dim, num_heads=heads, blocks=[None] * blocks, img_emb="an image branch" if image else None
    )
    if embeds:
        module.patch_embedding = None
    return SimpleNamespace(model=SimpleNamespace(diffusion_model=module))


@pytest.mark.parametrize(
    ("model", "expert", "layers", "message"),
    [
        ({}, {"embeds": False}, (0, 4), "expert: SimpleNamespace is not a Video-As-Prompt expert"),
        ({}, {"dim": 96}, (0, 4), "expert: made for a Wan of width 96 with 2 heads, this model has 48 with 2"),
        ({}, {"heads": 4}, (0, 4), "expert: made for a Wan of width 48 with 4 heads, this model has 48 with 2"),
        ({}, {"blocks": 3}, (0, 4), "expert: it has 3 blocks, and their places in the model are not known"),
        ({}, {}, (0, 8), "expert: belongs to blocks 0, 8, this model has 8. Load the model it was made for"),
        ({"image": False}, {}, (0, 4), "model: it has no CLIP image branch"),
    ],
)
def test_an_expert_of_another_model(monkeypatch, model, expert, layers, message):
    monkeypatch.setattr(patch, "family_of", lambda model: wan)
    with pytest.raises(ValueError, match=f"^{message}"):
        require_compatible(model_of(**model), model_of(**{"blocks": 2} | expert), layers)
    monkeypatch.setattr(patch, "family_of", lambda model: SimpleNamespace(NAME="LTX"))
    with pytest.raises(ValueError, match="^model: LTX cannot carry this expert"):
        require_compatible(model_of(), model_of(blocks=2), (0, 4))


def test_an_expert_of_this_model(monkeypatch):
    monkeypatch.setattr(patch, "family_of", lambda model: wan)
    require_compatible(model_of(), model_of(blocks=2), (0, 7))
    require_compatible(model_of(), model_of(blocks=2, image=False), (0, 7))
    require_compatible(model_of(image=False), model_of(blocks=2, image=False), (0, 7))


@pytest.mark.parametrize("windows", ["whole reference", "in step"])
def test_what_a_stream_is_made_of(monkeypatch, windows):
    """Rows 2 and 0 of a batch of three; of a reference of 20 frames those in step with frames 4 to 8 of 9."""
    made = []
    monkeypatch.setattr(patch, "WanStream", lambda *given: made.append(given))
    latent, text, image = seeded(3, 36, 20, 2, 2), seeded(3, 6, 32), seeded(1, 5, 8)
    arguments = {LATENT: [latent], TEXT: text, IMAGE: image[:1].expand(3, -1, -1)}
    forward = SimpleNamespace(arguments=arguments, run=SimpleNamespace(total_frames=9), options={"a": 1})
    call = SimpleNamespace(forward=forward, batch_rows=(2, 0), crop=SimpleNamespace(frames=(4, 5, 6, 7, 8)))
    reference("expert", call, windows)
    seen = list(range(20)) if windows == "whole reference" else [8, 11, 13, 15, 17]
    [(module, x, words, picture, position, timestep, options)] = made
    assert (module, position, timestep, options) == ("expert", -len(seen), 1.0, {"a": 1})
    assert torch.equal(x, latent[[2, 0]][:, :, seen]) and torch.equal(words, text[[2, 0]])
    assert torch.equal(picture, arguments[IMAGE][[2, 0]])
    del arguments[IMAGE]
    call.batch_rows, call.crop.frames = (0, 1, 2), tuple(range(9))
    reference("expert", call, windows)
    _, x, words, picture, *_ = made[1]
    assert x is latent and words is text and picture is None, "the whole video sees the whole reference"


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        (0, True), (MOST, True), (MOST + 1, False), (-1, False), (0.5, True), (-0.5, False), (True, True),
        ("t2v", True), (None, True), ({}, False), ([], True), ([1, 2, 2], True), ([1, 2, 2, 2], False),
        ([MOST, -MOST], True), ([MOST + 1], False), ([-MOST - 1], False), ([1.5], False), (["a"], False),
    ],
)  # fmt: skip
def test_values_that_a_config_can_have(value, fits):
    assert plain(value) == fits


def test_configs():
    assert host_config({}, 2) == {} and host_config({"config": "{}"}, 2) == {}
    given = {"transformer": {"dim": 48, "num_layers": 2, "qk_norm": True}}
    assert host_config({"config": json.dumps(given)}, 2) == given["transformer"]
    for name, value in (("operations", 1), ("device", "cuda"), ("dtype", "x"), ("dim", -1), ("a" * 50, "b" * 50)):
        message = f"^has metadata \"config\" that is no Wan's: '{name[:40]}' is {str(value)[:40]}$"
        with pytest.raises(ValueError, match=message):
            host_config({"config": json.dumps({"transformer": {name: value}})}, 2)
    with pytest.raises(ValueError, match='^has 3 blocks, but metadata "config" says num_layers 2$'):
        host_config({"config": json.dumps(given)}, 3)
    for damaged in ('{"transformer": 3}', "3", "{"):
        with pytest.raises(ValueError, match='^has damaged metadata: "config" is no JSON object'):
            host_config({"config": damaged}, 2)


def test_a_head_by_which_the_host_knows_a_wan():
    head = zero_head({"patch_embedding.weight": torch.zeros(48, 36, 1, 2, 2)})
    shapes = {name: tuple(value.shape) for name, value in head.items()}
    assert shapes == {"head.modulation": (1, 2, 48), "head.head.weight": (64, 48), "head.head.bias": (64,)}
    assert all(value.device.type == "cpu" and not value.any() for value in head.values())
    assert zero_head({"patch_embedding.weight": torch.zeros(48, 1)}, "meta")["head.modulation"].is_meta


def test_an_extracted_file_says_what_it_is(tmp_path):
    from safetensors.torch import load_file, save_file

    source = write_toy_expert(tmp_path / "expert.safetensors")
    about = Checkpoint(source).metadata | {"_quantization_metadata": "{}", "note": "kept"}
    save_file(load_file(source), source, about)
    extract_expert(source, tmp_path / "own.safetensors")
    found = Checkpoint(tmp_path / "own.safetensors").metadata
    assert found == {
        "config": about["config"],
        "note": "kept",
        "layers": "0,2",
        "format": "video-as-prompt expert",
        "source": "expert.safetensors",
    } | {
        key: about[key] for key in about if key not in ("config", "note", "layers", "_quantization_metadata", "format")
    }
    expert = load_expert(tmp_path / "own.safetensors")
    again, given = expert.cached_patcher_init
    assert (again, given) == (load_expert, (tmp_path / "own.safetensors", None))
    assert layers_of(expert) == (0, 2)
    assert layers_of(SimpleNamespace(attachments={})) == PUBLISHED_LAYERS == (0, 4, 8, 12, 16, 20, 24, 28, 32, 36)


def test_missing_parts_are_named_first(tmp_path):
    from safetensors.torch import load_file, save_file

    source = write_toy_expert(tmp_path / "expert.safetensors")
    tensors, about = load_file(source), Checkpoint(source).metadata
    for name in ("patch_embedding.weight", "patch_embedding.bias", "blocks.0.ffn.0.weight"):
        save_file({key: value for key, value in tensors.items() if key != name}, tmp_path / "less.safetensors", about)
        message = rf"^less\.safetensors: tensor '{name}' is missing\. Download the checkpoint again, or extract"
        with pytest.raises(ValueError, match=message):
            load_expert(tmp_path / "less.safetensors")


# ---- names of keys


def keys(*blocks, marked=False):
    suffix = "_mot_ref" if marked else ""
    name = "attn1{}.to_k.weight" if marked else "self_attn{}.k.weight"
    return [f"blocks.{block}.{name.format(suffix)}" for block in blocks]


def test_numbers_of_blocks():
    assert block_of("blocks.12.self_attn.k.weight") == 12 and block_of("head.blocks.1.x") is None
    assert block_of("blocks.x.y") is None and block_of("blocks.1234567890.y") is None
    assert layers_in("0,4,8") == (0, 4, 8) and layers_in("3") == (3,)
    for wrong in ("", "a", "0,0", "4,0", "-1,3", "0,4," + "x" * 60):
        message = f"^has metadata \"layers\" '{wrong[:40]}', expected block numbers in rising order, as 0,4,8$"
        with pytest.raises(ValueError, match=message):
            layers_in(wrong)


@pytest.mark.parametrize("count", [2, 100])
def test_experts_of_as_many_blocks_as_there_can_be(count):
    metadata = {"layers": ",".join(str(3 * i) for i in range(count))}
    names, layers = expert_keys(keys(*range(count)), metadata)
    assert names == {key: key for key in keys(*range(count))} and layers == tuple(range(0, 3 * count, 3))
    marked = keys(*range(0, 3 * count, 3), marked=True)
    names, layers = expert_keys(["blocks.0.attn1.to_k.weight", *marked], {})
    assert names == dict(zip(marked, keys(*range(count)))) and layers == tuple(range(0, 3 * count, 3))


@pytest.mark.parametrize("count", [1, 101])
def test_experts_of_more_or_fewer(count):
    metadata = {"layers": ",".join(map(str, range(count)))}
    with pytest.raises(ValueError, match=f"^has blocks in {count} blocks; an expert has 2 to 100$"):
        expert_keys(keys(*range(count)), metadata)
    with pytest.raises(ValueError, match=f"^has keys with '_mot_ref' in {count} blocks; an expert has 2 to 100$"):
        expert_keys(keys(*range(count), marked=True), {})


def test_names_that_are_no_expert_s():
    with pytest.raises(ValueError, match="^has a block 3 among 2: they must be numbered 0, 1, ...$"):
        expert_keys(keys(0, 3), {"layers": "0,3"})
    with pytest.raises(ValueError, match='^has 2 blocks but 3 places for them: its metadata has no fitting "layers"$'):
        expert_keys(keys(0, 1), {"layers": "0,3,6"})
    message = "^holds no Video-As-Prompt expert: no key contains '_mot_ref', and it is not an extracted expert$"
    for other in (["head.head.weight", *keys(0, 1)], ["blocks.0.self_attn.q.weight"], []):
        with pytest.raises(ValueError, match=message):
            expert_keys(other, {})
    twice = ["blocks.0.self_attn.k_mot_ref.weight", *keys(0, 4, marked=True)]
    with pytest.raises(ValueError, match="^holds the same tensor under two names$"):
        expert_keys(twice, {})
    kept, _ = expert_keys([*keys(0, 1), "head.modulation", "head.head.bias"], {"layers": "0,1"})
    assert list(kept) == keys(0, 1), "a head is left out"


def test_of_the_last_block_only_keys_and_values_are_used():
    every = [
        f"blocks.{b}.{part}.weight" for b in (0, 11, 2) for part in ("self_attn.q", "self_attn.k", "ffn.0", "norm3")
    ]
    kept = [key for key in every if not key.startswith("blocks.11.")] + ["blocks.11.self_attn.k.weight", "img_emb.x"]
    assert sorted(used_keys(iter([*every, "img_emb.x"]))) == sorted(kept)
