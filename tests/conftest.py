"""The repository root is the package `semantic_video`; it is never put on sys.path, where its `nodes` and `tests` would
hide ComfyUI's."""

import os
import signal
import sys
import types
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

if "semantic_video" not in sys.modules:
    package = types.ModuleType(
        "semantic_video", "The pack without its ComfyUI entry point, so that host-free parts import alone."
    )
    package.__path__ = [str(ROOT)]
    sys.modules["semantic_video"] = package

# a busy machine is slow, not wrong
# In the background of a shell, or under nohup, Ctrl-C is ignored, and by every child; tests of interruption send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("pack", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("pack")
