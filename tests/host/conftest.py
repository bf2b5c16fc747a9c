"""Real ComfyUI, tiny models. The host is the first one found (COMFYUI_PATH chooses); run.py test runs this folder once
per host."""

from pathlib import Path

import pytest
import torch

from semantic_video.cli.hosts import find_hosts, version_of
from semantic_video.harness.stand_ins import start_host

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = next(iter(find_hosts(ROOT)), None)


if HOST:
    start_host(HOST)


def pytest_ignore_collect(collection_path):
    return True if HOST is None and collection_path.parent == Path(__file__).parent else None


def pytest_report_header():
    return (
        f"ComfyUI {'.'.join(map(str, version_of(HOST)))} at {HOST}"
        if HOST
        else "NO ComfyUI FOUND: tests/host does not run. Set COMFYUI_PATH."
    )


@pytest.fixture(autouse=True)
def _inference_mode():
    """As the host's executor runs nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    """toys(name) -> a fresh MODEL read from its file by ComfyUI's loader."""
    import comfy.sd

    from semantic_video.harness.toy import write_toy

    folder = tmp_path_factory.mktemp("toys")

    def load(name: str, **options):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            write_toy(name, path)
        return comfy.sd.load_diffusion_model(str(path), model_options=options)

    return load


@pytest.fixture(scope="session")
def open_clip_weights():
    """(a small model of open_clip, its weights)"""
    open_clip = pytest.importorskip("open_clip")
    from semantic_video.harness.toy import randomize
    from semantic_video.tests.host.clips import CONFIG

    with torch.inference_mode(False):
        model = open_clip.CLIP(**CONFIG).eval()
    randomize(model)
    return model, {key: value for key, value in model.state_dict().items() if key != "attn_mask"}


@pytest.fixture
def open_clip_file(tmp_path, open_clip_weights):
    from semantic_video.tests.host.clips import write

    return write(tmp_path, open_clip_weights[1])


@pytest.fixture
def clip(open_clip_file):
    from semantic_video.host.clip_loading import load_clip

    return load_clip(open_clip_file)


@pytest.fixture(scope="session")
def adapters(tmp_path_factory):
    """adapters(toy) -> a fresh SSG Adapter for it, read from its file, every weight of which counts."""
    from semantic_video.harness.toy import write_toy_adapter
    from semantic_video.patches.ssg_adapter_file import load_adapter
    from semantic_video.tests.host.ssg_reference import BLOCKS, SMALL

    folder = tmp_path_factory.mktemp("adapters")

    def load(name="wan-t2v", dtype=None, **changes):
        path = folder / f"{name}.safetensors"
        write_toy_adapter(path, name, **SMALL | {"blocks": BLOCKS.get(name, (0, 2))} | changes)
        return load_adapter(path, dtype)

    return load


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The golden Video-As-Prompt model as a whole diffusers file."""
    from safetensors.torch import save_file

    from semantic_video.tests.host.vap_golden import KEYS, weight

    path = tmp_path_factory.mktemp("vap") / "diffusion_pytorch_model.safetensors"
    save_file({name: weight(name, tuple(shape)).contiguous() for name, shape in KEYS.items()}, path)
    return path


@pytest.fixture(scope="module")
def backbone():
    """The golden Video-As-Prompt model without its expert, as a MODEL."""
    from semantic_video.tests.host.vap_golden import load_backbone

    return load_backbone()


@pytest.fixture(scope="module")
def expert(checkpoint):
    """The expert of the golden Video-As-Prompt model."""
    from semantic_video.patches.video_prompt_expert import load_expert
    from semantic_video.tests.host.vap_golden import FP32

    return load_expert(checkpoint, FP32)
