"""Which of a measured set the demo shows: the first that comes right only with the technique (or at all, where a row
has one take), and the first that does not come right with it. `python run.py demo --choose` writes them to
demo_examples.json."""

import json
from pathlib import Path
from typing import NamedTuple

from .demo_row import Row
from .media import read_video
from .server import Server

FILE = Path(__file__).with_name("demo_examples.json")


class Example(NamedTuple):
    """Places in the measured set, from 0. failed: None where all that were looked at come right."""

    shown: int
    failed: int | None


def examples() -> dict[str, Example]:
    return {key: Example(**places) for key, places in json.loads(FILE.read_text(encoding="utf-8")).items()}


def choose(row: Row, server: Server) -> Example:
    """Walks through the measured set from its start. ValueError where no item comes right only with the technique."""
    shown = failed = None
    for number, item in enumerate(row.items()):
        takes = row.takes(number, item, server.base / "input")

        def right(take) -> bool:
            saved = min(path for path in server.run(take.api) if path.suffix == ".webp")
            return row.judge(read_video(saved), number, item).good  # noqa: B023  (called at once)

        good = right(takes[row.main])
        if not good and failed is None:
            failed = number
        if good and shown is None and (len(takes) == 1 or not right(takes[0])):
            shown = number
        print(f"{row.key} {number}: {'right' if good else 'wrong'}, shown {shown}, failed {failed}", flush=True)
        if None not in (shown, failed):
            break
    if shown is None:
        raise ValueError(f"{row.key}: none of {len(row.items())} {row.unit} comes right only with the technique")
    return Example(shown, failed)


def write(found: dict[str, Example]) -> None:
    FILE.write_text(json.dumps({key: one._asdict() for key, one in found.items()}, indent=1) + "\n", encoding="utf-8")
