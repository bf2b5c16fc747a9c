"""Getting a ComfyUI where there is none: the tested version, by the official comfy-cli, into .cache/. Standard library
only.

comfy-cli has an environment and a home of its own: it has many dependencies, and it remembers where it installed last,
which is not to change for users who have it themselves. It clones and nothing else; run.py installs what ComfyUI needs.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from .hosts import is_host, own_host, version_of

VERSION = "0.33.0"  # the tested one
COMFY_CLI = "comfy-cli==1.23.0"
INSTALL = ("install", "--version", VERSION, "--skip-manager", "--skip-torch-or-directml", "--skip-requirement", "--cpu")
GIT = {  # a dead network ends in an error instead of a silent wait, a question for a password likewise
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
    "GIT_HTTP_LOW_SPEED_TIME": "60",
}


class NoHostError(Exception):
    """No ComfyUI could be had; the message is the reason, in a few words."""


def get_host(pack: Path) -> Path:
    """ComfyUI VERSION at `own_host(pack)`, whole or not at all. Raises NoHostError."""
    cache = own_host(pack).parent
    cache.mkdir(exist_ok=True)
    comfy = comfy_cli(cache)
    folder = Path(tempfile.mkdtemp(prefix="ComfyUI-", dir=cache))  # on the same disk: moving it is one step
    log = cache / "comfy-cli.log"
    try:
        command = [*comfy, "--skip-prompt", "--no-enable-telemetry", "--workspace", str(folder / "ComfyUI"), *INSTALL]
        code = follow(f"getting ComfyUI {VERSION}", command, log, environment_of(cache), folder)
        if code:
            raise NoHostError(reason(log))
        found = ".".join(map(str, version_of(folder / "ComfyUI")))
        if not is_host(folder / "ComfyUI") or found != VERSION:
            raise NoHostError(f"comfy-cli left ComfyUI {found or 'without a version'}, not {VERSION}; see {log}")
        (folder / "ComfyUI").rename(own_host(pack))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return own_host(pack)


def comfy_cli(cache: Path) -> list[str]:
    """The command that runs comfy-cli, which is installed first where it is not yet there."""
    environment = cache / "comfy-cli"
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    comfy = scripts / ("comfy.exe" if os.name == "nt" else "comfy")
    if not comfy.exists():
        venv.create(environment, with_pip=True)
        pip = [str(scripts / "python"), "-m", "pip", "--disable-pip-version-check", "--retries", "1", "install"]
        log = cache / "comfy-cli.log"
        if follow("installing comfy-cli", [*pip, COMFY_CLI], log, dict(os.environ), environment):
            raise NoHostError(reason(log))
    return [str(comfy)]


def environment_of(cache: Path) -> dict[str, str]:
    """For comfy-cli: a home of its own, the user's git settings (a proxy, say), and its own interpreter as the one
    ComfyUI would run in, or it makes another."""
    home = cache / "comfy-cli" / "home"
    home.mkdir(parents=True, exist_ok=True)
    settings = Path(os.environ.get("GIT_CONFIG_GLOBAL") or Path.home() / ".gitconfig")
    git = {"GIT_CONFIG_GLOBAL": str(settings)} if settings.exists() else {}
    places = {"HOME": str(home), "USERPROFILE": str(home), "VIRTUAL_ENV": str(cache / "comfy-cli")}
    return os.environ | GIT | git | places | {"DO_NOT_TRACK": "1"}


def follow(what: str, command: list[str], log: Path, environment: dict[str, str], folder: Path) -> int:
    """Runs `command` with its output in `log`; says every second how far `folder` has grown (every 15, where nobody
    watches). Returns its exit code; ends it when interrupted. Raises NoHostError where it cannot be started."""
    begun, watched = time.monotonic(), sys.stdout.isatty()
    shown = 0.0
    with log.open("w", encoding="utf-8") as file:
        try:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
            )
        except OSError as error:
            raise NoHostError(f"{command[0]} cannot be run: {error.strerror}") from None
        print(f"  {what} ...", end="" if watched else "\n", flush=True)
        try:
            while True:
                try:
                    code = process.wait(1)
                    break
                except subprocess.TimeoutExpired:
                    seconds = time.monotonic() - begun
                    if watched or seconds - shown >= 15:
                        shown = seconds
                        line = f"  {what} ... {seconds:.0f} s, {megabytes(folder):.0f} MB"
                        print(f"\r{line}" if watched else line, end="" if watched else "\n", flush=True)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            if watched:
                print()
    return code


def megabytes(folder: Path) -> float:
    """What lies in `folder`, which another process is writing."""
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.stat(os.path.join(place, file)).st_size
            except OSError:
                continue  # gone again
    return total / 2**20


def reason(log: Path) -> str:
    """The line of a log that says why it failed: git's or pip's own error, or the last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(fatal|error):", line, re.IGNORECASE)]
    return (errors or lines[-1:] or [f"see {log}"])[0]
