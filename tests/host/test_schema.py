"""Inputs of shipped nodes are append-only: shared workflows hold widget values by position and links by number.

tests/house/schema.json is what has shipped, node by node: inputs in order with type, default and choices, and the types
of outputs. A release appends what it adds; what stands there stays.
"""

import json
from pathlib import Path

import pytest

from semantic_video.nodes import NODE_CLASS_MAPPINGS, NODES

RECORDED = json.loads((Path(__file__).parent.parent / "house" / "schema.json").read_text(encoding="utf-8"))
NODE_OF = {node.define_schema().node_id: node for node in NODES}
CHANGED = {  # (node, input or output): why workflows of before run as they did
    ("SemVidVAPApply", "expert"): "a type of its own on both ends of the link; links are stored by number",
    ("SemVidVAPExpertLoader", "output 0"): "the other end",
    ("SemVidSwinRenderer", "window"): "the default became 0, automatic; saved workflows hold their own value",
}


def plain(value):
    """As JSON has it."""
    return json.loads(json.dumps(value, default=str))


def inputs_of(node) -> list[dict]:
    """{"id", "type", "default", "choices"} of each input, in order; choices only where there are any. Those that are
    files of this machine are left out."""
    found = []
    for one in node.define_schema().inputs:
        entry = {"id": one.id, "type": one.get_io_type(), "default": plain(getattr(one, "default", None))}
        choices = [str(getattr(choice, "key", choice)) for choice in getattr(one, "options", None) or []]
        if choices and not any(choice.endswith(".safetensors") for choice in choices):
            entry["choices"] = choices
        found.append(entry)
    return found


def outputs_of(node) -> list[str]:
    return [one.get_io_type() for one in node.define_schema().outputs]


def test_ids_are_those_written_out_for_tools_that_only_read():
    assert NODE_OF == NODE_CLASS_MAPPINGS


@pytest.mark.parametrize("name", RECORDED)
def test_a_node_that_shipped_stays(name):
    assert name in NODE_OF, f"{name} has shipped; shared workflows would miss it"


@pytest.mark.parametrize("name", [name for name in RECORDED if name in NODE_OF])
def test_inputs_are_append_only(name):
    was, now = RECORDED[name]["inputs"], inputs_of(NODE_OF[name])
    assert [one["id"] for one in now[: len(was)]] == [one["id"] for one in was], "order and names"
    for old, new in zip(was, now):
        changed = (name, old["id"]) in CHANGED
        assert changed or (new["type"], new["default"]) == (old["type"], old["default"]), f"{name}.{old['id']}"
        assert set(old.get("choices", [])) <= set(new.get("choices", [])), f"{name}.{old['id']}: a choice is gone"


@pytest.mark.parametrize("name", [name for name in RECORDED if name in NODE_OF])
def test_new_inputs_are_optional_or_have_a_default(name):
    """A workflow from before has no value for them."""
    known = {one["id"] for one in RECORDED[name]["inputs"]}
    for one in NODE_OF[name].define_schema().inputs:
        if one.id not in known:
            assert one.optional or getattr(one, "default", None) is not None, f"{name}.{one.id}"


@pytest.mark.parametrize("name", [name for name in RECORDED if name in NODE_OF])
def test_outputs_are_append_only(name):
    was, now = RECORDED[name]["outputs"], outputs_of(NODE_OF[name])
    assert len(now) >= len(was)
    for number, (old, new) in enumerate(zip(was, now)):
        assert new == old or (name, f"output {number}") in CHANGED, f"{name}: output {number}"


@pytest.mark.parametrize("name", NODE_OF)
def test_every_node_is_found_by_other_words(name):
    """Search aliases say what a user would type who does not know our name for it."""
    schema = NODE_OF[name].define_schema()
    assert schema.search_aliases
    assert schema.display_name not in schema.search_aliases


def test_windows_that_cannot_shift_are_not_offered():
    [window] = [one for one in NODE_OF["SemVidSwinRenderer"].define_schema().inputs if one.id == "window"]
    assert window.step == 2 and window.min % 2 == window.default % 2 == window.max % 2 == 0
