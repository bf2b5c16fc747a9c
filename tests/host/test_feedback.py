"""What techniques say on their nodes: where they acted, that they did nothing or were off, and what they chose."""

import sys
import types
from uuid import uuid4

import pytest
from comfy_execution import progress
from comfy_execution.graph import DynamicPrompt
from comfy_execution.utils import CurrentNodeContext

from semantic_video.harness.sampling import Shot, sample
from semantic_video.host.feedback import LEFT_ALONE, this_node
from semantic_video.host.schedule import Interval
from semantic_video.patches import dymos, swin_renderer
from semantic_video.tests.host.edits import doubling, editing, passing
from semantic_video.tests.host.stacking import windows

GRAPH = {name: {"class_type": kind, "inputs": {}} for name, kind in (("7", "Technique"), ("8", "KSampler"))}


class Graph:
    """A server that hears, and a graph that runs on it."""

    def __init__(self, patch):
        self.patch, self.heard, self.prompt = patch, [], ""
        server = types.ModuleType("server")
        server.PromptServer = types.SimpleNamespace(instance=self)
        self.client_id = "someone"
        patch.setitem(sys.modules, "server", server)
        self.start(GRAPH)

    def send_progress_text(self, text, node_id, sid=None):
        self.heard.append((node_id, text, sid))

    def start(self, graph: dict) -> None:
        self.prompt = uuid4().hex
        state = progress.ProgressRegistry(self.prompt, DynamicPrompt(graph))
        self.patch.setattr(progress, "global_progress_registry", state)
        self.heard.clear()

    def node(self, name: str):
        return CurrentNodeContext(self.prompt, name)

    @property
    def text(self) -> str:
        """What stands under the technique at last."""
        assert {node for node, _, _ in self.heard} <= {"7"} and {sid for *_, sid in self.heard} <= {"someone"}
        return self.heard[-1][1] if self.heard else ""


@pytest.fixture
def graph(monkeypatch):
    return Graph(monkeypatch)


def run(graph, apply, model, shot, config) -> str:
    with graph.node("7"):
        patched = apply(model, config)
    with graph.node("8"):
        sample(patched, shot)
    return graph.text


def swin(**settings):
    return swin_renderer.SwinRenderer(window=4, **settings)


def test_where_it_acted_and_what_it_chose(toys, graph):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=4)
    assert run(graph, swin_renderer.apply, model, shot, swin()) == (
        "9 latent frames in windows of 4, 0 anchors, time_scale 1.\n"
        "Acted in all 4 steps, all 4 blocks, all 9 latent frames."
    )
    graph.start(GRAPH)
    some = swin(dense_blocks="0,2", interval=Interval(0.0, 0.5), anchors="first frame", anchor_budget=8)
    assert run(graph, swin_renderer.apply, model, shot, some) == (
        "9 latent frames in windows of 4, 1 anchor, time_scale 1.\n"
        "Acted in steps 0-1 of 4, blocks 1,3 of 4, all 9 latent frames."
    )


def test_frames_are_those_of_the_context_windows_it_acted_in(toys, graph):
    model, shot = windows(toys("wan-i2v"), length=4, overlap=1), Shot("wan-i2v", steps=2)
    text = run(graph, dymos.apply, model, shot, dymos.DyMoS(interval=Interval()))
    assert text == "Acted in all 2 steps, all 4 blocks, latent frames 0-3 of 9."


def test_what_changes_nothing_says_so(toys, graph):
    with graph.node("7"):
        silent = editing(toys("wan-t2v"), passing, sites=("text",))
    with graph.node("8"):
        sample(silent, Shot("wan-t2v", steps=1))
    assert graph.text == "Changed nothing; it looked on in the only step, all 4 blocks, all 9 latent frames."


def test_off_and_out_of_reach(toys, graph):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=2)
    assert run(graph, swin_renderer.apply, model, shot, swin(strength=0.0)) == LEFT_ALONE
    graph.start(GRAPH)
    text = run(graph, swin_renderer.apply, model, shot, swin(interval=Interval(0.9, 0.95)))
    assert text.splitlines()[-1].startswith("Did nothing: start and end leave out all steps of this run")


def test_two_runs_of_one_prompt_stand_together_and_a_new_prompt_begins_anew(toys, graph):
    model = editing(toys("wan-t2v"), doubling)
    with graph.node("7"):
        model = editing(toys("wan-t2v"), doubling)
    whole, part = Shot("wan-t2v", steps=4), Shot("wan-t2v", steps=4, start_step=3)
    for shot in (whole, whole, part):
        sample(model, shot)
    both = [
        "Acted in all 4 steps, all 4 blocks, all 9 latent frames.",
        "Acted in the only step, all 4 blocks, all 9 latent frames.",
    ]
    assert graph.text.splitlines() == both
    graph.start(GRAPH)
    sample(model, part)
    assert graph.text.splitlines() == both[1:]


def test_a_model_from_the_cache_speaks_under_the_id_of_the_graph_that_runs(toys, graph):
    """ComfyUI answers a node from its cache by its settings, whatever its id was."""
    with graph.node("7"):
        model = editing(toys("wan-t2v"), doubling)
    shot = Shot("wan-t2v", steps=1)
    for ids, heard in ((["7"], ["7"]), (["5"], ["5"]), (["5", "6"], []), ([], [])):
        graph.start({"7": {"class_type": "KSampler"}} | {name: {"class_type": "Technique"} for name in ids})
        sample(model, shot)
        assert [node for node, _, _ in graph.heard] == heard


def test_without_a_server_or_a_graph_nothing_is_sent(toys, graph, monkeypatch, caplog):
    assert this_node().kind == ""
    with caplog.at_level("INFO"):
        sample(editing(toys("wan-t2v"), doubling), Shot("wan-t2v", steps=1))
    assert graph.heard == [] and "doubling: acted in the only step" in caplog.text
    monkeypatch.delitem(sys.modules, "server")
    with graph.node("7"):
        model = editing(toys("wan-t2v"), doubling)
    sample(model, Shot("wan-t2v", steps=1))
    assert graph.heard == [] and "server" not in sys.modules
