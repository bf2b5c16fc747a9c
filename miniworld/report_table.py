"""Many ways to make the same clips in one table: the truth, A, and what each other one differs from A."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from .report import GUARDS, READING, SECONDS, interval, middle

COST = "cost against A"


@dataclass(frozen=True)
class Cell:
    """Mean (or median) of one score of one variant, with its 95 % interval, over so many clips; difference: of the
    paired clips, this less A, and its interval; of A itself None."""

    value: float
    low: float
    high: float
    clips: int
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None


@dataclass(frozen=True)
class Line:
    """One score of the truth (None where it has none) and of each variant (None where it has none)."""

    score: str
    truth: float | None
    cells: list[Cell | None]


def tabulate(truth: list[dict[str, float]], results: list[list[dict[str, float]]], seeds: int = 1) -> list[Line]:
    """A line for each score, guards last, then the cost: median seconds of sampling over A's. results: scores of each
    variant, all of the same captions and seeds in one order, and as the truth. seeds: neighbours that share a caption.
    ValueError if they do not pair up."""
    counts = {len(clips) for clips in (truth, *results)}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(
            f"got {[len(clips) for clips in results]} clips for {len(truth)} of the truth; a table needs the same "
            "captions and seeds for all, and at least one"
        )
    names = dict.fromkeys(name for clips in results for clip in clips for name in clip)
    lines = [
        Line(name, total(name, truth), [cell(name, clips, results[0], seeds, clips is results[0]) for clips in results])
        for name in sorted(names, key=lambda name: name in GUARDS)
    ]
    seconds = next((line.cells for line in lines if line.score == SECONDS), [])
    if seconds and seconds[0] and seconds[0].value > 0:
        shares = [one and one.value / seconds[0].value for one in seconds]
        lines.append(Line(COST, None, [share and Cell(share, share, share, len(truth)) for share in shares]))
    return lines


def total(name: str, clips: list[dict[str, float]]) -> float | None:
    values = [clip[name] for clip in clips if name in clip]
    return float(middle(torch.tensor(values), name)) if values else None


def cell(name: str, clips: list[dict[str, float]], first: list[dict[str, float]], seeds: int, own: bool) -> Cell | None:
    values = torch.tensor([clip[name] for clip in clips if name in clip], dtype=torch.float64)
    if not len(values):
        return None
    found = float(middle(values, name)), *interval(by_caption(values, seeds), name=name), len(values)
    pairs = [clip[name] - other[name] for clip, other in zip(clips, first) if name in clip and name in other]
    if own or not pairs:
        return Cell(*found)
    difference = torch.tensor(pairs, dtype=torch.float64)
    return Cell(*found, float(middle(difference, name)), *interval(by_caption(difference, seeds), name=name))


def by_caption(values: torch.Tensor, seeds: int) -> torch.Tensor:
    """Seeds of one caption are no independent draws: their means."""
    return values.unflatten(0, (-1, seeds)).mean(1)


def letter(number: int) -> str:
    return chr(ord("A") + number)


def table_markdown(lines: list[Line], title: str, variants: list[str], note: str) -> str:
    columns = [letter(i) for i in range(len(variants))]
    text = [f"# {title}", ""]
    for column, name in zip(columns, variants):
        text += [f"{column}: {name}", ""]
    text += [note, "", *rows(["score", "truth", *columns], [[line.score, *shown(line)] for line in lines]), ""]
    if len(variants) > 1:
        heads = [f"{column} - A" for column in columns[1:]]
        differences = [[line.score, *map(against, line.cells[1:])] for line in lines if line.score != COST]
        text += ["Paired differences, with 95 % intervals; bold where the interval does not hold 0:", ""]
        text += [*rows(["score", *heads], differences), ""]
    return "\n".join([*text, READING]) + "\n"


def rows(heads: list[str], body: list[list[str]]) -> list[str]:
    rules = ["---", *["---:"] * (len(heads) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rules, *body)]


def shown(line: Line) -> list[str]:
    truth = "-" if line.truth is None else f"{line.truth:.3f}"
    if line.score == COST:
        return [truth, *("-" if one is None else f"{one.value:.2f}" for one in line.cells)]
    return [truth, *("-" if one is None else f"{one.value:.3f} [{one.low:.2f}, {one.high:.2f}]" for one in line.cells)]


def against(one: Cell | None) -> str:
    if one is None or one.difference is None:
        return "-"
    text = f"{one.difference:+.3f} [{one.difference_low:+.2f}, {one.difference_high:+.2f}]"
    return f"**{text}**" if one.difference_low > 0 or one.difference_high < 0 else text


def table_json(lines: list[Line], variants: list[str]) -> dict:
    return {"variants": variants, "scores": [asdict(line) for line in lines]}


def write_table(
    truth: list[dict[str, float]],
    results: list[list[dict[str, float]]],
    path: Path,
    variants: list[str],
    note: str,
    seeds: int = 1,
) -> str:
    """Writes one table of all variants beside `path`, as Markdown and JSON, and returns it."""
    lines = tabulate(truth, results, seeds)
    text = table_markdown(lines, path.name, variants, note)
    path.with_suffix(".json").write_text(json.dumps(table_json(lines, variants), indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    return text
