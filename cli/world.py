"""run.py world: a contact sheet of captioned MiniWorld scenes, in demo/world.png."""

from ..miniworld.contact_sheet import world_sheet
from .demo import DEMO


def main(arguments: list[str]) -> int:
    DEMO.mkdir(exist_ok=True)
    seed = int(arguments[arguments.index("--seed") + 1]) if "--seed" in arguments else 0
    world_sheet(seed).save(DEMO / "world.png")
    print(f"Look at {DEMO / 'world.png'}")
    return 0
