"""Files of plans and compressors: what is written is read, everything else is refused by name."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from semantic_video.host.weights import Checkpoint
from semantic_video.kernels.compressor import Compressor, CompressorSpec, initialise
from semantic_video.kernels.semantic_plan import SemanticPlan
from semantic_video.patches.plan_file import (
    compressed_encoder,
    load_compressor,
    load_plan,
    save_compressor,
    save_plan,
)

SPEC = CompressorSpec(features=6, encoder="toy tower", dims=2, width=5, depth=1)


def plan():
    return SemanticPlan(torch.randn(3, 2, 2, 4, generator=torch.Generator().manual_seed(0)), 1 / 3, "toy tower")


def compressor(seed=0):
    made = Compressor(SPEC)
    initialise(made, seed)
    return made


def rewrite(path, tensors=None, **metadata):
    """The file with some of its tensors and metadata changed; None leaves one out."""
    old = Checkpoint(path).metadata | metadata
    save_file(tensors or load_file(path), path, {key: value for key, value in old.items() if value is not None})


def refused(load, path, message):
    with pytest.raises(ValueError, match=rf"^{path.name}: {message}"):
        load(path)


def test_a_plan_survives_its_file(tmp_path):
    save_plan(plan(), tmp_path / "deep" / "a.safetensors")
    got = load_plan(tmp_path / "deep" / "a.safetensors")
    assert torch.equal(got.tokens, plan().tokens)
    assert (got.fps, got.encoder) == (1 / 3, "toy tower")
    broken = plan()
    broken.tokens[0] = float("nan")
    with pytest.raises(ValueError, match="^plan: holds NaN"):
        save_plan(broken, tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": None}, "is no plan: its metadata gives the format as None, expected semantic-plan"),
        ({"format": "plan-compressor"}, "is no plan: its metadata gives the format as plan-compressor"),
        ({"version": "2"}, "is a plan of version 2; this pack reads 1. Update the pack"),
        ({"fps": None}, "fps is '' in its metadata, expected a number above 0"),
        ({"fps": "0"}, "fps is '0' in its metadata"),
        ({"fps": "-1"}, "fps is '-1' in its metadata"),
        ({"fps": "nan"}, "fps is 'nan' in its metadata"),
        ({"fps": "1e999"}, "fps is '1e999' in its metadata"),
        ({"encoder": None}, "its metadata lacks encoder, or it is damaged"),
        ({"encoder": "x" * 2000}, "its metadata lacks encoder, or it is damaged"),
        ({"tensors": {"tokens": torch.zeros(3, 2, 2)}}, r"tokens of shape \(3, 2, 2\), expected \[time, height"),
        ({"tensors": {"tokens": torch.zeros(0, 2, 2, 4)}}, "tensor 'tokens' is empty"),
        ({"tensors": {"tokens": torch.zeros(1, 2, 2, 4).int()}}, "tensor 'tokens' is of I32"),
        ({"tensors": {"tokens": torch.full((1, 2, 2, 4), float("nan"))}}, "tensor 'tokens' holds NaN"),
        ({"tensors": {"a": torch.zeros(1)}}, "holds 1 tensors, expected one, 'tokens'"),
        ({"tensors": {"a": torch.zeros(1), "tokens": torch.zeros(1, 1, 1, 1)}}, "holds 2 tensors, expected one"),
    ],
)
def test_what_is_no_plan(tmp_path, change, message):
    path = tmp_path / "a.safetensors"
    save_plan(plan(), path)
    rewrite(path, **change)
    refused(load_plan, path, message)


def test_a_compressor_survives_its_file(tmp_path):
    made, path = compressor(), tmp_path / "c.safetensors"
    save_compressor(made, path)
    patcher, encoder = load_compressor(path)
    assert patcher.model.spec == SPEC
    features = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    for got, expected in zip(patcher.model(features), made(features)):
        torch.testing.assert_close(got, expected)
    assert encoder == compressed_encoder(SPEC, made.state_dict())
    assert encoder.startswith("toy tower > 2 dims ")


def test_plans_of_two_compressors_have_two_names():
    one, same, other = compressor(), compressor(), compressor(1)
    assert compressed_encoder(SPEC, one.state_dict()) == compressed_encoder(SPEC, same.state_dict())
    assert compressed_encoder(SPEC, one.state_dict()) != compressed_encoder(SPEC, other.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "semantic-plan"}, "is no compressor of plans: its metadata gives the format as semantic-plan"),
        ({"features": "six"}, "features is 'six' in its metadata, expected a whole number"),
        ({"features": None}, "its metadata lacks features, or it is damaged"),
        ({"features": "1" * 12}, "features is '111111111111' in its metadata, expected a whole number"),
        ({"features": "7"}, r"2 tensors do not fit, first 'feature_mean': expected \(7,\), found \(6,\)|3 tensors"),
        ({"dims": "0"}, "dims 0: must be from 1 to 4096"),
        ({"depth": "99"}, "depth 99: must be from 0 to 16"),
        ({"encoder": None}, "its metadata lacks encoder"),
    ],
)
def test_what_is_no_compressor(tmp_path, change, message):
    path = tmp_path / "c.safetensors"
    save_compressor(compressor(), path)
    rewrite(path, **change)
    refused(load_compressor, path, message)


def test_every_tensor_of_a_compressor_counts(tmp_path):
    path, state = tmp_path / "c.safetensors", compressor().state_dict()
    for key, value in state.items():
        for changed, message in (
            ({k: v for k, v in state.items() if k != key}, rf"1 tensors do not fit, first '{key}'.*found none"),
            (state | {key: value[None]}, f"1 tensors do not fit, first '{key}'"),
            (state | {key: value * float("nan")}, f"tensor '{key}' holds NaN"),
        ):
            save_compressor(compressor(), path)
            rewrite(path, {k: v.contiguous() for k, v in changed.items()})
            refused(load_compressor, path, message)
