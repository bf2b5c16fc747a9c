"""run.py mutate ROOM | FILE [TESTS ...]   breaks the code in many small ways and counts which the tests notice.
run.py mutate ROOM --sample 40           so many of the room's mutations at random, each file's by its own tests.
run.py mutate list [WORD]                the mutations of tests/mutations, each with the tests meant to notice it; those
                                         of a list, or that speak of a thing.

The first is mutmut, in a scratch copy: it wants the package in a folder of the name it is imported under, which the
repository's root is not (and its root's __init__.py needs ComfyUI), so the copy gets one. It breaks functions in one
process after another, forked after the imports, and runs only the tests that reach the broken function; hypothesis
draws the same examples each time and does not shrink. Left out: messages (lines that are only text, and `raise`),
decorated functions but static and class methods, and what stands outside functions. cosmic-ray could drive the layout
too, with a fresh interpreter for each mutation: 4 seconds to import torch against 0.3 in all.

The second draws from the same mutations, but runs them by cli/mutation_forks.py: one copy and one process for all
files, each file's own tests, and no counting which of them reach what. The third is for what mutmut does not think of:
one text for another, a fresh pytest each, in a scratch copy as well.
"""

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from .hosts import find_hosts
from .mutation_sample import draw, interval, own_tests, room_tests

ROOT = Path(__file__).resolve().parent.parent
LISTS = ROOT / "tests" / "mutations"
LEFT_BEHIND = shutil.ignore_patterns(".*", "demo", "__pycache__", "results", "workflows")
MESSAGES = ["raise ", r"""^\s*f?"[^"]*"$""", r"""^\s*f?'[^']*'$"""]
KILLED = {1, 3, 36, -24, 24, 152, 255}  # exit codes of mutmut: a test failed, or ran into the time limit
SURVIVED, UNREACHED = {0}, {5, 33}
TIMEOUT = 900  # seconds for the tests of one listed mutation
GENERATE = """
from mutmut.__main__ import copy_src_dir, create_mutants

copy_src_dir()
create_mutants(1)
"""  # `mutmut run` does this first, and then runs them
SHOW = """
import json, sys
from mutmut.mutation.diff_apply import get_diff_for_mutant

json.dump({name: get_diff_for_mutant(name) for name in json.load(sys.stdin)}, sys.stdout)
"""  # in one process; `mutmut show` starts one for each
NO_SHRINKING = """
from hypothesis import Phase

settings.register_profile("mutate", settings.get_profile("pack"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("mutate")
"""


@dataclass(frozen=True)
class Mutation:
    """One text of a file for another, and the tests meant to notice, as pytest takes them."""

    why: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="run.py mutate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("what", metavar="ROOM | FILE | list")
    options.add_argument("rest", nargs="*", metavar="TESTS", help="instead of all of the room's; with list: words")
    options.add_argument("--sample", type=int, metavar="N", help="only so many of the mutations, drawn at random")
    options.add_argument("--seed", type=int, default=0, help="of the drawing (default 0)")
    options.add_argument("--jobs", type=int, default=1, help="mutations at a time (default 1; of a sample always)")
    return options


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    if options.what == "list":
        return listed(options.rest)
    target = ROOT / options.what
    if not target.exists() or ROOT not in target.resolve().parents:
        raise ValueError(f"mutate {options.what}: no such room or file. Name one such as kernels, or list.")
    if find_spec("mutmut") is None:
        raise ValueError("mutate: needs mutmut, which needs fork (not Windows). pip install -r tests/requirements.txt")
    what = target.relative_to(ROOT).as_posix()
    if options.sample is not None:
        return sampled(what, options.rest, options.sample, options.seed)
    return generated(what, options.rest or room_tests(what), options.jobs)


def scratch(folder: Path) -> Path:
    """A copy of the tree whose root's __init__.py, ComfyUI's door, is left out."""
    tree = folder / "semantic_video"
    shutil.copytree(ROOT, tree, ignore=LEFT_BEHIND)
    (tree / "__init__.py").unlink()
    with (tree / "tests" / "conftest.py").open("a", encoding="utf-8") as file:
        file.write(NO_SHRINKING)
    return tree


def environment() -> dict[str, str]:
    found = {"COMFYUI_PATH": str(host)} if (host := next(iter(find_hosts(ROOT)), None)) else {}
    return os.environ | found | {"OMP_NUM_THREADS": "1", "CI": "1"}  # CI: hypothesis draws the same each time


def prepare(folder: Path, what: str, tests: list[str]) -> None:
    """The scratch copy and mutmut's settings."""
    scratch(folder)
    mutate = what if what.endswith(".py") else f"{what}/*"
    settings = {
        "source_paths": ["semantic_video"],
        "only_mutate": [f"semantic_video/{mutate}"],
        "do_not_mutate": ["*/tests/*"],
        "do_not_mutate_patterns": MESSAGES,
        "pytest_add_cli_args": ["-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": [f"semantic_video/{test}" for test in tests],
        "debug": False,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    (folder / "pyproject.toml").write_text("\n".join(["[tool.mutmut]", *lines]) + "\n", encoding="utf-8")


def results(folder: Path) -> dict[str, dict[str, int | None]]:
    """Exit codes by mutation, by file; None for what has not run."""
    tree = folder / "mutants" / "semantic_video"
    return {
        report.relative_to(tree).with_suffix("").as_posix(): json.loads(report.read_text("utf-8"))["exit_code_by_key"]
        for report in sorted(tree.rglob("*.py.meta"))
    }


def run_mutmut(folder: Path, jobs: int) -> dict[str, dict[str, int | None]]:
    """Runs all mutations; prints the survivors. Returns none where mutmut could not run."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(jobs)]
    ran = subprocess.run(command, cwd=folder, env=environment())
    found = results(folder)
    if ran.returncode or not found:
        print("mutmut did not run through; what it says stands above. Do the tests pass unbroken?", flush=True)
        return {}
    for codes in found.values():
        alive = [name for name, code in codes.items() if code not in KILLED]
        for name, diff in diffs(folder, alive).items():
            print(f"\n{verdict(codes[name])}: {name}\n{changed_lines(diff)}", flush=True)
    return found


def generated(what: str, tests: list[str], jobs: int) -> int:
    """Prints what survived and a score for each file; 1 where mutmut could not run."""
    with TemporaryDirectory(prefix="mutate-") as base:
        prepare(Path(base), what, tests)
        found = run_mutmut(Path(base), jobs)
    if not found:
        return 1
    lines, total = [], Counter()
    for file, codes in found.items():
        counts = Counter(verdict(code) for code in codes.values())
        total += counts
        if counts:
            lines.append(score(file, counts))
    print("\n" + "\n".join([*lines, score("all", total)]))
    return 0


def sampled(what: str, tests: list[str], size: int, seed: int) -> int:
    """Prints what became of each of a sample, and the score with its interval. 1 where the tests could not run."""
    with TemporaryDirectory(prefix="mutate-") as base:
        folder = Path(base)
        prepare(folder, what, tests or room_tests(what))
        subprocess.run(
            [sys.executable, "-c", GENERATE], cwd=base, env=environment(), stdout=subprocess.DEVNULL, check=True
        )
        files = {name: file for file, codes in results(folder).items() for name in codes}
        drawn = draw(files, size, seed)
        print(f"{len(drawn)} of {len(files)} mutations, seed {seed}", flush=True)
        jobs = [[name, [f"semantic_video/{test}" for test in tests or own_tests(files[name])]] for name in drawn]
        counts = Counter()
        for name, result, test in forks(folder, jobs):
            counts[result] += 1
            print(f"{result:9} {name.removeprefix('semantic_video.')} {test}".rstrip(), flush=True)
            if result != "killed":
                print(changed_lines(diffs(folder, [name])[name]), flush=True)
    print(f"\n{score('sample', counts)}; {interval(counts['killed'], len(drawn))}")
    return 0 if counts.total() == len(drawn) else 1


def forks(folder: Path, jobs: list) -> Iterator[tuple[str, str, str]]:
    """(mutation, what became of it, the test that noticed) of each of (mutation, its tests), one after the other."""
    command = [sys.executable, str(ROOT / "cli" / "mutation_forks.py")]
    with subprocess.Popen(
        command, cwd=folder / "mutants", env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdin.write(json.dumps(jobs))
        process.stdin.close()
        yield from map(json.loads, process.stdout)


def diffs(folder: Path, names: list[str]) -> dict[str, str]:
    """What mutmut changed, by the name it gives the change."""
    if not names:
        return {}
    shown = subprocess.run(
        [sys.executable, "-c", SHOW], cwd=folder, input=json.dumps(names), capture_output=True, text=True, check=True
    )
    return json.loads(shown.stdout)


def verdict(code: int | None) -> str:
    if code in KILLED:
        return "killed"
    if code in SURVIVED:
        return "survived"
    return "no test reaches" if code in UNREACHED else "unclear"


def changed_lines(diff: str) -> str:
    """The removed and the added lines of a diff, without its head."""
    marked = [line for line in diff.splitlines() if line[:1] in ("+", "-")]
    return "\n".join(line for line in marked if line[:3] not in ("+++", "---"))


def score(name: str, counts: Counter) -> str:
    parts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    return f"{name}: {counts['killed'] / max(sum(counts.values()), 1):.1%} killed ({parts})"


def read_list(words: list[str]) -> list[Mutation]:
    """Those of the lists in which, or in whose file's name, all words occur. Raises ValueError where an old text is
    not there exactly once."""
    chosen = []
    rows = [
        (f"{LISTS.name}/{path.name}", row)
        for path in sorted(LISTS.glob("*.py"))
        for row in runpy.run_path(str(path))["MUTATIONS"]
    ]
    for name, row in rows:
        mutation = Mutation(*row)
        said = " ".join((name, mutation.why, mutation.file, *mutation.tests)).lower()
        if not all(word.lower() in said for word in words):
            continue
        found = (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old)
        if found != 1:
            raise ValueError(f"{mutation.why}: {mutation.file} has {found} times:\n{mutation.old}\nMend the list.")
        chosen.append(mutation)
    if not chosen:
        raise ValueError(f"mutate list {' '.join(words)}: none such. Leave the words out for all.")
    return chosen


def listed(words: list[str]) -> int:
    """0 where all of the list are killed."""
    mutations, counts = read_list(words), Counter()
    with TemporaryDirectory(prefix="mutate-") as base:
        tree = scratch(Path(base))
        tests = sorted({test for mutation in mutations for test in mutation.tests})
        print(f"{len(mutations)} mutations; first their tests, unbroken", flush=True)
        if pytest(tree, tests, quiet=False) != 0:
            print("The tests fail unbroken, so nothing can be said of mutations.")
            return 1
        for mutation in mutations:
            path = tree / mutation.file
            whole = path.read_text(encoding="utf-8")
            path.write_text(whole.replace(mutation.old, mutation.new), encoding="utf-8")
            code = pytest(tree, mutation.tests)
            path.write_text(whole, encoding="utf-8")
            result = verdict(36 if code is None else code)
            counts[result] += 1
            print(f"{result:9} {mutation.file}: {mutation.why}", flush=True)
    print("\n" + score("list", counts))
    return 0 if counts["killed"] == len(mutations) else 1


def pytest(tree: Path, tests, quiet: bool = True) -> int | None:
    """Its exit code; None where the time ran out."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(command, cwd=tree, env=environment(), capture_output=quiet, timeout=TIMEOUT).returncode
    except subprocess.TimeoutExpired:
        return None
