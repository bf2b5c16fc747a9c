"""The house rules of docs/architecture.md, kept by a test."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = {
    "kernels": {"kernels"},
    "host": {"host"},
    "patches": {"patches", "host", "kernels"},
    "training": {"training", "patches", "host", "kernels"},
    "nodes": {"nodes", "training", "patches", "host", "kernels"},
}
ROOMS = SHIPPED | {  # room -> rooms it may import
    "miniworld": {"miniworld", "kernels"},
    "harness": {"harness", "host", "kernels"},
    "mini": {"mini", "training", "patches", "host", "kernels", "miniworld"},
    "cli": {"cli", "benchmarks", "harness", "mini", "miniworld", "nodes", "training", "patches", "host", "kernels"},
    "benchmarks": {"benchmarks", "cli", "harness", "mini", "miniworld", "training", "patches", "host", "kernels"},
}
SOURCES = [
    p for p in sorted(ROOT.rglob("*.py")) if not {".venv", "demo", ".cache", ".git"} & set(p.relative_to(ROOT).parts)
]


def imports(path: Path) -> set[str]:
    """Modules of the pack that `path` imports, as dotted names from the root."""
    here = path.relative_to(ROOT).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = (
                [*here[: len(here) - node.level], *(node.module or "").split(".")]
                if node.level
                else (node.module or "").split(".")
            )
            base = [part for part in base if part]
            if node.level or base[0] == "semantic_video":
                base = base[1:] if base and base[0] == "semantic_video" else base
                found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room):
    for path in (ROOT / room).rglob("*.py"):
        rooms = {name.split(".")[0] for name in imports(path)}
        assert rooms <= ROOMS[room], f"{path.relative_to(ROOT)} imports {rooms - ROOMS[room]}"


def test_kernels_and_miniworld_know_no_host():
    for path in [*(ROOT / "kernels").rglob("*.py"), *(ROOT / "miniworld").rglob("*.py")]:
        assert "comfy" not in {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        }, path


def test_node_files_do_not_import_each_other():
    for path in (ROOT / "nodes").glob("*.py"):
        if path.name != "__init__.py":
            assert not {
                name for name in imports(path) if name.startswith("nodes.") and not name.startswith("nodes.common")
            }, path


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sources_are_ascii_and_of_human_size(path):
    text = path.read_text(encoding="utf-8")
    assert text.isascii()
    room = path.relative_to(ROOT).parts[0]
    assert room in ("tests", "run.py") or len(text.splitlines()) <= 300, (
        f"{path.name} has {len(text.splitlines())} lines"
    )


def test_nothing_names_a_machine():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert "/ro" + "ot/" not in text and "/wo" + "rk/" not in text, path
