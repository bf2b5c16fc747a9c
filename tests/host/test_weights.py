"""Extra weights: read lazily, refused with a reason, loaded and moved by the host."""

import hashlib

import comfy.model_management
import pytest
import torch
from safetensors.torch import save_file

from semantic_video.harness.sampling import Shot, sample
from semantic_video.host.weights import attach_weights, load_weights, read_weights, weights_digest


def build(dtype, device, operations):
    return torch.nn.Sequential(
        operations.Linear(4, 3, dtype=dtype, device=device), operations.LayerNorm(3, dtype=dtype, device=device)
    )


@pytest.fixture
def file(tmp_path):
    tensors = {
        f"adapter.{key}": torch.randn_like(value)
        for key, value in build(torch.float32, "cpu", torch.nn).state_dict().items()
    }
    save_file(tensors | {"other.weight": torch.zeros(2)}, tmp_path / "adapter.safetensors", {"family": "wan"})
    return tmp_path / "adapter.safetensors", tensors


def test_only_the_prefix_is_read(file):
    weights, metadata = read_weights(file[0], "adapter.")
    assert set(weights) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert metadata == {"family": "wan"}


def test_weights_are_the_host_s_to_place(file, toys):
    weights, _ = read_weights(file[0], "adapter.")
    patcher = load_weights(build, weights, "adapter", torch.float32)
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    carrier = attach_weights(model, "adapter", patcher)
    assert torch.equal(sample(model, shot), sample(carrier, shot))
    assert any(
        loaded.model is not None and loaded.model.model is patcher.model
        for loaded in comfy.model_management.current_loaded_models
    )
    assert not model.get_additional_models_with_key("adapter")
    x = torch.randn(2, 4)
    expected = torch.nn.functional.layer_norm(
        x @ weights["0.weight"].T + weights["0.bias"], (3,), weights["1.weight"], weights["1.bias"]
    )
    torch.testing.assert_close(patcher.model(x), expected)
    half = load_weights(build, weights, "adapter", torch.bfloat16)
    assert half.model(x).dtype == torch.float32, "stored small, computed in the input's dtype"


def test_files_that_cannot_be_right_are_refused(file, tmp_path):
    path, _ = file
    with pytest.raises(ValueError, match=r"no such file"):
        read_weights(tmp_path / "missing.safetensors")
    with pytest.raises(ValueError, match=r"not a \.safetensors file"):
        read_weights(tmp_path / "adapter.pt")
    with pytest.raises(ValueError, match=r"holds no tensors 'expert\.\*'"):
        read_weights(path, "expert.")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"cut\.safetensors: damaged or incomplete"):
        read_weights(cut)
    weights, _ = read_weights(path, "adapter.")
    with pytest.raises(
        ValueError,
        match=r"narrow\.safetensors: 1 tensors do not fit, first '0\.weight': expected \(3, 4\), found \(3, 5\)",
    ):
        load_weights(build, weights | {"0.weight": torch.zeros(3, 5)}, "narrow.safetensors")


def test_digest_is_of_names_shapes_dtypes_and_values():
    a, b = torch.arange(6.0).view(2, 3), torch.tensor(3, dtype=torch.float16)
    expected = hashlib.sha256(
        b"a (2, 3) torch.float32\n" + a.numpy().tobytes() + b"b () torch.float16\n" + b.numpy().tobytes()
    ).hexdigest()
    assert weights_digest({"b": b, "a": a}) == weights_digest({"a": a, "b": b}) == expected
    assert weights_digest({"a": a.T.contiguous().T, "b": b}) == expected, "the same numbers, however they lie in memory"
    changed = a.clone()
    changed[1, 2] += 1e-6
    others = [{"a": changed, "b": b}, {"a": a.view(3, 2), "b": b}, {"a": a, "c": b}, {"a": a, "b": b.float()}]
    assert len({expected, *(weights_digest(other) for other in others)}) == 5
    small = hashlib.sha256(b"a (2, 3) torch.float32\nb () torch.float16\n" + b.numpy().tobytes()).hexdigest()
    assert weights_digest({"a": a, "b": b}, largest=5) == weights_digest({"a": changed, "b": b}, largest=5) == small
    assert weights_digest({"a": a, "b": b}, largest=6) == expected
    assert weights_digest({"a": a.to("meta"), "b": b}) == small
    assert len(weights_digest({"a": a.to(torch.bfloat16), "b": a.to(torch.float8_e4m3fn)})) == 64
