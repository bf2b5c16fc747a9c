"""Techniques on a model that ComfyUI-GGUF has loaded, from the user's own copy of it: the same as on its weights as
plain tensors."""

import importlib
import json
import os
import sys
import types
from pathlib import Path

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample, seeded
from semantic_video.harness.toy import TOYS, write_toy
from semantic_video.patches import alignvid, ssg_adapter, swin_renderer
from semantic_video.patches.ssg_guide import Guide
from semantic_video.tests.host.conftest import HOST

PEERS = "SEMANTIC_VIDEO_PEERS"
FOLDER = Path(os.environ[PEERS] if os.environ.get(PEERS) else HOST / "custom_nodes", "ComfyUI-GGUF")
NAME = "wan-t2v"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(the toy as ComfyUI-GGUF loads it, its weights as plain tensors). Matrices: Q8_0, else F16."""
    if not FOLDER.exists():
        pytest.skip(f"NOT TRIED on GGUF: {FOLDER} is not there. {PEERS} names a folder of packs.")
    gguf = pytest.importorskip(
        "gguf", reason="NOT TRIED on GGUF: the package gguf, which ComfyUI-GGUF needs, is missing"
    )
    import comfy.sd
    from safetensors.torch import load_file

    package = sys.modules["peer_gguf"] = types.ModuleType("peer_gguf")
    package.__path__ = [str(FOLDER)]
    loader, ops = (importlib.import_module(f"peer_gguf.{name}") for name in ("loader", "ops"))
    folder = tmp_path_factory.mktemp("gguf")
    weights = load_file(write_toy(NAME, folder / "toy.safetensors"))
    writer, plain = gguf.GGUFWriter(str(folder / "toy.gguf"), "wan"), {}
    kind = gguf.GGMLQuantizationType.Q8_0
    for key, weight in weights.items():
        packed = weight.ndim == 2 and weight.shape[1] % 32 == 0
        weight = weight.half() if weight.ndim == 2 else weight
        data = gguf.quants.quantize(weight.float().numpy(), kind) if packed else weight.numpy()
        if weight.ndim > 4:
            writer.add_array(f"comfy.gguf.orig_shape.{key}", list(weight.shape))
            data = data.reshape(weight.shape[0], -1)
        writer.add_tensor(key, data, raw_dtype=kind if packed else None)
        plain[key] = torch.from_numpy(gguf.quants.dequantize(data, kind)) if packed else weight.float()
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    assert sum(not torch.equal(plain[key], weights[key]) for key in weights) > 10, "nothing was quantised"
    config = TOYS[NAME].config
    metadata = {"config": json.dumps({"transformer": {name: config[name] for name in ("num_heads", "text_dim")}})}
    loaded = loader.gguf_sd_loader(str(folder / "toy.gguf"))
    state = loaded[0] if isinstance(loaded, tuple) else loaded
    load = comfy.sd.load_diffusion_model_state_dict
    return load(state, {"custom_operations": ops.GGMLOps()}, metadata), load(plain, {}, metadata)


def techniques(adapters):
    guide = Guide(seeded(1, 13, 20, seed=40))
    return {
        "none": lambda model: model,
        "Swin Renderer": lambda model: swin_renderer.apply(model, swin_renderer.SwinRenderer(window=4)),
        "AlignVid": lambda model: alignvid.apply(model, alignvid.AlignVid()),
        "SSG Adapter": lambda model: ssg_adapter.apply(model, adapters(NAME), guide),
    }


@pytest.mark.parametrize("technique", ["none", "Swin Renderer", "AlignVid", "SSG Adapter"])
def test_the_same_as_on_plain_tensors(models, adapters, technique):
    """As near as the model itself, which that pack keeps partly in fp16, and far nearer than without the technique."""
    packed, plain = models
    apply, shot = techniques(adapters)[technique], Shot(NAME, steps=2)
    expected = sample(apply(plain), shot)
    error = (sample(apply(packed), shot) - expected).norm()
    assert error < 0.01 * expected.norm()
    assert technique == "none" or (expected - sample(plain, shot)).norm() > 5 * error
