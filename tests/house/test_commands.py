"""The commands' own logic: finding hosts, reading variants, refusing what does not fit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from semantic_video.cli.bench import main as bench
from semantic_video.cli.hosts import find_hosts, version_of
from semantic_video.cli.report import fill, variants

ROOT = Path(__file__).resolve().parent.parent.parent


def install(folder: Path, version: str = "0.33.0") -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    return folder


def test_hosts_are_found_best_first(tmp_path):
    home = tmp_path / "home"
    hosts = [
        install(tmp_path / "own"),
        install(home / "ComfyUI"),
        install(home / "ComfyUI-0.29", "0.29.0"),
        install(home / "comfy" / "ComfyUI"),
    ]
    pack = tmp_path / "own" / "custom_nodes" / "semantic-video"
    assert find_hosts(pack, {}, home) == hosts
    assert version_of(hosts[2]) == (0, 29, 0)
    assert find_hosts(tmp_path / "elsewhere" / "pack", {}, tmp_path / "nobody") == []
    several = os.pathsep.join(map(str, (hosts[2], hosts[1])))
    assert find_hosts(pack, {"COMFYUI_PATH": several}, home) == [hosts[2], hosts[1]]


def test_a_comfyui_path_without_comfyui_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="COMFYUI_PATH: no ComfyUI at .*typo"):
        find_hosts(tmp_path, {"COMFYUI_PATH": str(tmp_path / "typo")}, tmp_path)


def test_usage_names_every_command():
    shown = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(command in shown for command in ("test", "demo", "doctor", "bench", "world", "report", "train"))
    assert subprocess.run([sys.executable, str(ROOT / "run.py"), "tset"], capture_output=True).returncode == 2


def test_report_variants():
    path = str(ROOT / "mini" / "workflows" / "mini_t2v.json")
    (first, plain), (second, windows) = variants([path, path, "swin.strength=1.0", "swin.anchors=first frame"])
    assert (first, second) == (path, f"{path} swin.strength=1.0 swin.anchors=first frame")
    assert plain["swin"]["inputs"]["strength"] == 0.0
    assert windows["swin"]["inputs"] | {"strength": 1.0, "anchors": "first frame"} == windows["swin"]["inputs"]
    filled = fill(plain, "a red circle", 7)
    assert filled["positive"]["inputs"]["text"] == "a red circle"
    assert filled["sampler"]["inputs"]["seed"] == 7
    assert plain["sampler"]["inputs"]["seed"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.json"], "missing.json: not a workflow in API format"),
        (["a.b=1"], "a.b=1: write node.input=value behind a workflow"),
    ],
)
def test_words_that_are_no_variant(words, message):
    with pytest.raises(ValueError, match=message):
        variants(words)


def test_unknown_benchmark():
    with pytest.raises(ValueError, match=r"bench swim: no such benchmark\. Choose from swin"):
        bench(["swim"])
