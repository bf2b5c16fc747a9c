"""Finding ComfyUI. Standard library only."""

import os
import re
from pathlib import Path


def version_of(host: Path) -> tuple[int, ...]:
    """(0, 33, 0), or () where the folder does not say."""
    try:
        match = re.search(r'__version__ = "([\d.]+)', (host / "comfyui_version.py").read_text(encoding="utf-8"))
    except OSError:
        return ()
    return tuple(int(n) for n in match[1].split(".")) if match else ()


def is_host(path: Path) -> bool:
    return (path / "main.py").is_file() and (path / "comfy").is_dir()


def find_hosts(pack: Path, environment: dict | None = None, home: Path | None = None) -> list[Path]:
    """ComfyUI installs, best first: COMFYUI_PATH, the one `pack` is installed in, ~/ComfyUI, ~/ComfyUI-*,
    ~/comfy/ComfyUI.

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
    candidates = [pack.parent.parent, home / "ComfyUI", *sorted(home.glob("ComfyUI-*")), home / "comfy" / "ComfyUI"]
    hosts = {path.resolve(): path for path in candidates if is_host(path)}
    return list(hosts.values())
