"""Block lists as people write them: "0-3,38"."""

import re

from ..host.ranges import ranges


def parse_blocks(text: str, blocks: int) -> frozenset[int]:
    """Numbers and ranges (both ends included) separated by commas; empty text is the empty set.

    Raises ValueError, naming the part that is malformed or outside 0 .. blocks - 1.
    """
    chosen: set[int] = set()
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", part)
        if not match:
            raise ValueError(f"'{part}' is not a block or a range of blocks. Write numbers and ranges such as 0-3,38.")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last >= blocks:
            raise ValueError(
                f"'{part}' is out of range: this model has blocks 0 to {blocks - 1}, and a range runs upwards."
            )
        chosen.update(range(first, last + 1))
    return frozenset(chosen)


def blocks_of(name: str, text: str, blocks: int) -> frozenset[int]:
    """As `parse_blocks`, its errors with the name of the input that `text` came from."""
    try:
        return parse_blocks(text, blocks)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def write_blocks(blocks: list[int]) -> str:
    """[0, 2, 3, 4] -> "0,2-4", as `parse_blocks` reads it."""
    return ranges(blocks)
