"""run.py stress: one real ComfyUI server under load. Queued prompts of many techniques with interrupts, cancels and
malformed posts in between; then patched and unpatched runs in turn.

A fault is a prompt that is lost, fails or ends unasked, frames that are not those of the quiet server, a malformed
post that is taken, and memory (RSS, at rest and with models unloaded) that grows by 2 % or more after warm-up. The exit
code is 1 if there was any.
"""

import argparse


def count(word: str) -> int:
    number = int(word)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{word}: must not be negative; 0 leaves this part out")
    return number


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="run.py stress", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--prompts", type=count, default=50, help="queued prompts")
    options.add_argument("--alternate", type=count, default=200, help="runs, patched and unpatched in turn")
    options.add_argument(
        "--seed", type=int, default=0, help="of the order and of the moments of interrupts and cancels"
    )
    return options
