"""run.py demo: the shipped workflows and MiniWorld's mini models through a real ComfyUI server, and what needs none, on
a page to look at, in demo/."""

import argparse


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="run.py demo", description=__doc__)
    options.add_argument("--open", action="store_true", help="open the page in a browser")
    options.add_argument("--no-host", action="store_true", help="do without ComfyUI: get none and use none")
    return options
