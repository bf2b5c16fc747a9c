"""Training goes through the host's modules, so these tests need ComfyUI: the first one found (COMFYUI_PATH chooses)."""

from pathlib import Path

from semantic_video.cli.hosts import find_hosts
from semantic_video.harness.stand_ins import start_host

HOST = next(iter(find_hosts(Path(__file__).resolve().parent.parent.parent)), None)


if HOST:
    start_host(HOST)


def pytest_ignore_collect(collection_path):
    return True if HOST is None and collection_path.parent == Path(__file__).parent else None


def pytest_report_header():
    return f"training on ComfyUI at {HOST}" if HOST else "NO ComfyUI FOUND: tests/mini does not run. Set COMFYUI_PATH."
