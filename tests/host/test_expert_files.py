"""Files of the expert of Video-As-Prompt, in their three forms: names and shapes are proved before anything is read."""

import pytest
import torch

from semantic_video.harness.toy import diffusers_expert, write_toy_expert
from semantic_video.patches.video_prompt_expert import extract_expert, layers_of, load_expert
from semantic_video.tests.host.test_loaders import refused, with_metadata, write

TRIMMED = ("blocks.1.self_attn.q.", "blocks.1.self_attn.o.", "blocks.1.cross_attn.", "blocks.1.norm3.", "blocks.1.ffn.")


@pytest.fixture
def expert(tmp_path):
    return with_metadata(write_toy_expert(tmp_path / "expert.safetensors"))


def marked(tensors):
    """The same expert as part of a diffusers checkpoint, on its blocks 0 and 2, beside a tensor of the backbone."""
    return diffusers_expert(tensors) | {"blocks.0.attn1.to_q.weight": torch.ones(48, 48)}


def used(key):
    return not key.startswith(TRIMMED) and key != "blocks.1.self_attn.norm_q.weight"


def test_every_missing_tensor_of_an_expert_is_refused_and_never_saved(tmp_path, expert):
    """What was missing used to be uninitialised memory."""
    tensors, metadata = expert
    target = tmp_path / "saved.safetensors"
    loads = (load_expert, lambda path: extract_expert(path, target))
    keys = [key for key in tensors if used(key)]
    assert len(keys) > 50
    for i, key in enumerate(keys):
        less = {k: v for k, v in tensors.items() if k != key}
        refused(tmp_path, less, metadata, "", loads[i % 2])
        refused(tmp_path, marked(less), {"config": metadata["config"]}, "", loads[1 - i % 2])
    key = "blocks.0.norm3.bias"
    less = {k: v for k, v in tensors.items() if k != key}
    message = rf"1 tensors do not fit, first '{key}': expected \(48,\), found none"
    refused(tmp_path, less, metadata, message, load_expert)
    assert not target.exists()


def test_all_three_forms_of_an_expert_are_the_same(tmp_path, expert):
    tensors, metadata = expert
    whole = load_expert(tmp_path / "expert.safetensors")
    part = load_expert(write(tmp_path / "part.safetensors", marked(tensors), {"config": metadata["config"]}))
    extract_expert(tmp_path / "part.safetensors", tmp_path / "own.safetensors")
    own = load_expert(tmp_path / "own.safetensors")
    state = whole.model.diffusion_model.state_dict()
    assert set(state) == {key for key in tensors if used(key)}
    for key, value in state.items():
        assert torch.equal(value, tensors[key]), key
        assert torch.equal(value, part.model.diffusion_model.state_dict()[key]), key
        assert torch.equal(value, own.model.diffusion_model.state_dict()[key]), key
    assert layers_of(whole) == layers_of(part) == layers_of(own) == (0, 2)


def test_reshaped_foreign_and_nan_tensors_of_an_expert_are_named(tmp_path, expert):
    tensors, metadata = expert
    for key in ("blocks.0.ffn.2.weight", "blocks.1.self_attn.k.bias", "img_emb.proj.3.weight", "blocks.0.modulation"):
        one = rf"1 tensors do not fit, first '{key}'"
        refused(tmp_path, tensors | {key: tensors[key][None]}, metadata, one, load_expert)
        refused(tmp_path, tensors | {key: tensors[key] / 0}, metadata, f"tensor '{key}' holds NaN or inf", load_expert)
        refused(tmp_path, tensors | {key: tensors[key].int()}, metadata, f"tensor '{key}' is of I32", load_expert)
    refused(
        tmp_path, tensors | {"lora.up": torch.ones(2)}, metadata, "1 tensors do not fit, first 'lora.up'", load_expert
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": "a,b"}, "has metadata \"layers\" 'a,b', expected block numbers in rising order"),
        ({"layers": "2,0"}, "has metadata \"layers\" '2,0', expected"),
        ({"layers": "0,1,2"}, "has 2 blocks but 3 places for them"),
        ({"config": "{"}, 'has damaged metadata: "config"'),
        ({"config": "[]"}, 'has damaged metadata: "config"'),
        ({"config": "[" * 100000}, 'has damaged metadata: "config"'),
        ({"config": '{"transformer": {"num_layers": 20000}}'}, "has 2 blocks, .* says num_layers 20000"),
        ({"config": '{"transformer": {"dim": 1e30}}'}, "has metadata \"config\" that is no Wan's: 'dim' is 1e.30"),
        ({"config": '{"transformer": {"num_heads": 0, "text_dim": 32}}'}, "its tensors and metadata describe no Wan"),
        ({"config": '{"transformer": {"num_heads": 5, "text_dim": 32}}'}, "its tensors and metadata describe no Wan"),
        ({"config": '{"transformer": {"colour": 5}}'}, "has metadata \"config\" that is no Wan's: 'colour' is 5"),
        ({"config": '{"transformer": {"num_heads": 2}}'}, "1 tensors do not fit, first 'text_embedding.0.weight'"),
        ({"config": '{"transformer": {"model_type": "s2v"}}'}, "its tensors and metadata describe no Wan"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_metadata_of_an_expert(tmp_path, expert, change, message):
    tensors, metadata = expert
    refused(tmp_path, tensors, metadata | change, message, load_expert)


def test_marked_tensors_outside_blocks_are_no_expert(tmp_path, expert):
    tensors, _ = expert
    message = "has keys with '_mot_ref' in 0 blocks; an expert has 2 to 100"
    refused(tmp_path, {"foo_mot_ref.weight": torch.ones(2)}, None, message, load_expert)
    twice = marked(tensors) | {"blocks.0.attn1_mot_ref.q.weight": torch.ones(2)}
    refused(tmp_path, {k: v for k, v in twice.items() if "mot" in k}, None, "", load_expert)
    twice = marked(tensors) | {"blocks.0.self_attn.q_mot_ref.weight": torch.ones(2)}
    refused(tmp_path, twice, None, "holds the same tensor under two names", load_expert)


def test_many_declared_blocks_cost_nothing(tmp_path, expert):
    tensors, metadata = expert
    far = tensors | {"blocks.1000.self_attn.k.weight": torch.ones(48, 48)}
    message = "has a block 1000 among 3: they must be numbered 0, 1"
    refused(tmp_path, far, metadata | {"layers": "0,1,2"}, message, load_expert)
    many = {f"blocks.{i}.self_attn.k.weight": torch.ones(1) for i in range(2000)}
    places = {"layers": ",".join(map(str, range(2000)))}
    refused(tmp_path, tensors | many, metadata | places, "has blocks in 2000 blocks; an expert has 2 to", load_expert)


def test_a_scaled_fp8_expert_still_loads(tmp_path, expert):
    """ComfyUI's own form of fp8 weights has scales beside them."""
    tensors, metadata = expert
    small = dict(tensors) | {"scaled_fp8": torch.ones(2).to(torch.float8_e4m3fn)}
    for key in [key for key in tensors if used(key) and key.endswith("ffn.0.weight")]:
        small[key] = (tensors[key] * 64).to(torch.float8_e4m3fn)
        small[key.removesuffix("weight") + "scale_weight"] = torch.tensor(1 / 64)
    loaded = load_expert(write(tmp_path / "small.safetensors", small, metadata), {})
    x = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
    layer = loaded.model.diffusion_model.blocks[0].ffn[0]
    expected = x @ tensors["blocks.0.ffn.0.weight"].T + tensors["blocks.0.ffn.0.bias"]
    assert (layer(x.to(layer.bias.dtype)).float() - expected).norm() < 0.1 * expected.norm()
