"""Rounds of pytest side by side, each with its output printed whole when it is done. Standard library only."""

import heapq
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

COUNTS = ("passed", "failed", "skipped")
NO_TESTS = 5  # pytest's exit code
NEWS = 30.0  # seconds between two lines that say how far the rounds are


@dataclass(frozen=True)
class Round:
    """Folders of tests in one pytest process, but not these files. seconds: how long they take, as far as is known."""

    title: str
    folders: tuple[str, ...]
    environment: dict[str, str] = field(hash=False, repr=False)
    seconds: float = 0.0
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """code: pytest's; failures: names of tests; skips: a reason for each test skipped."""

    title: str
    code: int
    seconds: float
    counts: dict[str, int]
    failures: list[str]
    skips: list[str]


def duration(seconds: float) -> str:
    """90 -> "1:30" """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def longest_first(rounds: list[Round]) -> list[Round]:
    return sorted(rounds, key=lambda one: -one.seconds)


def estimate(rounds: list[Round], jobs: int) -> float:
    """Seconds until the last round ends, when each begins as soon as one of `jobs` places is free, longest first."""
    free = [0.0] * jobs
    for one in longest_first(rounds):
        heapq.heappush(free, heapq.heappop(free) + one.seconds)
    return max(free)


def load_times(path: Path) -> dict[str, float]:
    """{title: seconds} of the last whole run; empty where there is none."""
    try:
        return {str(title): float(seconds) for title, seconds in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def save_times(path: Path, times: dict[str, float]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({title: round(seconds, 1) for title, seconds in times.items()}, indent=1) + "\n")


class Running:
    """A round that runs: pytest in a session of its own, so that Ctrl-C reaches it once, through `interrupt`."""

    def __init__(self, one: Round, extra: list[str], root: Path, folder: Path):
        self.round, self.begun = one, time.monotonic()
        self.output, self.report = folder / "output.txt", folder / "report.xml"
        left_out = [f"--ignore={path}" for path in one.without]
        command = [sys.executable, "-m", "pytest", *one.folders, *left_out, f"--junitxml={self.report}", *extra]
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                command,
                cwd=root,
                env=one.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=os.name != "nt",
            )

    def interrupt(self) -> None:
        """As Ctrl-C would, so that its fixtures end their servers."""
        if self.process.poll() is None:
            self.process.terminate() if os.name == "nt" else self.process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Waits for an interrupted round; one that does not end is killed."""
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def progress(self) -> str:
        """ "42 %", as pytest said last."""
        said = re.findall(r"\[ *(\d+)%\]", self.text())
        return f"{said[-1] if said else 0} %"

    def result(self) -> Result:
        seconds = time.monotonic() - self.begun
        cases = list(ElementTree.parse(self.report).iter("testcase")) if self.report.exists() else []
        passed, failures, skips = 0, [], []
        for case in cases:
            if case.find("failure") is not None or case.find("error") is not None:
                failures.append(f"{case.get('classname')}::{case.get('name')}")
            elif (skipped := case.find("skipped")) is not None:
                skips.append(skipped.get("message") or "no reason given")
            else:
                passed += 1
        if self.process.returncode not in (0, NO_TESTS) and not failures:
            failures.append(f"pytest itself, exit code {self.process.returncode}")
        counts = dict(zip(COUNTS, (passed, len(failures), len(skips))))
        return Result(self.round.title, self.process.returncode, seconds, counts, failures, skips)


def run_all(rounds: list[Round], jobs: int, extra: list[str], root: Path) -> list[Result]:
    """Runs all, `jobs` at a time, longest first; prints how far they are, and the output of each when it is done."""
    waiting, running, results = longest_first(rounds), [], []
    begun = news = time.monotonic()
    whole = "" if extra else f" of about {duration(estimate(rounds, jobs))}"
    with TemporaryDirectory() as base:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    folder = Path(base) / str(len(waiting))
                    folder.mkdir()
                    running.append(Running(waiting.pop(0), extra, root, folder))
                time.sleep(0.2)
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    results.append(one.result())
                    print(f"\n== {one.round.title} ({duration(results[-1].seconds)})\n{one.text()}", flush=True)
                if running and time.monotonic() - news > NEWS:
                    news = time.monotonic()
                    far = ", ".join(f"{one.round.title} {one.progress()}" for one in running)
                    print(f"  [{duration(news - begun)}{whole}] {far}", flush=True)
        finally:
            for one in running:
                one.interrupt()
            for one in running:
                one.end()
    return results
