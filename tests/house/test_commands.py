"""The commands' own logic: finding hosts, reading variants, helping, refusing what does not fit, ending in order."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from semantic_video.cli.bench import BENCHMARKS
from semantic_video.cli.bench import main as bench
from semantic_video.cli.hosts import CommandError, find_hosts, own_host, require_host, version_of
from semantic_video.cli.report import fill, variants

ROOT = Path(__file__).resolve().parent.parent.parent


def load_run(path: Path):
    """run.py as a module."""
    spec = importlib.util.spec_from_file_location("run", path / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS = list(load_run(ROOT).COMMANDS)


def install(folder: Path, version: str = "0.33.0") -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    return folder


def run(pack: Path, *words: str, environment: dict, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    command = [sys.executable, *flags, str(pack / "run.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=pack.parent)


def test_hosts_are_found_best_first(tmp_path):
    home = tmp_path / "home"
    pack = tmp_path / "own" / "custom_nodes" / "semantic-video"
    hosts = [
        install(tmp_path / "own"),
        install(home / "ComfyUI"),
        install(home / "ComfyUI-0.29", "0.29.0"),
        install(home / "comfy" / "ComfyUI"),
        install(own_host(pack)),
    ]
    assert find_hosts(pack, {}, home) == hosts
    assert version_of(hosts[2]) == (0, 29, 0)
    assert find_hosts(tmp_path / "elsewhere" / "pack", {}, tmp_path / "nobody") == []
    several = os.pathsep.join(map(str, (hosts[2], hosts[1])))
    assert find_hosts(pack, {"COMFYUI_PATH": several}, home) == [hosts[2], hosts[1]]


def test_a_comfyui_path_without_comfyui_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="COMFYUI_PATH: no ComfyUI at .*typo"):
        find_hosts(tmp_path, {"COMFYUI_PATH": str(tmp_path / "typo")}, tmp_path)


def test_a_command_that_needs_a_host_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(CommandError, match=r"No ComfyUI found, .*run\.py demo` gets one .*COMFYUI_PATH"):
        require_host(tmp_path / "a" / "pack")


def test_usage_names_every_command():
    shown = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(command in shown for command in COMMANDS)
    assert {"test", "demo", "doctor", "bench", "world", "report", "train", "workflows"} <= set(COMMANDS)
    assert subprocess.run([sys.executable, str(ROOT / "run.py"), "tset"], capture_output=True).returncode == 2


@pytest.mark.parametrize("words", [*([name] for name in COMMANDS), *(["bench", name] for name in BENCHMARKS)])
def test_help_helps_and_does_nothing_else(words, tree, hostless):
    """With the standard library alone: on a machine where nothing is set up yet, nothing must be."""
    before = sorted(tree.rglob("*"))
    done = run(tree, *words, "--help", environment=hostless, flags=("-S",))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: run.py {' '.join(words)}") and "-h, --help" in done.stdout
    assert sorted(tree.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["world", "--sed", "3"], "world: --sed 3 is no option of it; python run.py world --help lists them."),
        (["bench", "swim"], "bench swim: no such benchmark. Choose from swin,"),
        (["demo", "--python"], "--python: name an interpreter."),
        (["demo", "--python", "/nope"], "--python /nope: cannot be run (No such file or directory)."),
        (["demo", "--python=/"], "--python /: cannot be run (Permission denied)."),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence_before_anything_is_set_up(words, message, tree, hostless):
    before = sorted(tree.rglob("*"))
    done = run(tree, *words, environment=hostless)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(message) and "Traceback" not in done.stderr
    assert sorted(tree.rglob("*")) == before


def test_an_interpreter_that_lacks_torch_is_told_so(tree, hostless, tmp_path):
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    done = run(tree, "demo", "--no-host", "--python", str(bare), environment=hostless)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"has no (torch|PIL)\. Leave --python out", done.stderr)


T2V = str(ROOT / "mini" / "workflows" / "mini_t2v.json")
NEED_A_HOST = (
    ["bench"],
    ["bench", "swin"],
    ["workflows"],
    ["pictures"],
    ["report", T2V],
    ["train", "mini-vae"],
    ["fuzz"],
    ["stress"],
)


@pytest.mark.parametrize("words", NEED_A_HOST, ids=lambda words: words[0])
def test_without_a_host_commands_end_in_a_sentence(words, tree, hostless):
    done = run(tree, *words, environment=hostless | {"SEMANTIC_VIDEO_READY": "1"})
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "No ComfyUI found, and this command needs one: `python run.py demo` gets one" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_keeps_the_page_of_the_run_before(how, tree, hostless):
    """Ctrl-C comes from a terminal to run.py and to the interpreter that it started, SIGTERM to run.py alone."""
    demo = tree / "demo"
    demo.mkdir()
    (demo / "index.html").write_text("the page of before")
    command = [sys.executable, str(tree / "run.py"), "demo", "--no-host", "--python", sys.executable]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=hostless | {"OMP_NUM_THREADS": "1"}, start_new_session=True, **pipes)
    try:
        page = demo / "unfinished" / "index.html"
        while not page.exists() or "Pause all clips" not in page.read_text():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        os.killpg(process.pid, how) if how == signal.SIGINT else process.terminate()
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in errors, (said, errors)
    assert "Interrupted. The page of the run before stays at" in said
    assert (demo / "index.html").read_text() == "the page of before"
    assert "interrupted" in (demo / "unfinished" / "index.html").read_text()


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


def test_a_prompt_that_is_a_string_feeds_every_reader():
    path = ROOT / "mini" / "workflows" / "mini_adherence.json"
    [(_, api)] = variants([str(path)])
    filled = fill(api, "a red circle", 7)
    assert filled["caption"]["inputs"] == {"value": "a red circle"}
    assert filled["positive"]["inputs"]["text"] == filled["focal"]["inputs"]["text"] == ["caption", 0]


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
