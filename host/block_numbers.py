"""Which block an attention belongs to, on models whose host does not say it in the options (MiniMax H3, LTX).

Counting attentions would not do: guidance by perturbation leaves some out, and other packs skip blocks or run them
twice. So each block is called through the host's own slot for patches of blocks, with its number in the options, and
with whatever patch another pack has put there.
"""

from collections.abc import Callable
from functools import partial

REPLACE = "patches_replace"
AROUND = "attention"  # newer hosts: what a patch gives a block to attend with, past all overrides


def numbered_blocks(options: dict, count: int) -> dict:
    """The "patches_replace" of `options` for a call in which an attention editor acts; `options` stay as they are."""
    replace = options.get(REPLACE, {})
    patches = dict(replace.get("dit", {}))
    for block in range(count):
        key = ("double_block", block)
        patches[key] = partial(_numbered, block, count, patches.get(key))
    return {**replace, "dit": patches}


def _numbered(block: int, count: int, inner: Callable | None, args: dict, extra: dict) -> dict:
    number = {"block_index": block, "total_blocks": count}
    args = {**args, "transformer_options": {**args["transformer_options"], **number}}
    original = extra["original_block"]
    if inner is None:
        return original(args)

    def attending(args: dict) -> dict:
        """Core's sparse attention hands blocks an attention of its own, and no editor would see a call: dense, then."""
        return original({name: value for name, value in args.items() if name != AROUND})

    return inner(args, {**extra, "original_block": attending})
