"""Every relative link of the docs leads somewhere, and every path they name is there."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SKIPPED = {".venv", ".cache", ".git", ".pytest_cache", "demo"}
PAGES = [p for p in sorted(ROOT.rglob("*.md")) if not SKIPPED & set(p.relative_to(ROOT).parts)]
# Pages that a person wrote about the tree as it is. The change log and the experiments speak of the past.
PAST = {ROOT / "CHANGELOG.md", ROOT / "docs" / "experiments.md"}
CURRENT = [p for p in PAGES if p not in PAST and p.parent in (ROOT, ROOT / "docs", ROOT / "web" / "docs")]
ROOMS = "benchmarks|cli|docs|harness|host|kernels|mini|miniworld|nodes|patches|tests|training|web|workflows"
HOME = "https://github.com/semantic-video/semantic-video/blob/main/"  # for what only the repository holds
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(rf"(?<![\w./(])(?:{ROOMS})/[\w./-]*[\w/]")
COMMAND = re.compile(r"python run\.py ([a-z]+)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        at_home = link.startswith(HOME)
        if re.match(r"[a-z]+:", link) and not at_home:
            continue
        path, _, anchor = unquote(link.removeprefix(HOME)).partition("#")
        target = ((ROOT if at_home else page.parent) / path).resolve() if path else page
        if not target.exists() or anchor and anchor not in anchors(target):
            broken.append(link)
    return broken


def missing_paths(text: str) -> list[str]:
    return [path for path in PATH.findall(text) if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_paths_that_are_named_exist(page):
    assert missing_paths(page.read_text(encoding="utf-8")) == []


def test_what_is_broken_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One (two), three\n[a](page.md#one-two-three) [b](page.md#two) [c](gone.md) [d](https://x.y/z)\n"
        f"[e]({HOME}run.py) [f]({HOME}gone.py)\n"
    )
    assert broken_links(page) == ["page.md#two", "gone.md", f"{HOME}gone.py"]
    assert missing_paths("see `kernels/rope.py`, kernels/gone.py and models/docs/x.") == ["kernels/gone.py"]


def test_commands_that_are_named_exist():
    usage = subprocess.run([sys.executable, str(ROOT / "run.py"), "--help"], capture_output=True, text=True).stdout
    known = set(re.findall(r"^  ([a-z]+) ", usage, flags=re.MULTILINE))
    named = {(name(page), command) for page in CURRENT for command in COMMAND.findall(page.read_text(encoding="utf-8"))}
    assert {(page, command) for page, command in named if command not in known} == set()


def test_the_readme_of_the_registry_is_true_there():
    """The package is the tree less .comfyignore: no relative link of the README leads out of it, and before the first
    command it says that commands need the repository."""
    left_out = {line.strip("/") for line in (ROOT / ".comfyignore").read_text(encoding="utf-8").split()}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "run.py" in left_out
    assert [link for link in LINK.findall(text) if link.split("/")[0] in left_out] == []
    before = text.split("python run.py", 1)[0]
    assert "This needs the repository" in before
    assert "`run.py` and what\nit runs" in before
