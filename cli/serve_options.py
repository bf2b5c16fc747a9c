"""run.py serve: starts ComfyUI with this pack and the mini models on a free port, and keeps it until Ctrl-C. For
`run.py report --server URL`, and for looking around in a browser."""

import argparse


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="run.py serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--listen", default="127.0.0.1", help="address to listen on; 0.0.0.0 for other machines")
    return options
