"""run.py world: a contact sheet of captioned MiniWorld scenes, in demo/world.png."""

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "demo"


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="run.py world", description=__doc__)
    options.add_argument("--seed", type=int, default=0, help="which scenes; 0 is the demo's")
    return options


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    from ..miniworld.contact_sheet import world_sheet

    DEMO.mkdir(exist_ok=True)
    world_sheet(chosen.seed).save(DEMO / "world.png")
    print(f"Look at {DEMO / 'world.png'}")
    return 0
