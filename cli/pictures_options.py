"""run.py pictures: draws the moving pictures of the README and of the templates (docs/pictures) with the mini models,
through a ComfyUI server; python run.py workflows then puts them beside the templates.

Of the captions, stories and pairs that docs/evidence.md counts, each shows the first that the technique changes from
wrong to right (of 24 pairs the one whose object keeps its shape best); the average over all stands beside it in the
README."""

import argparse

SHOWN = (
    "adherence",
    "focal",
    "place",
    "example",
    "story",
    "long",
    "draft",
    "rerender",
    "words",
    "masks",
    "plan",
    "drift",
    "expert",
)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="run.py pictures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SHOWN)}; none: all")
    return options
