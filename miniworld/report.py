"""Paired comparison of two ways to make the same clips: mean difference with a bootstrap confidence interval, as a
table and a plot."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

DYNAMIC, RATIO, SECONDS = "dynamic degree", "movement ratio", "sampling seconds"
# beside every headline: a frozen, looping, stitched or drifting clip must not win, nor one that costs more
GUARDS = (DYNAMIC, RATIO, "loop", "seam", "speckle", "identity drift", SECONDS)
READING = (
    f"Guards: {', '.join(GUARDS)}. For loop, seam, speckle and identity drift lower is better; a movement ratio near 1 "
    "(the truth's) is right. Seams and seconds are medians. Evidence in MiniWorld is evidence that a mechanism works, "
    "not that a large model gains as much."
)
MEDIANS = ("seam", SECONDS)  # outliers would make their means; all others are means


@dataclass(frozen=True)
class Row:
    """One score: means (of MEDIANS: medians) of A, B and the truth (the rendered scenes, where given), that of the
    paired differences B - A with the ends of its 95 % interval, and over how many videos."""

    score: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    clips: int
    truth: float | None = None

    @property
    def verdict(self) -> str:
        return "B higher" if self.low > 0 else "B lower" if self.high < 0 else "no clear difference"


def middle(values: Tensor, name: str = "", dim: int = 0) -> Tensor:
    """Mean of a score's values along `dim`, or their median, whichever sums the score up."""
    return values.double().quantile(0.5, dim) if name in MEDIANS else values.double().mean(dim)


def interval(
    values: Tensor, level: float = 0.95, resamples: int = 10_000, seed: int = 0, name: str = ""
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of values [n], or of the median where that sums up the score `name`."""
    generator = torch.Generator().manual_seed(seed)
    values = values.double()
    means = middle(values[torch.randint(len(values), (resamples, len(values)), generator=generator)], name, 1)
    low, high = torch.quantile(means, torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return low, high


def compare(
    a: list[dict[str, float]], b: list[dict[str, float]], truth: list[dict[str, float]] | None = None, seeds: int = 1
) -> list[Row]:
    """Scores of the same captions and seeds, video by video. A score counts where both videos have it. truth: scores of
    the rendered scenes, in the same order. seeds: neighbours that share a caption; the interval is over captions, of
    which they are no independent draws. ValueError if the lists do not pair up."""
    if len(a) != len(b) or not a:
        raise ValueError(
            f"got {len(a)} and {len(b)} clips; a paired comparison needs the same captions and seeds for both, and at "
            "least one"
        )
    names = dict.fromkeys(name for clip in (*a, *b) for name in clip)
    rows = []
    for name in names:
        pairs = torch.tensor([(x[name], y[name]) for x, y in zip(a, b) if name in x and name in y], dtype=torch.float64)
        if len(pairs):
            difference = pairs[:, 1] - pairs[:, 0]
            low, high = interval(difference.unflatten(0, (-1, seeds)).mean(1), name=name)
            true = torch.tensor([scores[name] for scores in truth or () if name in scores])
            of_truth = float(middle(true, name)) if len(true) else None
            both = middle(pairs, name).tolist()
            rows.append(Row(name, *both, float(middle(difference, name)), low, high, len(pairs), of_truth))
    return sorted(rows, key=lambda row: row.score in GUARDS)


def add_ratio(truth: list[dict[str, float]], *results: list[dict[str, float]]) -> None:
    """Puts RATIO into all scores: the dynamic degree over the truth's mean. More than 1 is too much movement, so a
    ratio near 1 is right. Nothing where the truth does not move."""
    usual = [clip[DYNAMIC] for clip in truth if DYNAMIC in clip]
    mean = sum(usual) / max(len(usual), 1)
    for clip in (one for clips in (truth, *results) for one in clips):
        if mean and DYNAMIC in clip:
            clip[RATIO] = clip[DYNAMIC] / mean


def markdown(rows: list[Row], title: str, a: str, b: str, note: str = "") -> str:
    lines = [
        f"# {title}",
        "",
        f"A: {a}",
        "",
        f"B: {b}",
        "",
        *([note, ""] if note else []),
        "| score | truth | A | B | B - A | 95 % interval | videos | |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for r in rows:
        truth = "-" if r.truth is None else f"{r.truth:.3f}"
        lines.append(
            f"| {r.score} | {truth} | {r.a:.3f} | {r.b:.3f} | {r.difference:+.3f} | {r.low:+.3f} .. {r.high:+.3f} | "
            f"{r.clips} | {r.verdict} |"
        )
    lines += [
        "",
        READING,
    ]
    return "\n".join(lines) + "\n"


def as_json(rows: list[Row]) -> list[dict]:
    return [asdict(row) | {"verdict": row.verdict} for row in rows]


def plot(rows: list[Row], path: Path, title: str) -> None:
    """Differences with their intervals, one line a score; guards in grey."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 0.45 * len(rows) + 1.2))
    for y, row in enumerate(reversed(rows)):
        colour = "grey" if row.score in GUARDS else "tab:blue"
        axes.plot((row.low, row.high), (y, y), color=colour, linewidth=2)
        axes.plot(row.difference, y, "o", color=colour)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.score for row in reversed(rows)])
    axes.set_xlabel("B - A, mean and 95 % interval")
    axes.set_title(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
