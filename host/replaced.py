"""Blocks of the model that another pack has put a patch of its own in place of."""

from collections.abc import Iterable
from functools import partial

from .block_numbers import REPLACE
from .ranges import ranges

KINDS = ("double_block", "single_block")  # the host's; the latter are counted on behind the former


def replaced_blocks(options: dict, doubles: int) -> dict[int, str]:
    """{block: whose patch}. options: transformer options; doubles: how many double blocks stand in front of single
    ones."""
    found = {}
    for key, patch in options.get(REPLACE, {}).get("dit", {}).items():
        if isinstance(key, tuple) and len(key) == 2 and key[0] in KINDS:
            found[key[1] + doubles * KINDS.index(key[0])] = owner(patch)
    return found


def owner(patch) -> str:
    """Module and name of a function, or of an object's class."""
    while isinstance(patch, partial):
        patch = patch.func
    named = patch if hasattr(patch, "__qualname__") else type(patch)
    return f"{named.__module__}.{named.__qualname__}"


def around(replaced: dict[int, str], seen: Iterable[int]) -> str:
    """What to say of replaced blocks of which no attention came by; "" where there is none."""
    missed = {block: who for block, who in replaced.items() if block not in seen}
    if not missed:
        return ""
    blocks = "block" if len(missed) == 1 else "blocks"
    return f"{blocks} {ranges(missed)}, replaced by {', '.join(sorted(set(missed.values())))}"
