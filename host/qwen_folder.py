"""The vision tower of a Qwen2.5-VL folder as Hugging Face has it: config.json and safetensors, of which only the tower
is read. ComfyUI's own module runs it, so that it is placed, cast and offloaded as any model; no network, no pickle."""

import json
import re
from pathlib import Path

import folder_paths
from comfy.text_encoders.qwen_vl import Qwen2VLVisionTransformer
from torch import Tensor, nn

from .clip_config import DAMAGED, is_count, read_short, reason
from .vision import VisionTower, qwen_tower
from .weights import Checkpoint, load_weights, on_meta, require_fit

FOLDER = "text_encoders"  # where folders of whole models lie; ComfyUI reads single files of it
PREFIXES = ("visual.", "model.visual.", "")  # as published; as newer transformers save; the tower alone
DEFAULTS = {"num_heads": 16, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]}
MOST_BLOCKS = 256
REMEDY = "Download the folder again, whole."


def tower_folders() -> list[str]:
    """Names of folders in models/text_encoders, at most two deep, that hold a config.json."""
    found = set()
    for root in map(Path, folder_paths.get_folder_paths(FOLDER)):
        for pattern in ("*/config.json", "*/*/config.json"):
            found |= {path.parent.relative_to(root).as_posix() for path in root.glob(pattern)}
    return sorted(found)


def folder_path(name: str) -> Path:
    """Raises ValueError for names that are no folder in models/text_encoders."""
    for root in map(Path, folder_paths.get_folder_paths(FOLDER)):
        path = root / name if "\0" not in name else root
        if name and path.is_dir() and path.resolve().is_relative_to(root.resolve()) and path != root:
            return path
    raise ValueError(
        f"folder '{name[:80]}': no such folder in models/{FOLDER}. Put Qwen2.5-VL-3B-Instruct or another Qwen2.5-VL "
        "there, as Hugging Face has it, and refresh."
    )


def load_qwen_tower(folder: str | Path) -> VisionTower:
    """Raises ValueError, naming folder and file, for folders that are missing, incomplete, or of another model."""
    folder = Path(folder)
    said = configuration(folder)
    file = Checkpoint(weights_file(folder))
    names = tower_names(file.keys, folder.name)
    header = file.header(names)
    sizes = tower_sizes(header, said, folder.name)

    def build(dtype, device, operations) -> nn.Module:
        module = Qwen2VLVisionTransformer(**sizes, dtype=dtype, device=device, ops=operations)
        module.fullatt_block_indexes = said["fullatt_block_indexes"]
        return module

    require_fit(on_meta(build), header, folder.name, REMEDY)
    stored = header["patch_embed.proj.weight"].dtype
    patcher = load_weights(build, file.read(names), folder.name, stored)
    return qwen_tower(patcher.model, patcher, folder.name)


def configuration(folder: Path) -> dict:
    """What of config.json tensors do not tell. Raises ValueError for other models' and damaged ones."""
    path = folder / "config.json"
    if not folder.is_dir():
        raise ValueError(f"{folder.name}: no such folder. Put a whole Qwen2.5-VL into models/{FOLDER}, and refresh.")
    if not path.is_file():
        raise ValueError(f"{folder.name}: holds no config.json. {REMEDY}")
    try:
        config = json.loads(read_short(path))
        kind = config.get("model_type")
        vision = DEFAULTS | config.get("vision_config", config)
        heads, window, blocks = (vision[key] for key in DEFAULTS)
        whole = is_count(heads) and is_count(window) and all(is_count(i) or i == 0 for i in blocks)
    except DAMAGED as error:
        raise ValueError(f"{folder.name}: its config.json is damaged ({reason(error)}). {REMEDY}") from None
    if not str(kind).startswith("qwen2_5_vl"):
        raise ValueError(
            f"{folder.name}: is of another model, model_type '{str(kind)[:40]}'; expected qwen2_5_vl. Use a "
            "Qwen2.5-VL, such as Qwen2.5-VL-3B-Instruct."
        )
    if not whole:
        raise ValueError(f"{folder.name}: its config.json is damaged ({', '.join(DEFAULTS)}). {REMEDY}")
    return {"num_heads": heads, "window_size": window, "fullatt_block_indexes": list(blocks)}


def weights_file(folder: Path) -> Path:
    """The checkpoint's first file. Raises ValueError where there is none, or it is no safetensors."""
    files = sorted(folder.glob("*.safetensors"))
    chosen = [file for file in files if file.name == "model.safetensors" or "-of-" in file.name] or files
    if not chosen:
        other = sorted(file.name for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".gguf"))
        found = f"; {other[0]} is not read, it can carry code or is for other programs" if other else ""
        raise ValueError(f"{folder.name}: holds no .safetensors{found}. {REMEDY}")
    return chosen[0]


def tower_names(keys: list[str], source: str) -> dict[str, str]:
    """{key: name in the tower}. Raises ValueError where there is no tower."""
    for prefix in PREFIXES:
        names = {key: key[len(prefix) :] for key in keys if key.startswith(prefix)}
        if "patch_embed.proj.weight" in names.values():
            return names
    raise ValueError(f"{source}: its safetensors hold no vision tower ('visual.patch_embed.proj.weight'). {REMEDY}")


def tower_sizes(header: dict[str, Tensor], said: dict, source: str) -> dict:
    """Of the module, from tensors, of which only shapes are looked at. Raises ValueError for what is no Qwen2.5-VL."""
    patch = header["patch_embed.proj.weight"].shape
    needed = "blocks.0.mlp.gate_proj.weight", "merger.mlp.0.weight", "merger.mlp.2.weight"
    missing = [name for name in needed if name not in header or header[name].ndim != 2]
    if missing or len(patch) != 5 or patch[1] != 3:
        raise ValueError(
            f"{source}: its vision tower is incomplete or another model's, first '{(missing or ['patch_embed'])[0]}'. "
            f"{REMEDY}"
        )
    width, heads = patch[0], said["num_heads"]
    merge = round((header["merger.mlp.0.weight"].shape[1] / width) ** 0.5)
    blocks = {int(match[1]) for name in header if (match := re.match(r"blocks\.(\d{1,4})\.", name))}
    if blocks != set(range(len(blocks))) or len(blocks) > MOST_BLOCKS:
        raise ValueError(f"{source}: blocks of its vision tower are missing; {len(blocks)} are there. {REMEDY}")
    if width % (4 * heads) or merge < 1 or said["window_size"] < merge * patch[-1]:
        raise ValueError(
            f"{source}: its config.json does not fit its vision tower of {width} channels ({heads} heads, window "
            f"{said['window_size']}). {REMEDY}"
        )
    return {
        "hidden_size": width,
        "output_hidden_size": header["merger.mlp.2.weight"].shape[0],
        "intermediate_size": header["blocks.0.mlp.gate_proj.weight"].shape[0],
        "num_heads": heads,
        "num_layers": len(blocks),
        "patch_size": patch[-1],
        "temporal_patch_size": patch[2],
        "spatial_merge_size": merge,
        "window_size": said["window_size"],
    }
