"""What loaders refuse: everything that a file's header gives away, before anything is allocated, by file and tensor."""

import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from semantic_video.harness.toy import write_toy_adapter
from semantic_video.host.weights import CHUNK, Checkpoint, all_finite
from semantic_video.patches.ssg_adapter_file import load_adapter

WHOLE = "adapter.safetensors"


def with_metadata(path):
    return load_file(path), Checkpoint(path).metadata


def write(path, tensors, metadata=None):
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)
    return path


# ---- any file


@pytest.mark.parametrize("name", ["x-00000-of-00000", "x-00003-of-00002", "x-00000-of-00001"])
def test_part_numbers_that_cannot_be(tmp_path, name):
    path = write(tmp_path / f"{name}.safetensors", {"a": torch.ones(2)})
    with pytest.raises(ValueError, match=rf"{name}\.safetensors: its name says part \d of \d, which cannot be"):
        Checkpoint(path)


def test_folders_null_bytes_and_long_names(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(ValueError, match=r"folder\.safetensors: is a folder, not a file"):
        Checkpoint(tmp_path / "folder.safetensors")
    with pytest.raises(ValueError, match=r"a\\x00b\.safetensors': a file name cannot hold a null byte"):
        Checkpoint(tmp_path / "a\0b.safetensors")
    with pytest.raises(ValueError, match=r"aaa\.safetensors: (no such file|cannot be read)"):
        Checkpoint(tmp_path / f"{'a' * 300}.safetensors")


def test_the_header_tells_shapes_and_dtypes_and_reads_nothing(tmp_path, monkeypatch):
    tensors = {"a": torch.ones(2, 3, dtype=torch.bfloat16), "b": torch.tensor(1.0).to(torch.float8_e5m2)}
    file = Checkpoint(write(tmp_path / WHOLE, tensors | {"n": torch.tensor([1]), "e": torch.ones(0, 10**12)}))
    header = file.header({"a": "x", "b": "y"})
    assert {name: (tuple(t.shape), t.dtype, t.is_meta) for name, t in header.items()} == {
        "x": ((2, 3), torch.bfloat16, True),
        "y": ((), torch.float8_e5m2, True),
    }
    with pytest.raises(
        ValueError, match=r"adapter\.safetensors: tensor 'n' is of I64, expected floating-point numbers"
    ):
        file.header({"n": "n"})
    with pytest.raises(ValueError, match=r"adapter\.safetensors: tensor 'e' is empty, of shape \(0, 1000000000000\)"):
        file.header({"e": "e"})


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_nan_and_infinity_are_found_wherever_they_are(dtype):
    tensor = torch.zeros(2 * CHUNK + 3).to(dtype)
    tensor[5] = torch.finfo(dtype).max
    assert all_finite(tensor)
    assert all_finite(torch.full((300,), torch.finfo(dtype).max, dtype=torch.float64).to(dtype)), (
        "a sum that overflows is no infinity"
    )
    infinities = () if dtype == torch.float8_e4m3fn else (float("inf"), -float("inf"))  # it has none
    for bad in (float("nan"), *infinities):
        for place in (0, CHUNK - 1, CHUNK, 2 * CHUNK + 2):
            broken = tensor.clone()
            broken[place] = bad
            assert not all_finite(broken), (bad, place)
    assert all_finite(torch.tensor([2**40]))


def test_looking_for_nan_makes_no_second_copy():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
            out = function(*arguments, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and not out._is_view():
                self.numbers = max(self.numbers, out.numel())
            return out

    with torch.inference_mode(False), Largest() as seen:
        tensor = torch.zeros(4 * CHUNK, dtype=torch.float16)
        seen.numbers = 0
        assert all_finite(tensor)
    assert 0 < seen.numbers <= CHUNK


# ---- SSG Adapter


@pytest.fixture
def adapter(tmp_path):
    return with_metadata(write_toy_adapter(tmp_path / WHOLE))


def refused(tmp_path, tensors, metadata, message, load=load_adapter):
    path = write(tmp_path / "bad.safetensors", tensors, metadata)
    start = time.monotonic()
    with pytest.raises(ValueError, match=rf"^bad\.safetensors: {message}"):
        load(path)
    assert time.monotonic() - start < 2


def test_every_missing_extra_or_reshaped_tensor_of_an_adapter_is_named(tmp_path, adapter):
    tensors, metadata = adapter
    for key, value in tensors.items():
        less = {k: v for k, v in tensors.items() if k != key}
        refused(tmp_path, less, metadata, rf"1 tensors do not fit, first '{key}': expected \(.*\), found none")
        refused(tmp_path, tensors | {key: value[None]}, metadata, rf"1 tensors do not fit, first '{key}'")
        refused(tmp_path, tensors | {key: value * float("nan")}, metadata, rf"tensor '{key}' holds NaN or infinite")
        refused(tmp_path, tensors | {key: value.int()}, metadata, rf"tensor '{key}' is of I32, expected floating-point")
    refused(tmp_path, tensors | {"more": torch.ones(2)}, metadata, r"1 tensors do not fit, first 'more': expected none")


def test_what_an_adapter_declares_costs_nothing(tmp_path, adapter, monkeypatch):
    """Blocks and sizes in the metadata are compared with the header before a module is built from them."""
    from semantic_video.patches import ssg_adapter_file

    tensors, metadata = adapter
    built = []
    monkeypatch.setattr(ssg_adapter_file, "load_weights", lambda *arguments: built.append(arguments))
    many = ",".join(map(str, range(1000)))
    refused(tmp_path, tensors, metadata | {"blocks": many}, "its tensors do not fit: .* 1000 blocks, its tensors of 2")
    refused(tmp_path, tensors, metadata | {"blocks": many + ",1000"}, "blocks .*1001 in all.* must be from 0 to 999")
    refused(tmp_path, tensors, metadata | {"blocks": "0,1"}, "its tensors do not fit: .* which differ in block '1'")
    refused(tmp_path, tensors, metadata | {"width": "60000", "rank": "1000000"}, "10 tensors do not fit")
    refused(tmp_path, tensors, metadata | {"rank": "100000000"}, "rank 100000000: must be from 1 to 1048576")
    refused(tmp_path, {f"branches.{10**9}.gate": torch.ones(1)}, metadata, "its tensors do not fit")
    assert not built
