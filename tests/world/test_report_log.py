"""A report that was ended goes on where it stopped, and only where nothing changed; several servers share its work."""

import json
import time
from threading import Barrier

import pytest

from semantic_video.cli.client import ServerError, WorkflowError
from semantic_video.cli.report_log import Log, code_version
from semantic_video.cli.spread import spread


def test_a_video_is_scored_once(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"object": 0.1 + 0.2}

    first = Log(tmp_path / "log.jsonl", "maker")
    assert (
        first.get({"workflow": {"seed": 1}}, make)
        == first.get({"workflow": {"seed": 1}}, make)
        == {"object": 0.1 + 0.2}
    )
    again = Log(tmp_path / "log.jsonl", "maker")
    assert again.get({"workflow": {"seed": 1}}, make) == {"object": 0.1 + 0.2} and (len(made), again.taken) == (1, 1)
    again.get({"workflow": {"seed": 2}}, make)
    Log(tmp_path / "log.jsonl", "another maker").get({"workflow": {"seed": 1}}, make)
    Log(tmp_path / "log.jsonl", "maker", fresh=True).get({"workflow": {"seed": 1}}, make)
    assert len(made) == 4


def test_a_line_that_was_cut_off_is_made_again(tmp_path):
    path = tmp_path / "log.jsonl"
    Log(path, "maker").get({"seed": 1}, lambda: {"object": 1.0})
    path.write_text(path.read_text()[:-9] + "\n" + json.dumps(["no entry"]) + "\n")
    assert Log(path, "maker").get({"seed": 1}, lambda: {"object": 2.0}) == {"object": 2.0}


def test_the_code_s_version_changes_with_what_makes_the_videos_alone(tmp_path):
    for folder in ("patches", "tests", "mini/weights"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "patches" / "a.py").write_text("x = 1")
    versions = [code_version(tmp_path)]
    (tmp_path / "tests" / "a.py").write_text("x = 1")
    assert code_version(tmp_path) == versions[0]
    for name, text in (("patches/a.py", "x = 2"), ("mini/weights/m.safetensors", "w"), ("patches/b.py", "")):
        (tmp_path / name).write_text(text)
        versions.append(code_version(tmp_path))
    assert len(set(versions)) == 4


def test_work_is_shared_and_its_results_are_in_order():
    both = Barrier(2, timeout=20)

    def work(server, number):
        if number < 2:
            both.wait()  # each server has one of the first two
        return number * 10

    assert spread(["a", "b"], 5, work, "caption") == [0, 10, 20, 30, 40]
    assert spread(["a"], 3, lambda server, number: (server, number), "caption") == [("a", 0), ("a", 1), ("a", 2)]


def test_a_lost_server_s_work_is_taken_over_even_when_the_others_have_nothing_left():
    started, seen = Barrier(2, timeout=20), set()

    def work(server, number):
        if number < 2 and server not in seen:
            seen.add(server)
            started.wait()  # each server has one
        if server == "lost":
            time.sleep(0.2)  # the other one is out of work by now
            raise ServerError("went away")
        return server, number

    assert spread(["lost", "good"], 3, work, "caption") == [("good", number) for number in range(3)]

    def nobody(server, number):
        raise ServerError(f"{server} went away")

    with pytest.raises(ServerError, match="went away"):
        spread(["a", "b"], 3, nobody, "caption")


def test_a_workflow_that_fails_ends_all():
    def work(server, number):
        raise WorkflowError("KSampler (3): no")

    with pytest.raises(WorkflowError, match="KSampler"):
        spread(["a", "b"], 50, work, "caption")


def test_ctrl_c_keeps_what_is_done_in_a_row(capsys):
    def work(server, number):
        if number == 2:
            raise KeyboardInterrupt
        return number

    assert spread(["a"], 5, work, "caption") == [0, 1]
    assert "the table is over 2 of 5" in capsys.readouterr().out
    with pytest.raises(KeyboardInterrupt):
        spread(["a"], 5, lambda server, number: work(server, 2), "caption")
