"""run.py test: ruff, then the tests that need no ComfyUI, and for every ComfyUI found those against it, side by side;
what hardly depends on its version for the first alone.
Options that are not listed go to pytest: -k, -x, --lf."""

import argparse
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from .hosts import HOW_TO_GET, find_hosts, name_of
from .rounds import COUNTS, NO_TESTS, Result, Round, duration, estimate, load_times, run_all, save_times

ROOT = Path(__file__).resolve().parent.parent
TIMES = ROOT / ".cache" / "test-times.json"
HOST_FREE = (("tests/house",), ("tests/kernels", "tests/world"))  # two rounds each, of about one length
WITH_HOST = (("tests/host",), ("tests/workflows",))
ONE_HOST = (("tests/mini",),)  # trains for minutes, through what tests/host tests on every host
ONCE = tuple(  # of tests/host the same: damaged files, and training, whose nodes tests/workflows runs on every host
    f"tests/host/test_{name}.py"
    for name in ("fuzz", "own_adapter", "parallel_training", "ssg_newer_training", "ssg_training", "video_folder")
)
SECONDS = {
    HOST_FREE[0]: 60.0,
    HOST_FREE[1]: 60.0,
    WITH_HOST[0]: 340.0,
    WITH_HOST[1]: 130.0,
    ONE_HOST[0]: 210.0,
}  # until there is a last run to go by


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="run.py test", description=__doc__)
    options.add_argument(
        "--no-host", "--host-free", action="store_true", help="do without ComfyUI: get none and use none"
    )
    options.add_argument(
        "--jobs", type=int, default=min(os.cpu_count() or 1, 4), help="rounds side by side (default: a core each)"
    )
    return options


def rounds_on(hosts: list[Path], times: dict[str, float]) -> list[Round]:
    """Of every host, of the first alone, and of what needs none, each with the seconds it took last time."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # models so small that a second thread only waits
    found = []

    def add(title: str, folders: tuple[str, ...], environment: dict[str, str], without: tuple[str, ...] = ()) -> None:
        title = f"{title}: {', '.join(folder.split('/')[1] for folder in folders)}"
        found.append(Round(title, folders, environment, times.get(title, SECONDS[folders]), without))

    for folders in HOST_FREE:
        add("without ComfyUI", folders, environment)
    for host in hosts:
        for folders in WITH_HOST + (ONE_HOST if host == hosts[0] else ()):
            known = ONCE if host != hosts[0] and folders == WITH_HOST[0] else ()
            add(f"{name_of(host)} at {host}", folders, environment | {"COMFYUI_PATH": str(host)}, known)
    return found


def style() -> bool:
    print("== style", flush=True)
    checks = (("check", "."), ("format", "--check", "."))
    return all([subprocess.run([sys.executable, "-m", "ruff", *check], cwd=ROOT).returncode == 0 for check in checks])


def summary(results: list[Result]) -> str:
    """Which tests failed, why which were skipped, and, alone on the last line, the counts."""
    lines = [f"FAILED {name}   ({result.title})" for result in results for name in result.failures]
    reasons = Counter(reason for result in results for reason in result.skips)
    if reasons:
        lines += ["Skipped, because", *(f"  {count:4} x {reason}" for reason, count in reasons.most_common())]
    total = [sum(result.counts[name] for result in results) for name in COUNTS]
    return "\n".join([*lines, "", ", ".join(f"{count} {name}" for count, name in zip(total, COUNTS))])


def main(arguments: list[str]) -> int:
    options, extra = parser().parse_known_args(arguments)
    hosts = [] if options.no_host else find_hosts(ROOT)
    times = load_times(TIMES)
    rounds = rounds_on(hosts, times)
    jobs = max(1, min(options.jobs, len(rounds)))
    known = "as last time" if all(one.title in times for one in rounds) else "a guess: there is no last run to go by"
    print(
        f"Rounds of tests: {len(rounds)}, {jobs} at a time; "
        + ("as long as what you chose takes" if extra else f"about {duration(estimate(rounds, jobs))} ({known})"),
        flush=True,
    )
    content = style()
    results = run_all(rounds, jobs, extra, ROOT)
    ran = sum(sum(result.counts.values()) for result in results)
    chosen_away = extra and ran  # a round may be empty where options choose tests, but not all
    content &= all(result.code == 0 or (result.code == NO_TESTS and chosen_away) for result in results)
    if not extra:
        save_times(TIMES, times | {result.title: result.seconds for result in results})
    if not hosts and not options.no_host:
        bar = "!" * 100
        print(
            f"\n{bar}\n!! NO ComfyUI FOUND. The tests against a real host, the heart of this suite, DID NOT RUN.\n"
            f"!! {HOW_TO_GET}\n{bar}"
        )
    print(f"\n{summary(results)}")
    return 0 if content else 1
