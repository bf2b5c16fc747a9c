#!/usr/bin/env python3
"""python run.py test | demo | doctor | bench ...  Sets up what it needs on the first call, in its own .venv; the second
call is fast. test and demo also get a ComfyUI where there is none, into .cache/.

Plain Python for any system. `--python PATH` uses that interpreter (ComfyUI's own, say) as it is and installs nothing.
"""

import hashlib
import os
import re
import signal
import subprocess
import sys
import types
import venv
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
TORCH = ["torch==2.13.0", "torchvision==0.28.0"]
INTERRUPTED = 130
COMMANDS = {  # name -> module of cli/, what it does
    "test": ("testing", "run the test suite on every ComfyUI found"),
    "demo": (
        "demo",
        "make a page, demo/index.html: what each technique does, by small models through a real ComfyUI",
    ),
    "doctor": ("doctor", "show what this machine and its ComfyUI offer, and which of its hooks work"),
    "bench": ("bench", "measure cost against the unpatched host"),
    "world": ("world", "draw MiniWorld, the synthetic world behind the measurements"),
    "report": ("report", "compare two workflow variants on MiniWorld captions, with confidence intervals"),
    "serve": ("serve", "start a server with this pack and the mini models, until Ctrl-C"),
    "train": ("train", "train the mini models of MiniWorld"),
    "mutate": ("mutate", "break the code in many small ways and count which of them the tests notice"),
    "fuzz": ("fuzz", "load thousands of damaged files with every loader of this pack"),
    "stress": ("stress", "load one server with queued prompts, interrupts and malformed posts, and judge every end"),
    "pictures": ("pictures", "draw the moving pictures of the README and of the templates, with the mini models"),
    "workflows": ("workflows", "rebuild templates and blueprints from the API files of workflows/"),
}
PASS_ON = ("test", "bench")  # hand what they do not know to pytest and to the benchmark


def usage() -> str:
    return "usage: python run.py COMMAND [OPTIONS] [--python PATH]\n\n" + "\n".join(
        f"  {name:10} {what}" for name, (_, what) in COMMANDS.items()
    )


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def host_requirements() -> list[str]:
    """What the best ComfyUI found asks for, save torch and the parts that only its web page needs."""
    hosts = package("cli.hosts").find_hosts(ROOT)
    if not hosts:
        return []
    lines = (hosts[0] / "requirements.txt").read_text(encoding="utf-8").splitlines()
    skip = re.compile(r"torch(vision|audio)?\b(?!sde)|comfyui-(workflow-templates|embedded-docs)|#")
    return [line for line in map(str.strip, lines) if line and not skip.match(line)]


def get_host() -> None:
    """Gets a ComfyUI where there is none. Where that fails, one sentence says why, and the command goes on without."""
    if package("cli.hosts").find_hosts(ROOT):
        return
    get = package("cli.get_host")
    print(
        f"No ComfyUI found. Getting ComfyUI {get.VERSION} with comfy-cli into {ROOT / '.cache'} (about half a GB; "
        "--no-host does without, COMFYUI_PATH names one you have)",
        flush=True,
    )
    try:
        get.get_host(ROOT)
    except get.NoHostError as error:
        print(f"ComfyUI could not be had ({error}), so only the part that needs none runs.", flush=True)


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


def package(module: str):
    """A module of the repository as the package `semantic_video`, whatever its folder is called; its root stays off
    sys.path."""
    if "semantic_video" not in sys.modules:
        sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
        root = types.ModuleType("semantic_video")
        root.__path__ = [str(ROOT)]
        sys.modules["semantic_video"] = root
    return import_module(f"semantic_video.{module}")


def parser_of(command: str, rest: list[str]):
    """The command's argument parser, from a module that imports nothing but the standard library: X_options.py, where
    X.py needs more."""
    module = COMMANDS[command][0]
    options = f"{module}_options"
    module = package(f"cli.{options if (ROOT / 'cli' / f'{options}.py').exists() else module}")
    return module.parser(rest) if command == "bench" else module.parser()


def chosen_python(arguments: list[str]) -> str | None:
    """The value of --python, taken out of `arguments`."""
    for at, word in enumerate(arguments):
        if word.startswith("--python="):
            return arguments.pop(at).split("=", 1)[1]
        if word == "--python":
            if at + 1 == len(arguments):
                sys.exit("--python: name an interpreter.")
            del arguments[at]
            return arguments.pop(at)
    return None


class Terminated(KeyboardInterrupt):
    """SIGTERM, which is to end servers and keep pages as Ctrl-C does."""


def terminate(*_) -> None:
    raise Terminated


def run_in(python: str, arguments: list[str]) -> int:
    """This command in the interpreter that has what it needs. After Ctrl-C it gets time to end in order."""
    try:
        process = subprocess.Popen(
            [python, str(ROOT / "run.py"), *arguments], env={**os.environ, "SEMANTIC_VIDEO_READY": "1"}
        )
    except OSError as error:
        sys.exit(f"--python {python}: cannot be run ({error.strerror}). Name an interpreter, or leave --python out.")
    try:
        return process.wait()
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, Terminated):  # it came to this process alone
            process.terminate()
        try:
            return process.wait(90)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            process.kill()
            return INTERRUPTED


def main(arguments: list[str]) -> int:
    own = chosen_python(arguments)
    if not arguments or arguments[0] not in COMMANDS:
        print(usage())
        return 0 if not arguments or arguments[0] in ("-h", "--help") else 2
    command, rest = arguments[0], arguments[1:]
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ and not own  # its interpreter, and its signals reach this process
    if os.environ.get("SEMANTIC_VIDEO_READY") == "1" or torchrun:
        return package(f"cli.{COMMANDS[command][0]}").main(rest) or 0
    options, unknown = parser_of(command, rest).parse_known_args(rest)  # --help ends here
    if unknown and command not in PASS_ON:
        sys.exit(f"{command}: {' '.join(unknown)} is no option of it; python run.py {command} --help lists them.")
    if not own and not getattr(options, "no_host", True):
        get_host()
    return run_in(own or str(set_up()), arguments)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminate)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        if os.environ.get("SEMANTIC_VIDEO_READY") != "1" or (error.name or "").startswith("semantic_video"):
            raise
        sys.exit(f"{sys.executable} has no {error.name}. Leave --python out, or name ComfyUI's own interpreter.")
    except Exception as error:
        if not isinstance(error, (ValueError, package("cli.hosts").CommandError)):
            raise
        sys.exit(str(error))
