"""What makes ComfyUI run a node again: the keys under which its own executor keeps results, as files change."""

import asyncio
import os

import folder_paths
import pytest

from semantic_video.nodes.common import new_model_patch
from semantic_video.nodes.plan_adapter import PlanAdapterLoaderNode
from semantic_video.nodes.plan_train import PlanAdapterTrainNode
from semantic_video.nodes.planner import PlannerLoadNode
from semantic_video.nodes.planner_train import PlannerTrainNode
from semantic_video.nodes.semantic_plan import SemanticEncoderNode
from semantic_video.nodes.ssg_adapter import SSGAdapterLoaderNode
from semantic_video.nodes.ssg_train import SSGAdapterTrainNode
from semantic_video.nodes.video_prompt import VAPExpertLoaderNode, VAPSaveExpertNode

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


TRAINED = {"folder": "", "filename": "mine", "steps": 1, "resume": False}
WRITERS = [
    (SSGAdapterTrainNode, TRAINED, ()),
    (PlanAdapterTrainNode, TRAINED, ("_compressor",)),
    (PlannerTrainNode, TRAINED | {"compressor_name": "other.safetensors"}, ()),
    (VAPSaveExpertNode, {"filename": "mine", "expert_name": "other.safetensors"}, ()),
]


@pytest.mark.parametrize(("node", "inputs", "beside"), WRITERS)
def test_what_was_written_and_deleted_is_written_again_and_what_is_there_is_not(patches, key, node, inputs, beside):
    first = key(node, **inputs)
    assert key(node, **inputs) == first, "nothing was there yet"

    def run():
        new_model_patch("mine", may_exist=True, beside=beside)
        for ending in ("", *beside):
            write(patches / f"mine{ending}.safetensors", b"made", 1000)

    run()
    assert key(node, **inputs) == first
    keys = [first]
    for ending in ("", *beside, ""):
        (patches / f"mine{ending}.safetensors").unlink()
        keys.append(key(node, **inputs))
        assert key(node, **inputs) == keys[-1], "missed once"
        run()
        assert key(node, **inputs) == keys[-1], "there again"
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(("node", "inputs", "beside"), WRITERS)
def test_a_file_that_is_deleted_before_anybody_asks_is_missed(patches, key, node, inputs, beside):
    first = key(node, **inputs)
    new_model_patch("mine", beside=beside)  # a run wrote it
    assert key(node, **inputs) != first


@pytest.mark.parametrize(("node", "inputs", "beside"), WRITERS)
def test_names_that_nobody_can_write_or_another_node_gives_change_nothing(patches, key, node, inputs, beside):
    for name in ("../escaped", "", LINK):
        changed = inputs | {"filename": name} | ({"folder": name} if "folder" in inputs else {})
        assert key(node, **changed) == key(node, **changed)


@pytest.mark.parametrize(("node", "inputs", "beside"), WRITERS[:3])
def test_training_is_asked_for_again_when_videos_or_captions_change(patches, key, node, inputs, beside):
    folder = patches / "clips"
    folder.mkdir()
    inputs, keys = inputs | {"folder": str(folder)}, []
    changes = (
        lambda: write(folder / "a.mp4", b"video", 1000),
        lambda: write(folder / "a.txt", b"words", 1000),
        lambda: write(folder / "a.txt", b"other", 1001),
        lambda: write(folder / "a.mp4", b"longer", 1000),
        lambda: (folder / "a.mp4").rename(folder / "b.mp4"),
    )
    for change in changes:
        change()
        keys.append(key(node, **inputs))
        assert key(node, **inputs) == keys[-1]
        (folder / "notes.md").write_text(str(len(keys)))
        assert key(node, **inputs) == keys[-1], "nobody reads it"
    assert len(set(keys)) == len(changes)


def test_a_planner_is_trained_again_when_its_compressor_was(patches, key):
    node, inputs, _ = WRITERS[2]
    write(patches / "other.safetensors", b"old", 1000)
    before = key(node, **inputs)
    write(patches / "other.safetensors", b"new", 1001)
    assert key(node, **inputs) != before


def test_without_a_compressor_there_is_no_file(patches, key):
    inputs = {"compressor": "none", "fps": 16.0, "plan_fps": 1.0, "longest_side": 0}
    assert key(SemanticEncoderNode, **inputs) == key(SemanticEncoderNode, **inputs)
