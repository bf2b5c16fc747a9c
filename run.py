#!/usr/bin/env python3
"""python run.py test | demo | doctor | bench ...  Sets up what it needs on the first call, in its own .venv; the second
call is fast.

Plain Python for any system. `--python PATH` uses that interpreter (ComfyUI's own, say) as it is and installs nothing.
"""

import hashlib
import os
import re
import subprocess
import sys
import types
import venv
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
TORCH = ["torch==2.13.0", "torchvision==0.28.0"]
COMMANDS = {
    "test": ("testing", "run the test suite on every ComfyUI found"),
    "demo": (
        "demo",
        "start ComfyUI with this pack, run its workflows on tiny models, write videos and a page into demo/",
    ),
    "doctor": ("doctor", "show what this machine and its ComfyUI offer, and which of its hooks work"),
    "bench": ("bench", "measure cost against the unpatched host"),
    "world": ("world", "draw MiniWorld, the synthetic world behind the measurements"),
    "report": ("report", "compare two workflow variants on MiniWorld captions, with confidence intervals"),
    "train": ("train", "train the mini models of MiniWorld"),
    "fuzz": ("fuzz", "load thousands of damaged files with every loader of this pack"),
    "workflows": ("workflows", "rebuild the UI files and pictures of workflows/ from their API files"),
}


def usage() -> str:
    return "usage: python run.py COMMAND [OPTIONS] [--python PATH]\n\n" + "\n".join(
        f"  {name:10} {what}" for name, (_, what) in COMMANDS.items()
    )


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def host_requirements() -> list[str]:
    """What the best ComfyUI found asks for, save torch and the parts that only its web page needs."""
    hosts = package().find_hosts(ROOT)
    if not hosts:
        return []
    lines = (hosts[0] / "requirements.txt").read_text(encoding="utf-8").splitlines()
    skip = re.compile(r"torch(vision|audio)?\b(?!sde)|comfyui-(workflow-templates|embedded-docs)|#")
    return [line for line in map(str.strip, lines) if line and not skip.match(line)]


def set_up() -> Path:
    """The interpreter of .venv with everything in it. A stamp of what was installed makes the next call instant."""
    ours = ROOT / "tests" / "requirements.txt"
    theirs = host_requirements()
    wanted = "\n".join([sys.version, *TORCH, ours.read_text(encoding="utf-8"), *theirs])
    stamp, key = ENVIRONMENT / "set-up", hashlib.sha256(wanted.encode()).hexdigest()
    python = python_of(ENVIRONMENT)
    if python.exists() and stamp.exists() and stamp.read_text() == key:
        return python
    print(f"Setting up {ENVIRONMENT} (once; a few minutes and 1 to 6 GB, most of it torch)", flush=True)
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    constraints = ENVIRONMENT / "constraints.txt"
    constraints.write_text("\n".join(TORCH))
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--progress-bar", "on"]
    if subprocess.run([str(python), "-c", "import torch"], capture_output=True).returncode:
        step("torch", [*pip, TORCH[0]])
    step("torchvision", [*pip, "--no-deps", TORCH[1]])
    step("the tools of this pack", [*pip, "-c", str(constraints), "-r", str(ours)])
    if theirs:
        step("what ComfyUI asks for", [*pip, "-c", str(constraints), *theirs])
    stamp.write_text(key)
    return python


def step(what: str, command: list[str]) -> None:
    print(f"  installing {what} ...", flush=True)
    if subprocess.run(command).returncode:
        sys.exit(
            f"Could not install {what}. The message above says why; then run the same command again, it continues "
            "where it stopped. "
            "Or use an environment you have: python run.py COMMAND --python PATH."
        )


def package():
    """The repository as the package `semantic_video`, whatever its folder is called; its root stays off sys.path.
    Returns its host finder."""
    if "semantic_video" not in sys.modules:
        sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
        module = types.ModuleType("semantic_video")
        module.__path__ = [str(ROOT)]
        sys.modules["semantic_video"] = module
    return import_module("semantic_video.cli.hosts")


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        print(usage())
        return 0 if not arguments or arguments[0] in ("-h", "--help") else 2
    own = None
    if "--python" in arguments:
        at = arguments.index("--python")
        own = arguments[at + 1] if at + 1 < len(arguments) else sys.exit("--python: name an interpreter.")
        del arguments[at : at + 2]
    if os.environ.get("SEMANTIC_VIDEO_READY") != "1":
        python = own or str(set_up())
        try:
            return subprocess.run(
                [python, str(ROOT / "run.py"), *arguments], env={**os.environ, "SEMANTIC_VIDEO_READY": "1"}
            ).returncode
        except KeyboardInterrupt:
            return 130
    package()
    return import_module(f"semantic_video.cli.{COMMANDS[arguments[0]][0]}").main(arguments[1:]) or 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ValueError as error:
        sys.exit(str(error))
