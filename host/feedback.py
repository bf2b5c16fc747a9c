"""What a technique has to say, on its node as in the log: that it fell back, chose a value or did nothing, and where it
acted.

ComfyUI shows one text under a node, which each new one replaces (`PromptServer.send_progress_text`): what a node says
in one prompt is kept and sent together. Without a server, in scripts and tests, only the log hears.
"""

import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context

from .ranges import ranges

PREFIX = "[semantic-video] "
LEFT_ALONE = "Off at these settings: the model is left as it is."


@dataclass(frozen=True)
class Node:
    """A node of the graph: its id, and its class, since ComfyUI may answer a node of another graph from its cache."""

    id: str = ""
    kind: str = ""

    def place(self) -> str | None:
        """The id under which the graph that runs shows this node; None where it does not hold it, or no graph runs."""
        graph = get_progress_state().dynprompt
        kinds = {node: graph.get_node(node)["class_type"] for node in graph.all_node_ids()}
        if self.kind and kinds.get(self.id) != self.kind:  # the same settings under another id
            alike = [node for node, kind in kinds.items() if kind == self.kind]
            return graph.get_display_node_id(alike[0]) if len(alike) == 1 else None
        return graph.get_display_node_id(self.id) if self.kind else None

    def show(self, line: str) -> None:
        """Adds a line to the text under the node; one that stands there already is not said again."""
        server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
        listens = getattr(server, "client_id", None) is not None  # whoever queued the graph; others see other graphs
        place = self.place() if listens else None
        if place is not None and (text := _texts.add(get_progress_state().prompt_id, place, line)):
            server.send_progress_text(text, place, server.client_id)


@dataclass
class _Texts:
    """What stands under the nodes of the prompt that runs."""

    prompt: str = ""
    lines: dict[str, list[str]] = field(default_factory=dict)

    def add(self, prompt: str, node: str, line: str) -> str:
        """The whole text of a node; empty where the line is not new."""
        if prompt != self.prompt:
            self.prompt, self.lines = prompt, {}
        said = self.lines.setdefault(node, [])
        if line in said:
            return ""
        said.append(line)
        return "\n".join(said)


_texts = _Texts()


def this_node() -> Node:
    """The node that is being executed; outside of a graph one that shows nothing."""
    context = get_executing_context()
    graph = get_progress_state().dynprompt
    if context is None or not graph.has_node(context.node_id):
        return Node()
    return Node(context.node_id, graph.get_node(context.node_id)["class_type"])


def say(message: str, level: int = logging.INFO, nodes: Iterable[tuple[str, Node]] | None = None) -> None:
    """Into the log, and on nodes: pairs of a technique's name, with which the message may begin, and its node. None: on
    the node that is being executed."""
    logging.log(level, "%s%s", PREFIX, message)
    for name, node in (("", this_node()),) if nodes is None else nodes:
        line = message.removeprefix(name).lstrip(": ")
        node.show(line[:1].upper() + line[1:])


@dataclass
class Acted:
    """Where a technique was asked in one run, or where it changed something: steps, blocks, latent frames; from 0."""

    steps: set[int] = field(default_factory=set)
    blocks: set[int] = field(default_factory=set)
    frames: set[int] = field(default_factory=set)

    def add(self, step: int, blocks: Iterable[int], frames: Iterable[int]) -> None:
        self.steps.add(step)
        self.blocks.update(blocks)
        self.frames.update(frames)

    def summary(self, steps: int, blocks: int, frames: int) -> str:
        """In words; of so many in all."""
        parts = ((self.steps, steps, "step"), (self.blocks, blocks, "block"), (self.frames, frames, "latent frame"))
        return ", ".join(_some(*part) for part in parts if part[0])


@dataclass
class Feedback:
    """What the techniques of one run have to say. nodes: where each was applied, by its name."""

    nodes: dict[str, Node] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    asked: dict[str, Acted] = field(default_factory=dict)
    changed: dict[str, Acted] = field(default_factory=dict)

    def say_once(self, message: str, level: int = logging.INFO) -> None:
        """On the node of the technique whose name the message begins with; without one it is about all."""
        if message not in self.said:
            self.said.add(message)
            about = {name: node for name, node in self.nodes.items() if message.startswith(name)}
            say(message, level, (about or self.nodes).items())

    def note(self, parts: dict[tuple[str, bool], set[int]], step: int, frames: Iterable[int]) -> None:
        """parts: of one call of the model, the blocks in which a technique was asked, and whether it changed them."""
        for (name, changed), blocks in parts.items():
            for book in (self.asked, self.changed)[: 1 + changed]:
                book.setdefault(name, Acted()).add(step, blocks, frames)

    def summarize(self, name: str, steps: int, blocks: int, frames: int) -> None:
        """Says where a technique that was asked acted; of so many in all."""
        if acted := self.changed.get(name):
            self.say_once(f"{name}: acted in {acted.summary(steps, blocks, frames)}.")
        else:
            looked = self.asked[name].summary(steps, blocks, frames)
            self.say_once(f"{name}: changed nothing; it looked on in {looked}.")


def _some(chosen: set[int], total: int, noun: str) -> str:
    if len(chosen) >= total:
        return f"all {total} {noun}s" if total > 1 else f"the only {noun}"
    return f"{noun}{'s' if len(chosen) > 1 else ''} {ranges(chosen)} of {total}"
