"""The averages on the demo's page, read from benchmarks/results."""

import json
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


class Average(NamedTuple):
    """Mean of one score, 0..1 for most, over so many videos."""

    value: float
    count: int


def per_hundred(average: Average) -> int:
    """0.685 -> 69"""
    return int(100 * average.value + 0.5)


def in_table(name: str, score: str, variant: int) -> Average:
    """Of a report with --table or --stories; variant 0 is its A."""
    cell = _line(_read(name)["scores"], name, score)["cells"][variant]
    return Average(cell["value"], cell["clips"])


def in_comparison(name: str, score: str, side: str, part: str = "variants") -> Average:
    """Of a report of two variants, side "a" or "b"; part: of one on pairs."""
    found = _read(name)
    line = _line(found[part] if isinstance(found, dict) else found, name, score)
    return Average(line[side], line["clips"])


def of_masks(settings: str, score: str) -> Average:
    """Of the benchmark of CLIP Spatial Mask."""
    found = _read("clip-mask-iou")[settings][score]
    return Average(found["mean"], found["n"])


def of_maps(word: str) -> Average:
    """Of the benchmark of Attention Maps: "colour", "shape" or "blindly"."""
    found = _read("attention-maps")[word]
    return Average(found["mean"], found["n"])


def map_fits(number: int, least: float) -> bool:
    """Whether in that benchmark's video of this number both words' hottest places were on the thing in so many of the
    frames. False for one that was not measured."""
    found = _read("attention-maps")
    return all(found[word]["videos"].get(str(number), 0.0) >= least for word in ("colour", "shape"))


def _read(name: str):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _line(lines: list[dict], name: str, score: str) -> dict:
    for line in lines:
        if line["score"] == score:
            return line
    raise KeyError(f"{name}.json has no score {score!r}")
