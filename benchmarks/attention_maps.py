"""Attention Maps against the truth: whether the place that listens most to a word is where the thing is, in videos of
the mini model, by the shipped workflow.

The prompts of one thing among those on which prompt adherence is measured. A map is as coarse as the model's own grid:
in each frame the oracle looks whether the cell with the most attention holds a part of the thing, and how many cells
do, which is what a cell picked blindly would score.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
GRID = 4  # cells a side, of the mini model at 64 x 64
WORDS = ("colour", "shape")
THERE = 0.5  # of the oracle's mask


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="run.py bench attention_maps", description=__doc__.split("\n\n")[0])
    options.add_argument("--prompts", type=int, default=100, help="of the set, from its start (default: all 100)")
    return options


def fit(heat, thing) -> tuple[float, float]:
    """(share of frames whose hottest cell holds a part of the thing, share of cells that do) over the frames in which
    it is seen. heat [time, height, width]; thing [time, height, width], 0..1, seen in at least one frame."""
    import torch.nn.functional as F

    cells = F.adaptive_max_pool2d(thing[:, None].float(), GRID)[:, 0].flatten(1) > THERE
    hottest = F.adaptive_avg_pool2d(heat[:, None].float(), GRID)[:, 0].flatten(1).argmax(1)
    seen = cells.any(1)
    hits = cells.gather(1, hottest[:, None])[:, 0]
    return float(hits[seen].float().mean()), float(cells[seen].float().mean())


def measure(server, prompts: int) -> tuple[dict[str, dict[int, float]], int]:
    """({"colour": ..., "shape": ..., "blindly": {number of the prompt: score}}, videos without the thing)."""
    import torch

    from ..cli.demo_film import picture
    from ..cli.demo_measures import Maps
    from ..cli.media import read_video
    from ..miniworld.oracle import observe

    row, found, missing = Maps(), {name: {} for name in (*WORDS, "blindly")}, 0
    for number, item in enumerate(row.items()[:prompts]):
        [take] = row.takes(number, item, server.base / "input")
        api = take.api
        api["grey"] = {"class_type": "MaskToImage", "_meta": {"title": "Maps"}, "inputs": {"mask": ["maps", 0]}}
        api["save"] = {  # as pictures: an animation leaves out frames that are like the one before
            "class_type": "SaveImage",
            "_meta": {"title": "Maps"},
            "inputs": {"images": ["grey", 0], "filename_prefix": "map"},
        }
        files = sorted(server.run(api))
        [film] = [path for path in files if path.suffix == ".webp"]
        frames, heat = read_video(film), torch.cat([picture(path) for path in files if path.suffix == ".png"])
        maps = heat[..., 0].unflatten(0, (len(WORDS), -1))  # one word after the other
        track = next((one for one in observe(frames).tracks if one.colour == item.things[0].colour), None)
        if track is None or not (track.mask > THERE).any():
            missing += 1
            continue
        scores = [fit(one, track.mask) for one in maps]
        for name, value in zip(found, [score for score, _ in scores] + [scores[0][1]]):
            found[name][number] = value
        print(f"{number}: " + ", ".join(f"{name} {one[number]:.2f}" for name, one in found.items()), flush=True)
    return found, missing


def table(rows: dict[str, dict], missing: int, version: str) -> str:
    lines = [
        "# Attention Maps on MiniWorld",
        "",
        f"`python run.py bench attention_maps`: {rows['blindly']['n'] + missing} held-out prompts of one thing, one "
        f"video each by the mini I2V, {version}; maps of {GRID} x {GRID} cells at the workflow's settings. Share of "
        "the frames in which the thing is seen whose hottest cell holds a part of it.",
        "",
        "| word | share | 95 % interval | videos |",
        "| --- | ---: | --- | ---: |",
    ]
    names = {"colour": "the thing's colour", "shape": "the thing's shape", "blindly": "a cell picked blindly"}
    for name, row in rows.items():
        lines.append(
            f"| {names[name]} | {row['mean']:.3f} | {row['interval'][0]:.3f} .. {row['interval'][1]:.3f} | {row['n']} |"
        )
    if missing:
        lines += ["", f"Left out: {missing} in which the oracle does not find the thing."]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    from ..cli.demo import start
    from ..cli.hosts import name_of, require_host

    host = require_host(ROOT)
    with TemporaryDirectory() as folder, start(host, Path(folder)) as server:
        found, missing = measure(server, chosen.prompts)
    import torch

    from ..miniworld.report import interval

    rows = {}
    for name, values in found.items():
        drawn = torch.tensor(list(values.values()))
        videos = {number: round(value, 2) for number, value in values.items()}  # the demo chooses by them
        rows[name] = {"mean": float(drawn.mean()), "interval": interval(drawn), "n": len(drawn), "videos": videos}
    text = table(rows, missing, name_of(host))
    results = ROOT / "benchmarks" / "results"
    (results / "attention-maps.md").write_text(text)
    (results / "attention-maps.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(text)
    return 0
