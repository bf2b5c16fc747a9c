"""run.py report A.json B.json: two workflow variants over the same captions and seeds on a real ComfyUI server, scored
and compared in pairs.

A variant is a workflow in API format and changes to it, written behind it as node.input=value:
    python run.py report workflows/api/x.json workflows/api/x.json swin.strength=0 --captions 200
Of more than two each but the last is compared with the last, and --out takes a name for each comparison.
Captions go into the node titled "Prompt", seeds into every seed input, held-out scenes give the captions. Where there
are nodes titled "First frame" and "Phrases", the scene's first frame and its objects, one a line, go into them; a model
that starts from that frame is scored on keeping it (PSNR, dB).

With --table one table holds them all: the truth, A, and how each other one differs from A.

With --stories, held-out stories instead: one object does several things, one after another, 24 frames each (four make
93 frames, so give the workflow latent.length=93). A Prompt Timeline gets a caption for each span, a node titled
"Prompt" the first caption, or with --joined all events in one sentence. Always one table, and a picture:
    python run.py report W latent.length=93 W2 --stories 100 --out NAME

With --server, servers that run already make the videos, each one caption or story at a time; `run.py serve` starts one.
One that is lost leaves its caption to the others. Scores are kept video by video in .cache, so a report that was ended
goes on where it stopped, until the code changes.

With --pairs, held-out pairs of a reference and a target instead: the reference clip goes into the node titled
"Reference", its caption into "Reference prompt", the target's first frame into "First frame", and its caption, which
does not say what it does, into "Prompt":
    python run.py report W apply.strength=0 W --pairs 200        W = mini/workflows/mini_video_prompt.json
"""

import argparse


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="run.py report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "words",
        nargs="+",
        metavar="WORKFLOW [node.input=value ...]",
        help="one variant (scores), or more (each compared with the last)",
    )
    options.add_argument("--captions", type=int, default=200, help="held-out captions")
    options.add_argument("--objects", type=int, nargs="+", default=[1, 2], help="objects per scene: 1, 2 or both")
    options.add_argument(
        "--scenes-seed", type=int, default=1, help="which held-out captions or stories: another seed, others"
    )
    options.add_argument(
        "--unplaced",
        action="store_true",
        help="prompts do not say where two objects are to each other; it is scored all the same",
    )
    options.add_argument("--seeds", type=int, default=1, help="clips per caption")
    options.add_argument(
        "--borders", type=int, nargs="*", default=[], help="first video frames of windows, for the seam score"
    )
    options.add_argument("--table", action="store_true", help="one table of all variants; --out takes one name")
    options.add_argument("--stories", type=int, default=0, help="held-out stories, instead of captions")
    options.add_argument("--events", type=int, default=4, help="with --stories: events of each, 24 frames long")
    options.add_argument(
        "--joined", action="store_true", help="with --stories: all events in one sentence, where there is no timeline"
    )
    options.add_argument(
        "--pairs", type=int, default=0, help="held-out pairs of a reference and a target, instead of captions"
    )
    options.add_argument(
        "--seen",
        action="store_true",
        help="with --pairs: the references' captions do not say the motion either; it must be seen",
    )
    options.add_argument(
        "--server", action="append", default=[], metavar="URL", help="a running server; may be given several times"
    )
    options.add_argument("--fresh", action="store_true", help="make every video again, also those scored before")
    options.add_argument(
        "--out", nargs="+", default=["report"], help="name of the files in benchmarks/results, one for each comparison"
    )
    return options
