"""The shipped workflows on a real ComfyUI server with tiny models: one server for the whole folder."""

from pathlib import Path

import pytest

from semantic_video.cli.hosts import find_hosts, version_of
from semantic_video.cli.server import ROOT, Server
from semantic_video.harness.stand_in_models import TOY_NODES, write_toys
from semantic_video.harness.stand_ins import start_host
from semantic_video.mini import family as mini

HOST = next(iter(find_hosts(ROOT)), None)


def pytest_ignore_collect(collection_path):
    return True if HOST is None and collection_path.parent == Path(__file__).parent else None


def pytest_report_header():
    return (
        f"ComfyUI server {'.'.join(map(str, version_of(HOST)))}"
        if HOST
        else "NO ComfyUI FOUND: tests/workflows does not run. Set COMFYUI_PATH."
    )


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    server = Server(HOST, base, packs=(ROOT, TOY_NODES), modules=(mini.NODES,), arguments=mini.mount(base))
    for folder in ("example_workflows", "subgraphs", "locales"):  # as if the pack lay in custom_nodes
        (base / "custom_nodes" / f"mounted-{ROOT.name}" / folder).symlink_to(ROOT / folder)
    start_host(HOST)
    write_toys(base / "models")
    with server:
        yield server
