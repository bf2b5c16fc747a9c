"""What must hold of a loader and any file: it loads finite weights, or refuses in a ValueError that names the file,
soon and without growing."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

MOST_SECONDS, MOST_BYTES = 5.0, 500 * 2**20


def memory(line: str) -> int | None:
    """VmPeak or VmSize of this process in bytes, allocated memory that was never touched included; None where the
    system does not tell."""
    if not sys.platform.startswith("linux"):
        return None
    for text in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if text.startswith(f"{line}:"):
            return int(text.split()[1]) * 1024
    return None


def judge(load: Callable[[Path], torch.nn.Module], path: Path, size: int | None = None) -> tuple[str, bool]:
    """(what is wrong, "" where nothing is; whether the file was loaded). size: of this process before any case, or its
    peak so far, so that a peak is a peak of the cases."""
    start, loaded = time.monotonic(), False
    try:
        module, loaded = load(path), True
    except ValueError as error:
        wrong = "" if path.name in str(error) else f"does not name {path.name}: {error}"
    except Exception as error:  # what a loader must never raise
        wrong = f"{type(error).__name__}: {str(error)[:300]}"
    else:
        broken = [name for name, value in module.state_dict().items() if not torch.isfinite(value.float()).all()]
        wrong = f"loaded NaN or uninitialised memory as {broken[0]}" if broken else ""
    took, peak = time.monotonic() - start, memory("VmPeak")
    if took > MOST_SECONDS:
        wrong += f" took {took:.1f} s"
    if size is not None and peak is not None and peak - size > MOST_BYTES:
        wrong += f" grew by {(peak - size) / 2**20:.0f} MB"
    return wrong, loaded
