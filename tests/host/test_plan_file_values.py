"""Files of plans and compressors: limits of what their metadata says, and the name of what a compressor makes."""

import hashlib
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from semantic_video.host.weights import Checkpoint
from semantic_video.patches.plan_file import (
    LONGEST_NAME,
    compressed_encoder,
    count,
    load_compressor,
    load_plan,
    number,
    save_compressor,
    save_plan,
    text,
)
from semantic_video.tests.host.test_plan_file import SPEC, compressor, plan, rewrite


def file_of(**metadata):
    return SimpleNamespace(metadata=metadata, path=SimpleNamespace(name="x.safetensors"))


def test_texts():
    for value in ("a", "b" * LONGEST_NAME):
        assert text(file_of(key=value), "key") == value
    for metadata in ({}, {"key": ""}, {"key": "b" * (LONGEST_NAME + 1)}):
        with pytest.raises(ValueError, match=r"^x.safetensors: its metadata lacks key, or it is damaged. Export"):
            text(file_of(**metadata), "key")


def test_numbers():
    assert number(file_of(key="1e-9"), "key") == 1e-9 and number(file_of(key=" 24 "), "key") == 24.0
    for value in ("0", "-1", "inf", "nan", "a" * 50, ""):
        with pytest.raises(
            ValueError, match=f"^x.safetensors: key is '{value[:40]}' in its metadata, expected a number"
        ):
            number(file_of(key=value), "key")


def test_counts():
    assert count(file_of(key="0"), "key") == 0 and count(file_of(key="9" * 9), "key") == 999999999
    for value in ("9" * 10, "-1", "1.0", "\u00b2", "\u0663", "b" * 50):
        with pytest.raises(
            ValueError, match=f"^x.safetensors: key is '{value[:40]}' in its metadata, expected a whole"
        ):
            count(file_of(key=value), "key")


def test_what_is_written(tmp_path):
    save_plan(plan(), tmp_path / "p.safetensors")
    about = {"format": "semantic-plan", "version": "1", "fps": repr(1 / 3), "encoder": "toy tower"}
    assert Checkpoint(tmp_path / "p.safetensors").metadata == about
    half = plan()
    half.tokens.data = half.tokens.bfloat16()
    save_plan(half, tmp_path / "half.safetensors")
    assert load_file(tmp_path / "half.safetensors")["tokens"].dtype == torch.float32
    save_compressor(compressor(), tmp_path / "c.safetensors")
    about = {"features": "6", "encoder": "toy tower", "dims": "2", "width": "5", "depth": "1"}
    assert Checkpoint(tmp_path / "c.safetensors").metadata == about | {"format": "plan-compressor", "version": "1"}


@pytest.mark.parametrize("encoder", ["e", "e" * LONGEST_NAME])
def test_encoders_of_any_name(tmp_path, encoder):
    save_plan(plan(), tmp_path / "p.safetensors")
    rewrite(tmp_path / "p.safetensors", encoder=encoder)
    assert load_plan(tmp_path / "p.safetensors").encoder == encoder


def test_a_compressor_s_name_is_of_its_weights(tmp_path):
    """SHA-256 of names and float32 values in the order of names, twelve digits of it."""
    state = compressor().state_dict()
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode() + state[key].numpy().tobytes())
    name = f"toy tower > 2 dims {digest.hexdigest()[:12]}"
    assert compressed_encoder(SPEC, state) == name == compressed_encoder(SPEC, dict(reversed(state.items())))
    assert compressed_encoder(SPEC, {key: value.double() for key, value in state.items()}) == name
    turned = {key: value.T.contiguous().T if value.ndim == 2 else value for key, value in state.items()}
    assert compressed_encoder(SPEC, turned) == name
    save_compressor(compressor(), tmp_path / "c.safetensors")
    for dtype, stored in ((None, torch.float32), (torch.bfloat16, torch.bfloat16)):
        patcher, found = load_compressor(tmp_path / "c.safetensors", dtype)
        assert found == name and {value.dtype for value in patcher.model.state_dict().values()} == {stored}
    rewrite(tmp_path / "c.safetensors", dims="0")
    with pytest.raises(ValueError) as refused:
        load_compressor(tmp_path / "c.safetensors")
    assert str(refused.value) == "c.safetensors: dims 0: must be from 1 to 4096. Export or copy the file again."
    rewrite(tmp_path / "c.safetensors", dims=None)
    with pytest.raises(ValueError) as refused:
        load_compressor(tmp_path / "c.safetensors")
    assert (
        str(refused.value) == "c.safetensors: its metadata lacks dims, or it is damaged. Export or copy the file again."
    )
