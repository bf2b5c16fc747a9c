"""Features of every vision tower against the module that they come from, called naively."""

import json
from types import SimpleNamespace

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import pytest
import torch
from comfy.text_encoders.qwen_vl import Qwen2VLVisionTransformer
from safetensors.torch import load_file, save_file

from semantic_video.harness.toy import randomize
from semantic_video.host.clip import DEVIATION, MEAN
from semantic_video.host.qwen_folder import load_qwen_tower
from semantic_video.host.vision import fingerprint, grid_of, tower_of
from semantic_video.tests.host.clips import frames, host_objects

SIZES = {
    "depth": 4,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_heads": 4,
    "out_hidden_size": 24,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [1, 3],
}
HOST_SIZES = {
    "hidden_size": 32,
    "output_hidden_size": 24,
    "intermediate_size": 40,
    "num_heads": 4,
    "num_layers": 4,
}


@pytest.fixture(scope="module")
def reference():
    """A tiny tower of transformers, random weights."""
    pytest.importorskip("transformers")
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    with torch.inference_mode(False), torch.no_grad():
        model = Qwen2_5_VisionTransformerPretrainedModel(Qwen2_5_VLVisionConfig(**SIZES)).eval()
        randomize(model)
    return model


def write_folder(folder, reference, prefix="visual.", **config):
    """As Hugging Face has it, with a tensor of the language model that nobody reads."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"{prefix}{key}": value.contiguous() for key, value in reference.state_dict().items()}
    save_file(weights | {"model.norm.weight": torch.ones(3)}, folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps({"model_type": "qwen2_5_vl", "vision_config": SIZES} | config), encoding="utf-8"
    )
    return folder


def naive_patches(video, rows, columns):
    """Patch by patch, in the order in which Qwen's processor lays them out."""
    x = torch.nn.functional.interpolate(
        video.movedim(-1, 1), size=(rows * 28, columns * 28), mode="bicubic", antialias=True
    ).clamp(0, 1)
    x = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)
    patches = []
    for time in range(0, len(video), 2):
        for row in range(rows):
            for column in range(columns):
                for top in (28 * row, 28 * row + 14):
                    for left in (28 * column, 28 * column + 14):
                        patches.append(x[time : time + 2, :, top : top + 14, left : left + 14].movedim(0, 1).flatten())
    return torch.stack(patches), torch.tensor([[len(video) // 2, 2 * rows, 2 * columns]])


def naive_features(reference, video, rows, columns):
    out = reference(*naive_patches(video, rows, columns))
    out = out if isinstance(out, torch.Tensor) else out.pooler_output
    return out.reshape(len(video) // 2, rows, columns, -1)


@pytest.mark.parametrize(
    ("height", "width", "longest", "rows", "columns"),
    [(140, 84, 0, 5, 3), (100, 150, 0, 4, 5), (300, 150, 112, 4, 2), (300, 150, 1000, 11, 5), (20, 10, 0, 1, 1)],
)
def test_a_folder_gives_the_features_of_transformers(tmp_path, reference, height, width, longest, rows, columns):
    tower = load_qwen_tower(write_folder(tmp_path / "Qwen", reference))
    video = frames(4, height, width)
    got = tower.encode(video, longest)
    assert got.shape == (2, rows, columns, 24)
    torch.testing.assert_close(got, naive_features(reference, video, rows, columns), rtol=1e-4, atol=1e-5)
    assert tower.frames == 2


def test_token_frames_do_not_see_each_other(tmp_path, reference):
    """So that they may be encoded in batches of any size."""
    tower = load_qwen_tower(write_folder(tmp_path / "Qwen", reference))
    video = frames(6, 140, 84)
    parts = torch.cat([tower.encode(video[:2], 0), tower.encode(video[2:], 0)])
    torch.testing.assert_close(parts, tower.encode(video, 0), rtol=1e-5, atol=1e-6)
    assert tower.batch(480, 832, 0) == 2**14 // (34 * 60)
    assert tower.batch(10000, 10000, 0) == 1


@pytest.mark.parametrize("prefix", ["visual.", "model.visual.", ""])
def test_every_form_of_a_folder(tmp_path, reference, prefix):
    whole = load_qwen_tower(write_folder(tmp_path / "whole", reference))
    tower = load_qwen_tower(write_folder(tmp_path / "other", reference, prefix)) if prefix else None
    if not prefix:
        folder = write_folder(tmp_path / "alone", reference, "", vision_config=SIZES)
        save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(SIZES | {"model_type": "qwen2_5_vl"}), encoding="utf-8")
        tower = load_qwen_tower(folder)
    assert tower.name == whole.name
    assert tower.name.startswith("qwen2.5-vl 24 ")
    assert torch.equal(tower.encode(frames(2, 84, 84), 0), whole.encode(frames(2, 84, 84), 0))


def test_shards_are_read_together(tmp_path, reference):
    folder = write_folder(tmp_path / "Qwen", reference)
    weights = load_file(folder / "model.safetensors")
    keys = sorted(weights)
    (folder / "model.safetensors").unlink()
    for number, part in enumerate((keys[::2], keys[1::2]), start=1):
        save_file({key: weights[key] for key in part}, folder / f"model-0000{number}-of-00002.safetensors")
    tower = load_qwen_tower(folder)
    got = tower.encode(frames(2, 84, 84), 0)
    torch.testing.assert_close(got, naive_features(reference, frames(2, 84, 84), 3, 3), rtol=1e-4, atol=1e-5)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"^model-00001-of-00002\.safetensors: 1 of the checkpoint's 2 files are miss"):
        load_qwen_tower(folder)


def text_encoder(reference=None):
    """A CLIP whose model holds the host's own tower, as Qwen-Image's does."""
    visual = Qwen2VLVisionTransformer(**HOST_SIZES, device="cpu", dtype=torch.float32, ops=comfy.ops.manual_cast)
    visual.fullatt_block_indexes = SIZES["fullatt_block_indexes"]
    if reference is None:
        for parameter in visual.parameters():
            parameter.zero_()
    else:
        visual.load_state_dict(reference.state_dict())
    model = torch.nn.Module()
    model.qwen25_7b = torch.nn.Module()
    model.qwen25_7b.transformer = torch.nn.Module()
    model.qwen25_7b.transformer.visual = visual
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
    return SimpleNamespace(cond_stage_model=model, patcher=patcher)


def test_the_host_s_text_encoder_gives_the_same(tmp_path, reference):
    tower, folder = tower_of(text_encoder(reference)), load_qwen_tower(write_folder(tmp_path / "Qwen", reference))
    video = frames(4, 140, 84)
    assert torch.equal(tower.encode(video, 0), folder.encode(video, 0))
    assert tower.name == folder.name, "plans of both mix"


def test_the_host_s_own_text_encoders_carry_the_tower():
    """Qwen-Image's and HunyuanVideo 1.5's, of full size, without their memory."""
    from comfy.text_encoders.hunyuan_image import HunyuanImageTEModel
    from comfy.text_encoders.qwen_image import QwenImageTEModel

    for build in (QwenImageTEModel, lambda **place: HunyuanImageTEModel(byt5=False, **place)):
        with torch.device("meta"):
            model = build(device="meta", dtype=torch.bfloat16)
        (visual,) = (part for part in model.modules() if isinstance(part, Qwen2VLVisionTransformer))
        assert visual is model.qwen25_7b.transformer.visual
        assert (visual.patch_size, visual.spatial_merge_size, visual.patch_embed.temporal_patch_size) == (14, 2, 2)
        assert grid_of(visual, 480, 832, 0) == (17, 30)


def test_text_encoders_without_a_tower():
    with pytest.raises(ValueError, match=r"^encoder: its vision tower has no weights; the file holds the text part"):
        tower_of(text_encoder())
    bare = SimpleNamespace(cond_stage_model=torch.nn.Linear(1, 1), patcher=None)
    with pytest.raises(ValueError, match=r"^encoder: the text encoder Linear has no Qwen2\.5-VL vision tower"):
        tower_of(bare)
    with pytest.raises(ValueError, match=r"^encoder: a int has no vision tower"):
        tower_of(3)


def test_clip_vision_gives_its_patches_in_order(open_clip_weights):
    eye = host_objects(open_clip_weights[1])[0]
    tower, video = tower_of(eye), frames(3, 60, 90)
    square = torch.nn.functional.interpolate(video.movedim(-1, 1), size=(48, 48), mode="bicubic", antialias=True)
    square = (255 * square).clamp(0, 255).round() / 255
    normal = (square - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)
    hidden = eye.model(pixel_values=normal, intermediate_output=-2)[1]
    got = tower.encode(video, 0)
    assert got.shape == (3, 6, 6, 64)
    torch.testing.assert_close(got[1, 4, 2], hidden[1, 1 + 4 * 6 + 2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.reshape(3, 36, 64), hidden[:, 1:], rtol=1e-4, atol=1e-5)
    assert tower.frames == 1


def test_the_pack_s_own_clip_gives_the_same(clip, open_clip_weights):
    own, host = tower_of(clip), tower_of(host_objects(open_clip_weights[1])[0])
    video = frames(2, 60, 90)
    torch.testing.assert_close(own.encode(video, 0), host.encode(video, 0), rtol=1e-4, atol=1e-5)
    assert own.name == host.name
    assert own.name.startswith("clip_vision_model 5 layers 64 patch 8 of 48 ")


def test_fingerprints_tell_weights_and_not_dtypes():
    weight = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert fingerprint(weight) == fingerprint(weight.bfloat16()) == fingerprint(weight.half())
    assert fingerprint(weight) != fingerprint(weight.flip(0))
    assert fingerprint(-torch.ones(64)) == "f" * 16
    assert fingerprint(torch.tensor([1.0] * 60 + [-1.0] * 4)) == "0" * 15 + "f"
