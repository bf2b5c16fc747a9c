"""run.py demo: a page that shows what each technique does, with and without it, made by MiniWorld's mini models through
a real ComfyUI server; in demo/index.html, one file."""

import argparse


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="run.py demo", description=__doc__)
    options.add_argument("--open", action="store_true", help="open the page in a browser")
    options.add_argument("--no-host", action="store_true", help="do without ComfyUI: get none and use none")
    options.add_argument(
        "--choose",
        action="store_true",
        help="instead, walk through the measured prompts and note anew which are shown (some 10 minutes)",
    )
    return options
