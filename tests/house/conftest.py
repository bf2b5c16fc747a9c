"""A copy of the pack far from any ComfyUI, for commands that must not touch this one."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
COPIED = ("run.py", "cli", "benchmarks", "harness", "host", "kernels", "mini", "miniworld", "patches", "training")


@pytest.fixture
def tree(tmp_path) -> Path:
    """The commands and what they import, with the mini CLIP for weights."""
    pack = tmp_path / "custom" / "pack"
    pack.mkdir(parents=True)
    leave = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.png", "*.jpg", "*.md")
    for name in COPIED:
        source = ROOT / name
        shutil.copytree(source, pack / name, ignore=leave) if source.is_dir() else shutil.copy(source, pack / name)
    shutil.copy(ROOT / "mini" / "weights" / "mini_clip.safetensors", pack / "mini" / "weights")
    results = pack / "benchmarks" / "results"
    results.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "benchmarks" / "results" / "clip-mask-iou.json", results)
    (pack / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "requirements.txt", pack / "tests")
    return pack


@pytest.fixture
def hostless(tmp_path) -> dict[str, str]:
    """An environment in which no ComfyUI is found."""
    home = tmp_path / "home"
    home.mkdir()
    hidden = ("COMFYUI_PATH", "SEMANTIC_VIDEO_READY")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return kept | {"HOME": str(home), "USERPROFILE": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
