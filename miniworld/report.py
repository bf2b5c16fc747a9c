"""Paired comparison of two ways to make the same clips: mean difference with a bootstrap confidence interval, as a
table and a plot."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

GUARDS = (
    "dynamic degree",
    "loop",
    "seam",
    "identity drift",
)  # beside every headline: a frozen, looping, stitched or drifting clip must not win


@dataclass(frozen=True)
class Row:
    """One score: means of A and B, the mean paired difference B - A with the ends of its 95 % interval, and over how
    many clips."""

    score: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    clips: int

    @property
    def verdict(self) -> str:
        return "B higher" if self.low > 0 else "B lower" if self.high < 0 else "no clear difference"


def interval(values: Tensor, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of values [n]."""
    generator = torch.Generator().manual_seed(seed)
    values = values.double()
    means = values[torch.randint(len(values), (resamples, len(values)), generator=generator)].mean(1)
    low, high = torch.quantile(means, torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return low, high


def compare(a: list[dict[str, float]], b: list[dict[str, float]]) -> list[Row]:
    """Scores of the same captions and seeds, clip by clip. A score counts where both clips have it. ValueError if the
    lists do not pair up."""
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
            rows.append(Row(name, *pairs.mean(0).tolist(), float(difference.mean()), *interval(difference), len(pairs)))
    return sorted(rows, key=lambda row: row.score in GUARDS)


def markdown(rows: list[Row], title: str, a: str, b: str, note: str = "") -> str:
    lines = [
        f"# {title}",
        "",
        f"A: {a}",
        "",
        f"B: {b}",
        "",
        *([note, ""] if note else []),
        "| score | A | B | B - A | 95 % interval | clips | |",
        "| --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    lines += [
        f"| {r.score} | {r.a:.3f} | {r.b:.3f} | {r.difference:+.3f} | {r.low:+.3f} .. {r.high:+.3f} | {r.clips} | "
        f"{r.verdict} |"
        for r in rows
    ]
    lines += [
        "",
        f"Guards: {', '.join(GUARDS)}. For loop, seam and identity drift lower is better. Evidence in MiniWorld is "
        "evidence that a mechanism "
        "works, not that a large model gains as much.",
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
