"""Getting a ComfyUI by comfy-cli, with a stand-in that copies a folder instead of cloning."""

import json
import sys
import types

import pytest

from semantic_video.cli.get_host import VERSION, NoHostError, get_host, reason
from semantic_video.cli.hosts import find_hosts, own_host, version_of
from semantic_video.tests.house.test_commands import install, load_run

OFFLINE = "fatal: unable to access 'https://github.com/comfyanonymous/ComfyUI/': Could not resolve host: github.com"
STAND_IN = """#!{python}
import json, os, shutil, sys
from pathlib import Path
place = Path(sys.argv[sys.argv.index("--workspace") + 1])
seen = {{name: os.environ.get(name) for name in ("HOME", "VIRTUAL_ENV", "GIT_TERMINAL_PROMPT")}}
Path({record!r}).write_text(json.dumps({{"argv": sys.argv[1:], "environment": seen}}))
print("Installing from repository")
{act}
"""
COPY = "shutil.copytree({source!r}, place)"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for comfy is a POSIX script")


def give(pack, act: str, record) -> None:
    """Puts a comfy into the pack's .cache that writes down how it was called and does `act`."""
    scripts = pack / ".cache" / "comfy-cli" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "comfy").write_text(STAND_IN.format(python=sys.executable, record=str(record), act=act))
    (scripts / "comfy").chmod(0o755)


@pytest.fixture
def pack(tmp_path):
    return tmp_path / "somewhere" / "pack"


def test_the_tested_version_comes_into_the_cache(pack, tmp_path):
    give(pack, COPY.format(source=str(install(tmp_path / "source", VERSION))), tmp_path / "record.json")
    host = get_host(pack)
    assert host == own_host(pack) and ".".join(map(str, version_of(host))) == VERSION
    assert find_hosts(pack, {}, tmp_path / "nobody") == [host]
    asked = json.loads((tmp_path / "record.json").read_text())
    words = asked["argv"]
    assert words[:3] == ["--skip-prompt", "--no-enable-telemetry", "--workspace"]
    assert words[4:] == [
        "install",
        "--version",
        "0.33.0",
        "--skip-manager",
        "--skip-torch-or-directml",
        "--skip-requirement",
        "--cpu",
    ]
    cli = pack / ".cache" / "comfy-cli"
    assert asked["environment"] == {
        "HOME": str(cli / "home"),  # comfy-cli remembers its last workspace: not the user's business
        "VIRTUAL_ENV": str(cli),  # or it would make an environment inside ComfyUI
        "GIT_TERMINAL_PROMPT": "0",
    }
    assert sorted(path.name for path in (pack / ".cache").iterdir()) == ["ComfyUI", "comfy-cli", "comfy-cli.log"]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (f"print({OFFLINE!r}); print('Traceback ...'); sys.exit(1)", OFFLINE),
        ("sys.exit(1)", "Installing from repository"),
        (COPY, "comfy-cli left ComfyUI 0.32.1, not 0.33.0; see "),
        ("place.mkdir(parents=True)", "comfy-cli left ComfyUI without a version, not 0.33.0; see "),
    ],
)
def test_what_is_not_that_version_whole_leaves_nothing(pack, tmp_path, act, message):
    other = install(tmp_path / "source", "0.32.1")
    give(pack, act.replace("{source!r}", repr(str(other))), tmp_path / "record.json")
    with pytest.raises(NoHostError) as error:
        get_host(pack)
    assert str(error.value).startswith(message)
    assert find_hosts(pack, {}, tmp_path / "nobody") == []
    assert sorted(path.name for path in (pack / ".cache").iterdir()) == ["comfy-cli", "comfy-cli.log"]


def test_the_reason_is_pip_s_or_git_s_own_line(tmp_path):
    log = tmp_path / "log"
    log.write_text("Collecting\nERROR: No matching distribution found for comfy-cli\n\nnotice\n")
    assert reason(log) == "ERROR: No matching distribution found for comfy-cli"
    log.write_text("")
    assert reason(log) == f"see {log}"


@pytest.fixture
def started(tree, hostless, monkeypatch):
    """run.py of a copied tree without any ComfyUI; what it would run is recorded instead of run."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, hostless["HOME"])
    for name in ("COMFYUI_PATH", "SEMANTIC_VIDEO_READY"):
        monkeypatch.delenv(name, raising=False)
    run = load_run(tree)
    calls = []

    def set_up():
        calls.append(("set up for", run.host_requirements()))
        return sys.executable

    monkeypatch.setattr(run, "set_up", set_up)
    monkeypatch.setattr(run, "run_in", lambda python, arguments: calls.append(("run", *arguments)) or 0)
    return run, calls


@pytest.mark.parametrize("command", ["demo", "test"])
def test_a_command_goes_on_with_the_host_it_got(started, tree, tmp_path, command, capsys):
    run, calls = started
    source = install(tmp_path / "source", VERSION)
    (source / "requirements.txt").write_text("torch\nav>=16.0.0\n# a comment\ncomfyui-workflow-templates==0.1\n")
    give(tree, COPY.format(source=str(source)), tmp_path / "record.json")
    assert run.main([command]) == 0
    assert calls == [("set up for", ["av>=16.0.0"]), ("run", command)]
    assert "No ComfyUI found. Getting ComfyUI 0.33.0 with comfy-cli into" in capsys.readouterr().out
    (tmp_path / "record.json").unlink()
    assert run.main([command]) == 0 and not (tmp_path / "record.json").exists(), "once is enough"


@pytest.mark.parametrize("command", ["demo", "test"])
def test_without_a_network_one_sentence_and_the_host_free_part(started, tree, tmp_path, command, capsys):
    run, calls = started
    give(tree, f"print({OFFLINE!r}); sys.exit(1)", tmp_path / "record.json")
    assert run.main([command]) == 0
    assert calls == [("set up for", []), ("run", command)]
    said = capsys.readouterr().out.strip().splitlines()
    assert said[-1] == f"ComfyUI could not be had ({OFFLINE}), so only the part that needs none runs."


@pytest.mark.parametrize(
    "words",
    [["demo", "--no-host"], ["test", "--no-host"], ["test", "--host-free"], ["world"], ["demo", "--python", "python"]],
)
def test_nothing_is_got_where_that_is_declined_or_not_needed(started, tree, tmp_path, words):
    run, calls = started
    give(tree, "sys.exit(1)", tmp_path / "record.json")
    assert run.main(list(words)) == 0
    assert not (tmp_path / "record.json").exists() and calls[-1][0] == "run"


def test_comfyui_path_overrides(started, tree, tmp_path, monkeypatch):
    run, calls = started
    own = install(tmp_path / "mine", "0.29.0")
    (own / "requirements.txt").write_text("einops\n")
    monkeypatch.setenv("COMFYUI_PATH", str(own))
    give(tree, "sys.exit(1)", tmp_path / "record.json")
    assert run.main(["demo"]) == 0
    assert calls == [("set up for", ["einops"]), ("run", "demo")] and not (tmp_path / "record.json").exists()


def test_under_torchrun_a_command_stays_in_its_interpreter(started, tree, monkeypatch):
    """Several processes must not set up one .venv at once, and torchrun's signals reach the one that trains."""
    run, calls = started
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setattr(
        run, "package", lambda name: types.SimpleNamespace(main=lambda rest: calls.append((name, *rest)))
    )
    assert run.main(["train", "ssg-adapter", "--batch", "2"]) == 0
    assert calls == [("cli.train", "ssg-adapter", "--batch", "2")]
