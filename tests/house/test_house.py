"""The house rules of docs/architecture.md, kept by a test."""

import ast
import json
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = {  # room -> rooms it may import beside itself
    "kernels": set(),
    "host": set(),
    "patches": {"host", "kernels"},
    "training": {"patches", "host", "kernels"},
    "nodes": {"training", "patches", "host", "kernels"},
}
ROOMS = SHIPPED | {
    "miniworld": {"kernels"},
    "harness": {"host", "kernels"},
    "mini": {"training", "patches", "host", "kernels", "miniworld"},
    "cli": {"harness", "mini", "miniworld", "training", "patches", "host", "kernels"},
    "benchmarks": {"cli", "harness", "mini", "miniworld", "training", "patches", "host", "kernels"},
    "tests": {"benchmarks", "cli", "harness", "mini", "miniworld", "nodes", "training", "patches", "host", "kernels"},
}
NOT_CODE = {"docs", "web", "workflows", "example_workflows", "subgraphs", "locales"}  # rooms that hold no Python
COMFY = {
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfy_extras",
    "comfy_kitchen",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "server",
}
SKIPPED = {".venv", "demo", ".cache", ".git"}
SOURCES = [p for p in sorted(ROOT.rglob("*.py")) if not SKIPPED & set(p.relative_to(ROOT).parts)]
MODULES = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in SOURCES}


@cache
def statements(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """All imports of a file, those inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def at_import(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """The imports that run when the file itself is imported."""
    inside = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside |= {ast.dump(child) for child in ast.walk(node) if isinstance(child, ast.Import | ast.ImportFrom)}
    return [node for node in statements(path) if ast.dump(node) not in inside]


def ours(path: Path, node: ast.Import | ast.ImportFrom) -> set[str]:
    """What of the pack an import statement names, as dotted names from the root: "kernels.rope.apply_rope"."""
    if isinstance(node, ast.Import):
        return {n.name.removeprefix("semantic_video.") for n in node.names if n.name.startswith("semantic_video.")}
    parts = [part for part in (node.module or "").split(".") if part]
    if node.level:
        parts = [*path.relative_to(ROOT).parts[: -node.level], *parts]
    elif parts[0] == "semantic_video":
        parts = parts[1:]
    else:
        return set()
    return {".".join([*parts, alias.name]) for alias in node.names}


def imported(path: Path, nodes: list) -> set[str]:
    """Modules of the pack, by name."""
    found = set()
    for name in set().union(*(ours(path, node) for node in nodes)) if nodes else ():
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {""}


def foreign(nodes: list) -> set[str]:
    """Top names of absolute imports."""
    plain = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    absolute = [node for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return plain | {node.module.split(".")[0] for node in absolute}


def test_every_folder_of_code_is_a_room():
    assert {p.relative_to(ROOT).parts[0] for p in SOURCES if p.parent != ROOT} - NOT_CODE == set(ROOMS)


def test_rooms_have_an_order():
    assert list(TopologicalSorter(ROOMS).static_order())  # raises CycleError


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room):
    for path in (ROOT / room).rglob("*.py"):
        rooms = {name.split(".")[0] for node in statements(path) for name in ours(path, node)}
        strangers = rooms - ROOMS[room] - {room}
        assert not strangers, f"{path.relative_to(ROOT)} imports {strangers}"


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: imported(path, statements(path)) - {name} for name, path in MODULES.items()}
    assert list(TopologicalSorter(graph).static_order())  # CycleError names the modules


@pytest.mark.parametrize("room", ["kernels", "miniworld"])
def test_mathematics_and_world_know_no_host(room):
    for path in (ROOT / room).rglob("*.py"):
        assert not foreign(statements(path)) & COMFY, path


def test_the_host_free_demo_needs_no_host():
    """Nothing that is imported on the way to its pictures imports ComfyUI."""
    seen, waiting = set(), {"cli.demo_pictures", "cli.demo"}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        assert not foreign(at_import(MODULES[name])) & COMFY, name
        waiting |= imported(MODULES[name], at_import(MODULES[name])) - seen
    assert {"kernels.clip_mask", "mini.clip"} <= seen


def test_node_files_do_not_import_each_other():
    for path in (ROOT / "nodes").glob("*.py"):
        if path.name != "__init__.py":
            nodes = {name for name in imported(path, statements(path)) if name.startswith("nodes.")}
            assert nodes <= {"nodes.common"}, path


def test_what_does_not_ship_is_left_out_and_nothing_else():
    """The registry's archive is the tree less .comfyignore; `ROOMS` lets shipped rooms import shipped ones only."""
    ignored = (ROOT / ".comfyignore").read_text(encoding="utf-8").split()
    assert {line.strip("/") for line in ignored} & (set(ROOMS) | NOT_CODE) == set(ROOMS) - set(SHIPPED)
    assert "run.py" in ignored
    assert all(rooms <= set(SHIPPED) for rooms in SHIPPED.values())
    entry = ROOT / "__init__.py"
    assert {name.split(".")[0] for name in imported(entry, statements(entry))} == {"nodes"}


def test_the_map_of_the_house_names_every_room_and_its_arrows():
    """docs/architecture.md: | `room/`, ... | what lives there | may import |"""
    table = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## Rooms", 1)[-1].split("##", 1)[0]
    named = {}
    for row in re.findall(r"^\| (.+?) \|.*\| ([^|]+?) \|$", table, re.MULTILINE):
        for room in re.findall(r"`([\w/]+)/`", row[0]):
            named[room.split("/")[0]] = row[1]
    assert set(named) == set(ROOMS) | NOT_CODE
    for room, rooms in ROOMS.items():
        if not named[room].startswith("all"):
            assert set(re.findall(r"\w+", named[room])) - {room} == rooms, room


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sources_are_ascii_and_of_human_size(path):
    text = path.read_text(encoding="utf-8")
    assert text.isascii()
    assert len(text.splitlines()) <= 300, f"{path.name} has {len(text.splitlines())} lines"


def test_nothing_names_a_machine():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert "/ro" + "ot/" not in text and "/wo" + "rk/" not in text, path


def test_no_workflow_has_a_node_named_prompt():
    """Clients that unwrap {"prompt": graph} take such a node for the graph."""
    paths = [*(ROOT / "workflows" / "api").glob("*.json"), *(ROOT / "mini" / "workflows").glob("*.json")]
    assert len(paths) > 20
    assert [p.name for p in paths if "prompt" in json.loads(p.read_text(encoding="utf-8"))] == []


def test_no_message_says_1_frames():
    """A count of frames is worded by kernels/wording.py where it can be 1."""
    never_one = {"{plan.fps}", "{stories[0].frames}", "{window}", "{drift.frames}", "{WITHIN}", "{LONG}"}
    found = {
        (str(path.relative_to(ROOT)), field)
        for room in (*SHIPPED, "cli")
        for path in (ROOT / room).rglob("*.py")
        for field in re.findall(r"(\{[^{}]+\}) (?:latent |video |token )?frames\b", path.read_text(encoding="utf-8"))
    }
    assert {one for one in found if one[1] not in never_one} == set()


def test_the_registry_shows_what_is_there():
    """Its page: a version that the change log opens with, and an icon that the repository holds."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(\d+\.\d+\.\d+)"$', text, re.MULTILINE)[1]
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    icon = re.search(r'^Icon = "https://raw.githubusercontent.com/[\w-]+/[\w-]+/main/(.+)"$', text, re.MULTILINE)[1]
    assert newest == version and (ROOT / icon).stat().st_size < 100_000


def test_the_registry_reads_the_oldest_host():
    """Its client drops a requires-comfyui that is not a full version."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^requires-comfyui = ">=0\.29\.0"$', text, re.MULTILINE)
