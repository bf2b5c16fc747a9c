"""Numbers of blocks, steps and frames as people read them."""

from collections.abc import Iterable


def ranges(numbers: Iterable[int]) -> str:
    """[0, 2, 3, 4] -> "0,2-4"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
