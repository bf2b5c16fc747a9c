"""The part of run.py report that compares on pairs of a reference and a target: with the reference, without it, and
with another one."""

import json
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from ..miniworld.caption import caption
from ..miniworld.pairs import held_out_pairs, other_reference, pair_scores
from ..miniworld.render import render
from ..miniworld.report import as_json, compare, markdown, plot
from ..miniworld.scene import Scene
from .media import read_video, write_video
from .server import Server
from .variants import fill, titled

OWN, OTHER = "does as its reference", "does as the other reference"


class Scores(NamedTuple):
    """Clip by clip: of both variants with the pair's reference (`pair_scores`), and of the second with this and with
    another reference."""

    a: list[dict[str, float]]
    b: list[dict[str, float]]
    own: list[dict[str, float]]
    other: list[dict[str, float]]


def fill_pair(
    api: dict, inputs: Path, number: int, name: str, target: Scene, reference: Scene, seen: bool = False
) -> dict:
    """The workflow for one clip. Its files go into `inputs`, the server's input folder, under names of their own: the
    server caches by name."""
    first, clip = f"first-{number}.png", f"{name}-{number}.mp4"
    Image.fromarray((render([target]).frames[0, 0] * 255).round().byte().numpy()).save(inputs / first)
    write_video(inputs / clip, render([reference]).frames[0])
    return titled(
        fill(api, caption(target, motion=False), number),
        {
            "First frame": {"image": first},
            "Reference": {"file": clip},
            "Reference prompt": {"text": caption(reference, motion=not seen)},
        },
    )


def measure_pairs(server: Server, workflows: list[tuple[str, dict]], count: int, seen: bool = False) -> Scores:
    """Runs of one pair share target, caption and seed; nothing but the variant or the reference differs."""
    scores = Scores([], [], [], [])
    inputs = server.base / "input"

    def film(api: dict, *what):
        saved = server.run(fill_pair(api, inputs, number, *what, seen))[0]
        frames = read_video(saved)
        saved.unlink()
        return frames

    (_, a), (_, b) = workflows
    for number, (reference, target) in enumerate(tqdm(held_out_pairs(count), desc="pairs", unit="pair")):
        other = other_reference(target, number)
        plain, own, swapped = (
            film(a, "reference", target, reference),
            film(b, "reference", target, reference),
            film(b, "other", target, other),
        )
        scores.a.append(pair_scores(plain, target, reference))
        scores.b.append(pair_scores(own, target, reference))
        for frames, row in ((own, scores.own), (swapped, scores.other)):
            judged = pair_scores(frames, target, reference), pair_scores(frames, target, other)
            row.append({OWN: judged[0]["transfer"], OTHER: judged[1]["transfer"]})
        for file in inputs.glob(f"*-{number}.*"):
            file.unlink()
    return scores


def write_pairs(scores: Scores, path: Path, workflows: list[tuple[str, dict]], version: str, seen: bool = False) -> str:
    """Two tables in path.md, the same in path.json, a plot of the first in path.png. Returns the tables."""
    rows, swapped = compare(scores.a, scores.b), compare(scores.own, scores.other)
    said = "neither does its reference's" if seen else "its reference's does"
    note = (
        f"{len(scores.a)} held-out pairs, one seed each, {version}. A target's caption does not say what it does; "
        f"{said}."
    )
    text = (
        markdown(rows, path.name, workflows[0][0], workflows[1][0], note)
        + "\n"
        + markdown(
            swapped,
            f"{path.name}: another reference",
            f"{workflows[1][0]}, with the pair's reference",
            "the same with another, which does something else",
        )
    )
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    path.with_suffix(".json").write_text(
        json.dumps({"variants": as_json(rows), "references": as_json(swapped)}, indent=1) + "\n", encoding="utf-8"
    )
    plot(rows, path.with_suffix(".png"), path.name)
    return text
