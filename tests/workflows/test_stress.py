"""run.py stress in small, and its judgement of what must not happen."""

import json
from random import Random

import pytest
from PIL import Image

from semantic_video.cli import stress
from semantic_video.cli.demo_shots import write_inputs
from semantic_video.cli.stress_cases import FAILS, alternated, case, cases, fresh, malformed
from semantic_video.cli.stress_load import Load, end_of, judge
from semantic_video.cli.stress_options import parser

TECHNIQUES = ("swin_long_video_wan", "focal_i2v_wan22_lightning", "ssg_t2v_adapter_wan")
SAMPLER = {"sampler": {"class_type": "KSampler", "inputs": {}}}


@pytest.fixture(scope="module")
def filled(server):
    write_inputs(server.base / "input")
    return server


def test_nothing_is_lost_and_nothing_changes_under_load(filled):
    graphs = {name: case(name, seed) for seed, name in enumerate(TECHNIQUES)}
    expected, faults = stress.warm_up(filled, graphs)
    assert faults == [] and len(set(expected.values())) == len(graphs)
    ends, faults = stress.storm(filled, graphs, expected, 10, Random(3))
    assert faults == []
    assert ends["refused posts"] == 3 and ends["failed"] + ends["cancelled"] >= 1
    assert sum(ends.values()) == 10 + 3, "every prompt has an end"


def test_frames_of_another_seed_are_noticed(filled):
    name, graph = "swin_long_video_wan", case("swin_long_video_wan", 0)
    done = stress.load(filled, [(name, graph)], Random(0), malformed_posts=0, meddle=0)
    [prompt_id] = done.accepted
    other = stress.quiet(filled, case(name, 1))
    wrong = judge(done, prompt_id, graph, other, lambda outputs: stress.digest(filled.base, outputs))
    assert wrong == ("done", f"{name}: not the frames of the quiet server")


def test_patched_and_unpatched_in_turn(filled):
    assert stress.alternate(filled, 12) == [], "each technique: patched, unpatched, patched"
    assert stress.leaks(filled.log.read_text(errors="replace")) == []


def test_all_malformed_posts_are_refused(filled):
    done = stress.load(filled, [], Random(0), malformed_posts=len(malformed()), meddle=0)
    assert (done.refused, done.accepted, done.faults) == (len(malformed()), {}, [])


def entry(status: str = "success", *messages) -> dict:
    return {"status": {"status_str": status, "messages": list(messages)}, "outputs": {}}


def failure(text: str) -> tuple:
    return ("execution_error", {"exception_message": text})


@pytest.mark.parametrize(("name", "found", "asked", "end", "fault"), [
    ("a", entry(), {}, "done", ""),
    ("a", None, {"cancels": {"id"}}, "cancelled", ""),
    ("a", None, {}, "lost", "a: lost, neither cancelled nor in the history"),
    ("a", entry("error", ("execution_interrupted", {})), {"interrupts": {"id"}}, "interrupted", ""),
    ("a", entry("error", ("execution_interrupted", {})), {}, "interrupted", "a: interrupted, and nobody asked"),
    ("a", entry("error", failure("no memory ")), {"interrupts": {"id"}}, "failed", "a: failed, no memory"),
    (FAILS[0], entry("error", failure(f"keywords: {FAILS[1]}")), {}, "failed", ""),
    (FAILS[0], entry("error", failure("no memory")), {}, "failed", f"{FAILS[0]}: failed, no memory"),
    (FAILS[0], entry(), {}, "done", f"{FAILS[0]}: it was done"),
    ("a", entry("success", ("execution_cached", {"nodes": ["sampler"]})), {}, "done",
     "a: sampler was answered from the cache, so nothing was tried"),
])  # fmt: skip
def test_ends_are_judged(name, found, asked, end, fault):
    done = Load(accepted={"id": name}, history={"id": found} if found else {}, **asked)
    assert end_of("id", done) == end
    assert judge(done, "id", SAMPLER, "same", lambda outputs: "same") == (end, fault)


def test_other_frames_are_a_fault():
    done = Load(accepted={"id": "a"}, history={"id": entry()})
    assert judge(done, "id", SAMPLER, "same", lambda outputs: "other")[1] == "a: not the frames of the quiet server"


def test_growth_is_a_fault_from_two_percent_on():
    assert stress.grown(1000 * 2**20, 1019 * 2**20, "later")[1] == []
    [fault] = stress.grown(1000 * 2**20, 1020 * 2**20, "later")[1]
    assert fault.startswith("memory: 1020 MB later, +2.00% over the 1000 MB after warm-up")


def test_a_leak_that_the_host_found_is_a_fault():
    warning = "WARNING, memory leak with model WAN21. Please make sure it is not being referenced from somewhere."
    assert stress.leaks("got prompt\nPrompt executed") == []
    assert stress.leaks(f"got prompt\n{warning}\n{warning}\n") == [f"memory: the host warned 2 times, first: {warning}"]


def test_a_digest_is_of_pixels(tmp_path):
    """Files that differ in their metadata alone are the same, one pixel off is not; frames and texts count."""
    for name, colour in (("a", (9, 9, 9)), ("b", (9, 9, 9)), ("c", (9, 9, 8))):
        (tmp_path / "output").mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), colour).save(tmp_path / "output" / f"{name}.png", dpi=(ord(name), 1))

    def seen(*names, **texts):
        files = [{"filename": f"{name}.png", "subfolder": "", "type": "output"} for name in names]
        return stress.digest(tmp_path, {"save": {"images": files} | texts})

    assert seen("a") == seen("b")
    assert len({seen("a"), seen("c"), seen("a", "b"), seen("a", text=["1"]), seen("a", text=["2"])}) == 5


def test_a_broken_patch_would_be_noticed(monkeypatch):
    """With frames that depend on how often they were asked for, and with a patch that does nothing."""
    calls = iter(range(100))
    monkeypatch.setattr(stress, "quiet", lambda server, graph: str(next(calls)))
    assert len(stress.alternate(None, 6, ("swin_long_video_wan",))) == 4
    monkeypatch.setattr(stress, "quiet", lambda server, graph: "same")
    [fault] = stress.alternate(None, 6, ("swin_long_video_wan",))
    assert fault.endswith("the patch did nothing")
    monkeypatch.setattr(stress, "quiet", lambda server, graph: json.dumps("swin" in graph))
    assert stress.alternate(None, 6, ("swin_long_video_wan",)) == []


def test_the_cases():
    graphs = cases()
    assert len({name.partition(",")[0] for name in graphs}) >= 18
    assert "clip_spatial_mask, seed 0" in graphs and "clip_spatial_mask, seed 1" not in graphs
    patched, unpatched = alternated("ssg_t2v_adapter_wan")
    assert patched["sampler"]["inputs"]["model"] == ["apply", 0] and "apply" not in unpatched
    assert unpatched["sampler"]["inputs"]["model"] == ["shift", 0]
    marked = [fresh(patched)["sampler"]["inputs"]["mark"] for _ in range(2)]
    assert marked[0] != marked[1] and "mark" not in patched["sampler"]["inputs"]


def test_options():
    assert vars(parser().parse_args([])) == {"prompts": 50, "alternate": 200, "seed": 0}
    with pytest.raises(SystemExit):
        parser().parse_args(["--prompts", "-1"])
