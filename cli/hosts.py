"""Finding ComfyUI. Standard library only."""

import os
import re
from pathlib import Path

HOW_TO_GET = (
    "`python run.py demo` gets one where there is a network; or set COMFYUI_PATH to a ComfyUI you have, or put it at "
    "~/ComfyUI (git clone https://github.com/Comfy-Org/ComfyUI)."
)


class CommandError(Exception):
    """What stops a command and is told to its user as it is, without a traceback."""


def version_of(host: Path) -> tuple[int, ...]:
    """(0, 33, 0), or () where the folder does not say."""
    try:
        match = re.search(r'__version__ = "([\d.]+)', (host / "comfyui_version.py").read_text(encoding="utf-8"))
    except OSError:
        return ()
    return tuple(int(n) for n in match[1].split(".")) if match else ()


def name_of(host: Path) -> str:
    """ "ComfyUI 0.33.0" """
    return f"ComfyUI {'.'.join(map(str, version_of(host))) or 'of unknown version'}"


def is_host(path: Path) -> bool:
    return (path / "main.py").is_file() and (path / "comfy").is_dir()


def own_host(pack: Path) -> Path:
    """Where `get_host` puts the one it gets."""
    return pack / ".cache" / "ComfyUI"


def find_hosts(pack: Path, environment: dict | None = None, home: Path | None = None) -> list[Path]:
    """ComfyUI installs, best first: COMFYUI_PATH, the one `pack` is installed in, ~/ComfyUI, ~/ComfyUI-*,
    ~/comfy/ComfyUI, and the one that run.py got itself.

    COMFYUI_PATH may name several, separated as in PATH; then these are all.

    Raises ValueError where COMFYUI_PATH names a folder without ComfyUI: a typo must not test something else.
    """
    environment = os.environ if environment is None else environment
    home = home or Path.home()
    if environment.get("COMFYUI_PATH"):
        hosts = [Path(p).expanduser() for p in environment["COMFYUI_PATH"].split(os.pathsep)]
        for host in hosts:
            if not is_host(host):
                raise ValueError(
                    f"COMFYUI_PATH: no ComfyUI at {host} (main.py and comfy/ are missing). Correct the path, or unset "
                    "COMFYUI_PATH."
                )
        return hosts
    candidates = [
        pack.parent.parent,
        home / "ComfyUI",
        *sorted(home.glob("ComfyUI-*")),
        home / "comfy" / "ComfyUI",
        own_host(pack),
    ]
    hosts = {path.resolve(): path for path in candidates if is_host(path)}
    return list(hosts.values())


def require_host(pack: Path) -> Path:
    """The best ComfyUI there is. Raises CommandError where there is none."""
    hosts = find_hosts(pack)
    if not hosts:
        raise CommandError(f"No ComfyUI found, and this command needs one: {HOW_TO_GET}")
    return hosts[0]
