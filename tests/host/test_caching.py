"""What makes ComfyUI run a node again: the keys under which its own executor keeps results, as files change."""

import asyncio
import os

import folder_paths
import pytest

from semantic_video.nodes.plan_adapter import PlanAdapterLoaderNode
from semantic_video.nodes.planner import PlannerLoadNode
from semantic_video.nodes.semantic_plan import SemanticEncoderNode
from semantic_video.nodes.ssg_adapter import SSGAdapterLoaderNode
from semantic_video.nodes.video_prompt import VAPExpertLoaderNode

LINK = ["2", 0]


@pytest.fixture
def patches(tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "model_patches", ([str(tmp_path)], {".safetensors"}))
    return tmp_path


@pytest.fixture
def key(monkeypatch):
    """key(node, **inputs): under which the host keeps what that node gives. LINK: an input that another one gives."""
    import execution
    from comfy_execution.caching import CacheKeySetInputSignature
    from comfy_execution.graph import DynamicPrompt

    import nodes

    def key_of(node, **inputs):
        name = node.GET_SCHEMA().node_id
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, name, node)
        other = {"class_type": "EmptyLatentImage", "inputs": {}}
        prompt = DynamicPrompt({"1": {"class_type": name, "inputs": inputs}, "2": other})
        keys = CacheKeySetInputSignature(prompt, [], execution.IsChangedCache("test", prompt, None))
        asyncio.run(keys.add_keys(["1"]))
        return keys.get_data_key("1")

    return key_of


def write(path, contents, seconds):
    """Written at that second."""
    path.write_bytes(contents)
    os.utime(path, ns=(seconds * 10**9,) * 2)


@pytest.mark.parametrize(
    ("node", "name", "others"),
    [
        (SSGAdapterLoaderNode, "adapter_name", {"weight_dtype": "default"}),
        (PlanAdapterLoaderNode, "adapter_name", {"weight_dtype": "default"}),
        (PlannerLoadNode, "planner_name", {"weight_dtype": "default"}),
        (VAPExpertLoaderNode, "expert_name", {"weight_dtype": "default"}),
        (SemanticEncoderNode, "compressor", {"fps": 16.0, "plan_fps": 1.0, "longest_side": 0}),
    ],
)
def test_a_file_that_was_rewritten_is_read_again(patches, key, node, name, others):
    path, inputs = patches / "mine.safetensors", {name: "mine.safetensors"} | others
    write(path, b"old", 1000)
    before = key(node, **inputs)
    assert key(node, **inputs) == before
    write(path, b"new", 1001)
    later = key(node, **inputs)
    assert later != before
    write(path, b"longer", 1001)
    assert key(node, **inputs) not in (before, later)
    path.unlink()
    assert key(node, **inputs) == key(node, **inputs)  # what reads it says that it is not there
    assert key(node, **inputs | {name: LINK}) == key(node, **inputs | {name: LINK})


def test_without_a_compressor_there_is_no_file(patches, key):
    inputs = {"compressor": "none", "fps": 16.0, "plan_fps": 1.0, "longest_side": 0}
    assert key(SemanticEncoderNode, **inputs) == key(SemanticEncoderNode, **inputs)
