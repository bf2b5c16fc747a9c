"""The test runner: rounds side by side, what they say, and what they add up to."""

import os
import re
import sys
import time

import pytest

from semantic_video.cli import testing
from semantic_video.cli.rounds import Result, Round, Running, duration, estimate, load_times, run_all, save_times

TESTS = {
    "good": """
import pytest
def test_one(): pass
def test_two(): pass
@pytest.mark.skip(reason="no such thing here")
def test_three(): pass
@pytest.mark.skip(reason="no such thing here")
def test_four(): pass
""",
    "bad": """
import pytest
def test_five(): assert 1 == 2
@pytest.fixture
def broken(): raise RuntimeError
def test_six(broken): pass
def test_seven(): pass
""",
    "dead": "import os\ndef test_eight(): os._exit(3)\n",
    "alone": """
import pathlib, time
def test_nine():
    here = pathlib.Path(__file__).parent
    (here / "begun").touch()
    while not (here.parent / "other" / "begun").exists(): time.sleep(0.05)
""",
    "other": """
import pathlib, time
def test_ten():
    here = pathlib.Path(__file__).parent
    (here / "begun").touch()
    while not (here.parent / "alone" / "begun").exists(): time.sleep(0.05)
""",
    "long": """
import pathlib, pytest, time
here = pathlib.Path(__file__).parent
@pytest.fixture
def server():
    (here / "begun").touch()
    yield
    (here / "ended").touch()
def test_eleven(server): time.sleep(60)
""",
}


@pytest.fixture
def root(tmp_path):
    for name, text in TESTS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / f"test_{name}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -q\n")
    return tmp_path


def rounds(*names: str) -> list[Round]:
    return [Round(name, (name,), dict(os.environ)) for name in names]


def test_counts_failures_and_reasons(root, capsys):
    results = {result.title: result for result in run_all(rounds("good", "bad", "dead"), 2, [], root)}
    assert results["good"].counts == {"passed": 2, "failed": 0, "skipped": 2} and results["good"].code == 0
    assert results["good"].skips == ["no such thing here"] * 2
    assert results["bad"].counts == {"passed": 1, "failed": 2, "skipped": 0} and results["bad"].code == 1
    assert [name.split("::")[1] for name in results["bad"].failures] == ["test_five", "test_six"]
    assert results["dead"].counts["failed"] == 1 and results["dead"].failures == ["pytest itself, exit code 3"]
    shown = capsys.readouterr().out
    assert re.search(r"== bad \(\d+:\d\d\)", shown) and "assert 1 == 2" in shown, "what failed is shown whole"
    lines = testing.summary(list(results.values())).splitlines()
    assert lines[-1] == "3 passed, 3 failed, 2 skipped"
    assert "     2 x no such thing here" in lines
    assert [line for line in lines if line.startswith("FAILED")][0].endswith("::test_five   (bad)")


def test_two_rounds_run_at_the_same_time(root):
    """Each waits for the other to begin."""
    assert [result.code for result in run_all(rounds("alone", "other"), 2, [], root)] == [0, 0]


def test_options_reach_pytest(root):
    (result,) = run_all(rounds("bad"), 1, ["-k", "seven"], root)
    assert result.counts == {"passed": 1, "failed": 0, "skipped": 0}


def test_a_round_may_leave_files_out(root):
    both = Round("most", ("good", "bad"), dict(os.environ), without=("bad/test_bad.py",))
    (result,) = run_all([both], 1, [], root)
    assert result.counts == {"passed": 2, "failed": 0, "skipped": 2}


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_an_interrupted_round_ends_its_servers(root, tmp_path):
    folder = tmp_path / "round"
    folder.mkdir()
    running = Running(rounds("long")[0], [], root, folder)
    while not (root / "long" / "begun").exists():
        assert running.process.poll() is None, running.text()
        time.sleep(0.05)
    running.interrupt()
    running.end()
    assert running.process.poll() == 2 and (root / "long" / "ended").exists()


def test_how_long_it_takes():
    three = [Round(str(seconds), (), {}, seconds) for seconds in (100.0, 300.0, 250.0)]
    assert estimate(three, 1) == 650 and estimate(three, 2) == 350 and estimate(three, 3) == 300
    assert (duration(59.9), duration(350)) == ("0:59", "5:50")


def test_times_are_kept_and_damage_is_no_matter(tmp_path):
    path = tmp_path / ".cache" / "times.json"
    assert load_times(path) == {}
    save_times(path, {"one": 12.34})
    assert load_times(path) == {"one": 12.3}
    for damage in ("", "[1]", '{"one": null}', '{"one": "x"}'):
        path.write_text(damage)
        assert load_times(path) == {}


@pytest.fixture
def runner(monkeypatch, tmp_path):
    """testing.main with stand-ins: `runner(results, hosts, *words)` gives its exit code."""

    def run(results, hosts, *words):
        asked = []
        monkeypatch.setattr(testing, "TIMES", tmp_path / ".cache" / "times.json")
        monkeypatch.setattr(testing, "find_hosts", lambda root: hosts)
        monkeypatch.setattr(testing, "style", lambda: True)
        monkeypatch.setattr(testing, "run_all", lambda rounds, *rest: asked.extend(rounds) or results)
        return testing.main(list(words)), asked

    return run


def result(passed=1, failed=0, skipped=0, code=0, title="without ComfyUI: house") -> Result:
    counts = {"passed": passed, "failed": failed, "skipped": skipped}
    return Result(title, code, 42.0, counts, ["a::b"] * failed, ["why"] * skipped)


def test_no_host_is_said_loudly_and_the_counts_come_last(runner, capsys):
    code, asked = runner([result(5)], [], "--jobs", "1")
    shown = capsys.readouterr().out
    assert code == 0 and [one.title for one in asked] == ["without ComfyUI: house", "without ComfyUI: kernels, world"]
    assert "NO ComfyUI FOUND" in shown and "DID NOT RUN" in shown
    assert shown.endswith("\n\n5 passed, 0 failed, 0 skipped\n")
    assert "Rounds of tests: 2, 1 at a time; about 2:00 (a guess: there is no last run to go by)" in shown
    both = [result(5), result(5, title="without ComfyUI: kernels, world")]
    runner(both, [], "--jobs", "1")
    runner(both, [], "--jobs", "1")
    assert "about 1:24 (as last time)" in capsys.readouterr().out


def test_declining_a_host_is_not_loud(runner, capsys):
    assert runner([result()], [], "--no-host")[0] == 0
    assert "NO ComfyUI FOUND" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("results", "words", "code"),
    [
        ([result(), result(failed=1, code=1)], (), 1),
        ([result(), result(passed=0, code=5)], (), 1),  # a round without tests is a fault
        ([result(), result(passed=0, code=5)], ("-k", "x"), 0),  # unless they were chosen away
        ([result(passed=0, code=5), result(passed=0, code=5)], ("-k", "typo"), 1),
        ([result(), result(passed=0, failed=1, code=-11)], (), 1),
    ],
)
def test_any_failure_fails(runner, results, words, code):
    assert runner(results, [], *words)[0] == code


def test_every_host_has_its_rounds_one_thread_each(runner, tmp_path):
    hosts = [tmp_path / "a", tmp_path / "b"]
    _, asked = runner([result()], hosts)
    assert len(asked) == 7 and {one.environment["OMP_NUM_THREADS"] for one in asked} == {"1"}
    for host in hosts:
        folders = [one.folders for one in asked if one.environment.get("COMFYUI_PATH") == str(host)]
        mini = ["tests/mini"] if host == hosts[0] else []
        assert sorted(sum(folders, ())) == ["tests/host", *mini, "tests/workflows"]
        [without] = [
            one.without
            for one in asked
            if one.folders == ("tests/host",) and one.environment["COMFYUI_PATH"] == str(host)
        ]
        assert without == (testing.ONCE if host == hosts[1] else ())
    assert all((testing.ROOT / path).is_file() for path in testing.ONCE)


def test_every_folder_of_tests_is_in_a_round():
    root = testing.ROOT / "tests"
    folders = {f"tests/{path.name}" for path in root.iterdir() if list(path.glob("test_*.py"))}
    assert folders == {*sum(testing.HOST_FREE, ()), *sum(testing.WITH_HOST + testing.ONE_HOST, ())}
    assert sys.version_info >= (3, 10)
