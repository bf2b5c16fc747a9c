"""Runs the tests of single mutations, each in a fork of one process that has imported everything.

A script of its own, started in mutmut's folder `mutants`. Standard input: JSON [[mutation, [test files]], ...];
standard output: for each a line of JSON [mutation, verdict, test that noticed]. A mutation is killed by a test that
fails with it and passes without it, or where tests that need little time without it do not end with it.
"""

import json
import os
import signal
import sys

import pytest

UNDER_TEST = "MUTANT_UNDER_TEST"  # what mutmut's trampolines look at; empty: the code as it is
SECONDS = 240  # of a CPU for the tests of one mutation; without it they may take half
ARGUMENTS = ["--rootdir=.", "--tb=native", "-q", "-x", "-p", "no:cacheprovider"]
# fixtures of tests that sample; the others are quick and come first
MODELS = {"toys", "adapters", "backbone", "expert"}
OUT_OF_TIME = {-getattr(signal, name, 0) for name in ("SIGXCPU", "SIGKILL")} - {0}


class Watch:
    """Sorts quick tests to the front and remembers the first that fails."""

    def __init__(self):
        self.failed = ""

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: bool(MODELS & set(item.fixturenames)))

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.failed:
            self.failed = report.nodeid


def forked(mutation: str, tests: list[str], seconds: int) -> tuple[int | None, str]:
    """(exit code of pytest, None where the time ran out; the test that failed)"""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        import resource  # not on Windows

        os.environ[UNDER_TEST] = mutation
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        watch, code = Watch(), 3
        try:
            code = int(pytest.main([*ARGUMENTS, *tests], plugins=[watch]))
            os.write(writing, watch.failed.encode())
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as told:
        failed = told.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return (None if code in OUT_OF_TIME else code), failed


def verdict_of(mutation: str, tests: list[str]) -> tuple[str, str]:
    """(what became of a mutation, the test that noticed)"""
    code, failed = forked(mutation, tests, SECONDS)
    if code == 0:
        return "survived", ""
    if code is None:
        return ("killed" if forked("", tests, SECONDS // 2)[0] == 0 else "unclear"), "time"
    passes = code == 1 and failed and forked("", [failed], SECONDS // 2)[0] == 0
    return ("killed" if passes else "unclear"), failed


def main() -> None:
    jobs = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # pytest's own output
    os.environ[UNDER_TEST] = ""
    files = sorted({test for _, tests in jobs for test in tests})
    if code := int(pytest.main([*ARGUMENTS, "--collect-only", *files])):
        sys.exit(f"The tests cannot be collected (pytest gives {code}).")
    for mutation, tests in jobs:
        print(json.dumps([mutation, *verdict_of(mutation, tests)]), file=answers, flush=True)


if __name__ == "__main__":
    main()
