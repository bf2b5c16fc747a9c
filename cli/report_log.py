"""Scores of a report as they come, a line for each video: a report that was ended goes on where it stopped, and one
that shares variants with an earlier one does not make their videos again."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / ".cache" / "report.jsonl"
MAKERS = ("nodes", "patches", "host", "kernels", "mini", "miniworld", "cli")  # rooms that a score depends on


class Log:
    """maker: what makes the videos, `code_version` and the host's; lines of another one do not count. fresh: nor do
    those from before."""

    def __init__(self, path: Path, maker: str, fresh: bool = False):
        self.path, self.maker, self.known, self.taken, self._lock = path, maker, {}, 0, Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not fresh:
            for line in path.read_text(encoding="utf-8").splitlines():
                self.known |= as_entry(line)

    def get(self, asked: dict, make: Callable[[], dict]) -> dict:
        """What `make` found for the same question before, or finds now. asked: the filled workflow, and whatever else
        the scores depend on."""
        key = digest(json.dumps([self.maker, asked], sort_keys=True, default=repr).encode())
        if key in self.known:
            self.taken += 1
            return self.known[key]
        found = self.known[key] = make()
        line = json.dumps({"key": key, "found": found}) + "\n"
        with self._lock, self.path.open("a", encoding="utf-8") as log:
            log.write(line)
        return found


class NoLog:
    """Remembers nothing."""

    taken = 0

    def get(self, asked: dict, make: Callable[[], dict]) -> dict:
        return make()


NO_LOG = NoLog()


def as_entry(line: str) -> dict[str, dict]:
    """{key: what was found}; nothing for a line that was cut off."""
    try:
        entry = json.loads(line)
        return {entry["key"]: entry["found"]}
    except (json.JSONDecodeError, KeyError, TypeError):
        return {}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def code_version(root: Path = ROOT) -> str:
    """Changes with the code of MAKERS and with the mini family's weights."""
    files = [file for room in MAKERS for file in (root / room).rglob("*.py")]
    files += (root / "mini" / "weights").glob("*.safetensors")
    parts = [file.relative_to(root).as_posix().encode() + file.read_bytes() for file in sorted(files)]
    return digest(b"".join(hashlib.sha256(part).digest() for part in parts))
