"""Folders of Qwen2.5-VL: found, and refused by name where they are missing, incomplete or of another model."""

import re

import folder_paths
import pytest
import torch
from safetensors.torch import load_file, save_file

from semantic_video.host import qwen_folder
from semantic_video.host.qwen_folder import folder_path, load_qwen_tower, tower_folders
from semantic_video.nodes.semantic_plan import VisionTowerLoaderNode
from semantic_video.tests.host.test_vision import reference, write_folder  # noqa: F401  a fixture


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "text_encoders", ([str(tmp_path)], {".safetensors"}))
    return tmp_path


def refused(folder, message):
    with pytest.raises(ValueError, match=rf"^{re.escape(folder.name)}: {message}"):
        load_qwen_tower(folder)


def test_folders_are_listed_and_loaded_by_name(models, reference):  # noqa: F811
    for name in ("Qwen2.5-VL-3B-Instruct", "qwen/small"):
        write_folder(models / name, reference)
    (models / "empty").mkdir()
    assert tower_folders() == ["Qwen2.5-VL-3B-Instruct", "qwen/small"]
    tower = VisionTowerLoaderNode.execute("qwen/small").args[0]
    assert tower.name == load_qwen_tower(models / "Qwen2.5-VL-3B-Instruct").name


@pytest.mark.parametrize("name", ["gone", "", ".", "..", "../other", "a\0b", "qwen/../.."])
def test_names_that_are_no_folder_there(models, name):
    (models / "qwen").mkdir()
    (models.parent / "other").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=r"^folder '.*': no such folder in models/text_encoders\. Put Qwen2\.5-VL-3B"):
        folder_path(name)


def test_missing_folders_and_files(tmp_path, reference):  # noqa: F811
    refused(tmp_path / "gone", r"no such folder\. Put a whole Qwen2\.5-VL into models/text_encoders")
    folder = write_folder(tmp_path / "Qwen", reference)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r"^model\.safetensors: damaged or incomplete"):
        load_qwen_tower(folder)
    weights.unlink()
    refused(folder, r"holds no \.safetensors\. Download the folder again, whole")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    refused(folder, r"holds no \.safetensors; pytorch_model\.bin is not read, it can carry code")
    (folder / "config.json").unlink()
    refused(folder, r"holds no config\.json\. Download the folder again")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", r"its config\.json is damaged \(JSONDecodeError"),
        ("[]", r"its config\.json is damaged \(AttributeError"),
        ('{"model_type": "qwen2_5_vl", "vision_config": 3}', r"its config\.json is damaged \(TypeError"),
        ('{"model_type": "qwen3_vl"}', r"is of another model, model_type 'qwen3_vl'; expected qwen2_5_vl"),
        ('{"vision_config": {}}', "is of another model, model_type 'None'"),
        ('{"model_type": "qwen2_5_vl", "num_heads": "x"}', r"its config\.json is damaged \(num_heads, window_size"),
        ('{"model_type": "qwen2_5_vl", "num_heads": 0}', r"its config\.json is damaged \(num_heads, window_size"),
        ('{"model_type": "qwen2_5_vl", "num_heads": 5}', r"its config\.json does not fit its vision tower of 32 chan"),
        ('{"model_type": "qwen2_5_vl", "num_heads": 4, "window_size": 20}', r"its config\.json does not fit its visi"),
        ('{"model_type": "qwen2_5_vl", "fullatt_block_indexes": [-1]}', r"its config\.json is damaged"),
        ('{"model_type": "qwen2_5_vl", "fullatt_block_indexes": null}', r"its config\.json is damaged"),
    ],
)
def test_configurations_of_other_models(tmp_path, reference, config, message):  # noqa: F811
    folder = write_folder(tmp_path / "Qwen", reference)
    (folder / "config.json").write_text(config, encoding="utf-8")
    refused(folder, message)


def test_every_missing_or_reshaped_tensor_is_refused(tmp_path, reference, monkeypatch):  # noqa: F811
    """By the file's header: nothing is built."""
    folder = write_folder(tmp_path / "Qwen", reference)
    path = folder / "model.safetensors"
    whole, built = load_file(path), []
    monkeypatch.setattr(qwen_folder, "load_weights", lambda *arguments: built.append(arguments))
    for key in whole:
        if not key.startswith("visual."):
            continue
        save_file({k: v for k, v in whole.items() if k != key}, path)
        refused(folder, "")
        save_file(whole | {key: whole[key][None].contiguous()}, path)
        refused(folder, "")
    save_file({"model.norm.weight": torch.ones(3)}, path)
    refused(folder, r"its safetensors hold no vision tower")
    more = {"visual.blocks.9.norm1.weight": torch.ones(32)}
    save_file(whole | more, path)
    refused(folder, r"blocks of its vision tower are missing; 5 are there")
    assert not built


def test_nan_is_refused(tmp_path, reference):  # noqa: F811
    folder = write_folder(tmp_path / "Qwen", reference)
    whole = load_file(folder / "model.safetensors")
    save_file(whole | {"visual.merger.ln_q.weight": torch.full((32,), float("nan"))}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"^model\.safetensors: tensor 'visual\.merger\.ln_q\.weight' holds NaN"):
        load_qwen_tower(folder)


def test_bf16_is_computed_in_fp32(tmp_path, reference):  # noqa: F811
    folder = write_folder(tmp_path / "Qwen", reference)
    whole = load_file(folder / "model.safetensors")
    rounded = {key: value.bfloat16() for key, value in whole.items()}
    save_file(rounded, folder / "model.safetensors")
    half = load_qwen_tower(folder)
    other = write_folder(tmp_path / "other", reference)
    save_file({key: value.float() for key, value in rounded.items()}, other / "model.safetensors")
    video = torch.rand(2, 84, 84, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(half.encode(video, 0), load_qwen_tower(other).encode(video, 0), rtol=1e-4, atol=1e-5)
    assert half.name == load_qwen_tower(other).name
