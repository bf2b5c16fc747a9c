"""Lets ComfyUI start where torchvision's compiled operators or torchaudio do not fit the installed torch (its CPU build
has no match on PyPI).

Where both import as they are, nothing is changed.
"""

import importlib.machinery
import sys
import types
from pathlib import Path


def install() -> None:
    """Call before anything else imports torchvision or torchaudio."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # operator torchvision::nms does not exist
        _define_operators()
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        audio = _module("torchaudio")
        for part in ("functional", "transforms"):
            setattr(audio, part, _module(f"torchaudio.{part}"))


def start_host(host: Path, *arguments: str) -> None:
    """Puts ComfyUI first on sys.path and imports it in this process, by default for the CPU."""
    install()
    sys.path.insert(0, str(host))
    argv, sys.argv = sys.argv, ["main.py", *(arguments or ("--cpu",))]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args  # noqa: F401

    sys.argv = argv


def _define_operators() -> None:
    import torch

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    install.library = library  # lives as long as the process


def _module(name: str) -> types.ModuleType:
    module = sys.modules[name] = types.ModuleType(name, "Stand-in: audio is not part of these tests.")
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__path__ = []
    return module
