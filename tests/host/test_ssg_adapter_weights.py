"""The SSG Adapter's weights: their dtypes, loading and files."""

from dataclasses import replace

import comfy.model_management
import pytest
import torch
from safetensors.torch import load_file, save_file

from semantic_video.harness.sampling import Shot, sample, seeded
from semantic_video.harness.toy import TOYS, write_toy, write_toy_adapter
from semantic_video.host.weights import Checkpoint
from semantic_video.kernels.ssg_adapter import SSGAdapter, initialise
from semantic_video.kernels.ssg_spec import Spec
from semantic_video.patches.ssg_adapter import apply
from semantic_video.patches.ssg_adapter_file import load_adapter
from semantic_video.patches.ssg_guide import Guide
from semantic_video.tests.host.ssg_reference import IMAGE, SMALL


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_mixed_dtypes_and_fp8(toys, adapters, name):
    shot, full = Shot(name, steps=1), sample(apply(toys(name), adapters(name), Guide(IMAGE)), Shot(name, steps=1))
    for model, adapter, bound in (
        ({"dtype": torch.bfloat16}, None, 0.1),
        ({}, torch.bfloat16, 0.02),
        ({}, torch.float8_e4m3fn, 0.2),
        ({"dtype": torch.float8_e4m3fn}, torch.float8_e5m2, 1.0),
    ):
        loaded = adapters(name, dtype=adapter)
        assert next(loaded.model.parameters()).dtype == (adapter or torch.float32)
        result = sample(apply(toys(name, **model), loaded, Guide(IMAGE)), shot)
        assert torch.isfinite(result).all()
        assert (result - full).norm() < bound * full.norm()


def test_the_host_loads_and_clones_the_adapter(toys, adapters):
    adapter = adapters()
    patched = apply(toys("wan-t2v"), adapter, Guide(IMAGE)).clone().clone()
    sample(patched, Shot("wan-t2v", steps=1))
    assert any(
        loaded.model is not None and loaded.model.model is adapter.model
        for loaded in comfy.model_management.current_loaded_models
    )
    assert adapter.model_size() == sum(t.numel() * t.element_size() for t in adapter.model.state_dict().values())


def test_files_that_are_no_adapter_are_refused(tmp_path, adapters):
    path = write_toy_adapter(tmp_path / "adapter.safetensors", **SMALL)
    weights, metadata = load_file(path), Checkpoint(path).metadata
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-100])
    (tmp_path / "noise.safetensors").write_bytes(b"nothing of the kind" * 10)
    (tmp_path / "adapter.pt").write_bytes(b"")
    save_file({"lora.up": torch.zeros(2)}, tmp_path / "lora.safetensors")
    save_file(weights, tmp_path / "newer.safetensors", metadata | {"version": "2"})
    save_file(weights, tmp_path / "wide.safetensors", metadata | {"width": "64"})
    save_file({k: v for k, v in weights.items() if "gate" not in k}, tmp_path / "part.safetensors", metadata)
    save_file({}, tmp_path / "empty.safetensors", metadata)
    for name, message in (
        ("cut.safetensors", r"cut\.safetensors: damaged or incomplete"),
        ("noise.safetensors", "damaged or incomplete"),
        ("adapter.pt", r"not a \.safetensors file"),
        ("missing.safetensors", "no such file"),
        ("lora.safetensors", r"lora\.safetensors: is no SSG Adapter: its metadata gives the format as None"),
        ("newer.safetensors", "version 2; this pack reads 1. Update the pack"),
        ("wide.safetensors", r"wide\.safetensors: .* tensors do not fit"),
        ("part.safetensors", "2 tensors do not fit, first 'branches.0.gate'"),
        ("empty.safetensors", "tensors do not fit"),
    ):
        with pytest.raises(ValueError, match=message):
            load_adapter(tmp_path / name)


def test_a_whole_file_of_another_size_is_read(tmp_path):
    """ViT-L's features, another rank, other blocks: nothing about the size is fixed."""
    spec = replace(Spec("wan", 48, 2, (1,)), rank=3, clip_width=1024, grid=(24, 24), token_width=32)
    adapter = SSGAdapter(spec, dtype=torch.float16)
    initialise(adapter)
    save_file(adapter.state_dict(), tmp_path / "l.safetensors", spec.metadata)
    loaded = load_adapter(tmp_path / "l.safetensors")
    assert loaded.model.spec == spec
    assert next(loaded.model.parameters()).dtype == torch.float16
    import comfy.sd

    model = comfy.sd.load_diffusion_model(str(write_toy("wan-t2v", tmp_path / "toy.safetensors")))
    shot = Shot("wan-t2v", steps=1)
    assert torch.equal(sample(apply(model, loaded, Guide(seeded(1, 577, 1024))), shot), sample(model, shot))
    assert TOYS["wan-t2v"].config["dim"] == 48
