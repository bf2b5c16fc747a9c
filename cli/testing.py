"""run.py test: the host-free tests once, then the tests against ComfyUI once for every install found."""

import argparse
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from tempfile import TemporaryDirectory

from .hosts import find_hosts, version_of

ROOT = Path(__file__).resolve().parent.parent
HOST_FREE = ["tests/kernels", "tests/house", "tests/world"]
WITH_HOST = ["tests/host", "tests/workflows", "tests/mini"]
COUNTS = ("passed", "failed", "skipped")


def run_pytest(folders: list[str], extra: list[str], environment: dict) -> tuple[dict, bool]:
    """Counts of passed, failed and skipped, and whether pytest itself was content (no test at all is not)."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        code = subprocess.run(
            [sys.executable, "-m", "pytest", *folders, f"--junitxml={report}", *extra], cwd=ROOT, env=environment
        ).returncode
        suite = ElementTree.parse(report).getroot().find("testsuite") if report.exists() else {}
    tests, failed, skipped = (
        int(suite.get("tests", 0)),
        int(suite.get("failures", 0)) + int(suite.get("errors", 0)),
        int(suite.get("skipped", 0)),
    )
    return dict(zip(COUNTS, (tests - failed - skipped, failed, skipped))), code == 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py test", description=__doc__)
    parser.add_argument("--host-free", action="store_true", help="only what needs no ComfyUI")
    options, extra = parser.parse_known_args(arguments)
    hosts = [] if options.host_free else find_hosts(ROOT)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # models so small that a second thread only waits
    total, content = dict.fromkeys(COUNTS, 0), True

    print("== style", flush=True)
    for check in (("check", "."), ("format", "--check", ".")):
        content &= subprocess.run([sys.executable, "-m", "ruff", *check], cwd=ROOT).returncode == 0
    rounds = [("without ComfyUI", HOST_FREE, environment)]
    rounds += [
        (
            f"ComfyUI {'.'.join(map(str, version_of(host)))} at {host}",
            WITH_HOST,
            environment | {"COMFYUI_PATH": str(host)},
        )
        for host in hosts
    ]
    for title, folders, env in rounds:
        print(f"\n== {title}", flush=True)
        counts, passed = run_pytest(folders, extra, env)
        content &= passed
        total = {name: total[name] + counts[name] for name in COUNTS}
    if not hosts and not options.host_free:
        print(
            "\n"
            + "!" * 100
            + "\n!! NO ComfyUI FOUND. The tests against a real host, the heart of this suite, DID NOT RUN.\n"
            "!! git clone https://github.com/Comfy-Org/ComfyUI   then set COMFYUI_PATH to it, or put it at ~/ComfyUI.\n"
            + "!"
            * 100
        )
    print("\n" + ", ".join(f"{total[name]} {name}" for name in COUNTS))
    return 0 if content else 1
