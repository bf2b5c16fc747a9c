"""Checkpoints: read as they were written, and refused by name, reason and remedy before any training."""

import json
import struct
from random import Random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from semantic_video.host import weights as host_weights
from semantic_video.host.frozen_model import in_training
from semantic_video.training.checkpoint import load_checkpoint, require_readable, require_resumable, save_checkpoint
from semantic_video.training.loop import averaged
from semantic_video.training.optimizer import Optimizer
from semantic_video.training.plan import Plan, State

REMEDY = r"\. Training cannot go on from it: move it away, or train without resume\.$"
STATE = State(7, 3.5, {"loss": [(5, 1.0), (7, 0.5)], "objects": [(7, float("nan"))]})


@pytest.fixture(autouse=True)
def _in_training():
    with in_training():
        yield


def parts(width=8, steps=0):
    """(module, average, optimizer) of a small training: a matrix for Muon, and what AdamW gets."""
    torch.manual_seed(width)
    module = nn.Sequential(nn.Linear(width, 8), nn.LayerNorm(8))
    average, optimizer = averaged(module, 0.9), Optimizer(module, 1e-2, 0.01)
    for _ in range(steps):
        module(torch.randn(4, width)).square().mean().backward()
        optimizer.step(1e-2)
        optimizer.zero_grad()
        average.update_parameters(module)
    return module, average, optimizer


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / "toy.safetensors", STATE, *parts(steps=3))
    return tmp_path / "toy.safetensors"


def test_everything_comes_back(path):
    saved, found = parts(steps=3), parts()
    state = load_checkpoint(path, *found)
    assert (state.step, state.seconds, state.curves["loss"]) == (7, 3.5, [(5, 1.0), (7, 0.5)])
    for there, here in zip(saved[:2], found[:2]):
        for key, value in there.state_dict().items():
            assert key == "n_averaged" or torch.equal(value, here.state_dict()[key])
    assert int(found[1].n_averaged) == 7
    moments = found[2].moments()
    assert moments.keys() == found[2].moment_shapes().keys()
    assert all(torch.equal(value, moments[key]) for key, value in saved[2].moments().items())


def test_a_finished_file_without_a_checkpoint_is_not_begun_anew(path, tmp_path):
    target, plan = tmp_path / "adapter.safetensors", Plan("gone", tmp_path, resume=True)
    require_resumable(plan, target)  # nothing to lose
    target.touch()
    require_resumable(Plan("gone", tmp_path), target)  # whoever does not resume has asked already
    require_resumable(Plan("toy", tmp_path, resume=True), target)
    told = r"^resume: there is no checkpoint .*gone.safetensors to go on from, .* write over adapter.safetensors\. Move"
    with pytest.raises(ValueError, match=told):
        require_resumable(plan, tmp_path / "other.safetensors", target)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"^resume: {path}: .*{REMEDY}"):
        require_resumable(Plan("toy", tmp_path, resume=True))


def test_checkpoints_of_version_0_1_are_read(path):
    """They were the same, without the count of tensors."""
    with safe_open(path, "pt") as file:
        state = file.metadata()["state"]
    save_file(load_file(path), path, {"state": state})
    assert load_checkpoint(path, *parts()).step == 7


def refused(path, message):
    module, average, optimizer = parts()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=rf"^resume: {path}: .*{message}.*{REMEDY}"):
        load_checkpoint(path, module, average, optimizer)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not optimizer.moments()


def rewrite(path, change=lambda tensors: None, **metadata):
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        told = file.metadata()
    change(tensors)
    save_file(tensors, path, {**told, "tensors": str(len(tensors)), **metadata})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.0.weight", None, "'model.0.weight': expected float32 .8, 8., found none. It was made for another"),
        ("ema.1.bias", None, "'ema.1.bias': expected float32 .8., found none"),
        ("model.0.weight", torch.zeros(8, 9), r"expected float32 \[8, 8\], found float32 \[8, 9\]"),
        ("model.0.weight", torch.zeros(8, 8).half(), r"expected float32 \[8, 8\], found float16 \[8, 8\]"),
        ("model.2.weight", torch.zeros(1), "'model.2.weight': expected none, found float32"),
        ("other", torch.zeros(1), "tensor 'other' is none of a training"),
        ("optimizer.adam.0.exp_avg", None, "'optimizer.adam.0.exp_avg' is missing"),
        (
            "optimizer.adam.0.exp_avg",
            torch.zeros(9),
            r"'optimizer.adam.0.exp_avg': expected \[8\], found float32 \[9\]",
        ),
        ("optimizer.adam.0.step", torch.zeros(1), r"'optimizer.adam.0.step': expected \[\], found float32 \[1\]"),
        ("optimizer.adam.1.exp_avg", torch.zeros(8).int(), "'optimizer.adam.1.exp_avg': expected .8., found int32"),
        ("optimizer.adam.9.step", torch.zeros(()), "'optimizer.adam.9.step' is no moment of this model's optimizer"),
        ("optimizer.sgd.0.step", torch.zeros(()), "'optimizer.sgd.0.step' is no moment"),
        ("optimizer.x", torch.zeros(()), "'optimizer.x' is no moment"),
        ("optimizer.muon.0.momentum_buffer", torch.full((8, 8), torch.inf), "momentum_buffer' holds NaN or infinite"),
        ("model.0.bias", torch.full((8,), torch.nan), "'model.0.bias' holds NaN or infinite numbers"),
        ("ema.0.bias", torch.full((8,), torch.inf), "'ema.0.bias' holds NaN or infinite numbers"),
        ("optimizer.adam.0.step", torch.tensor(-1.0), "'optimizer.adam.0.step' is negative"),
        ("optimizer.adam.0.exp_avg_sq", torch.full((8,), -1.0), "'optimizer.adam.0.exp_avg_sq' is negative"),
    ],
)
def test_tensors_that_do_not_fit(path, key, value, message):
    def change(tensors):
        tensors.pop(key, None)
        if value is not None:
            tensors[key] = value

    rewrite(path, change)
    refused(path, message)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("", "its metadata has no state of a training"),
        ("[" * 100000, "its metadata has no state of a training"),
        ("[]", "its state is not made of step, seconds and curves"),
        ({"curves": None}, "its curves have no names"),
        ({"more": 1}, "its state is not made of step, seconds and curves"),
        ({"step": -1}, "its step is -1, not a count"),
        ({"step": True}, "its step is True, not a count"),
        ({"step": 1e3}, "its step is 1000.0, not a count"),
        ({"step": 10**40}, "its step is 1000"),
        ({"seconds": -1}, "its seconds are -1, not a time"),
        ({"seconds": "3"}, "its seconds are 3, not a time"),
        ({"seconds": float("nan")}, "its seconds are nan, not a time"),
        ({"curves": {"loss": [[8, 1.0]]}}, "its curve 'loss' is not made of steps up to 7 and numbers"),
        ({"curves": {"loss": [[1]]}}, "its curve 'loss' is not"),
        ({"curves": {"loss": [[1, "x"]]}}, "its curve 'loss' is not"),
        ({"curves": {"loss": {}}}, "its curve 'loss' is not"),
    ],
)
def test_counters_that_cannot_be(path, state, message):
    rewrite(path, state=state if isinstance(state, str) else json.dumps(STATE.__dict__ | state))
    refused(path, message)
    with pytest.raises(ValueError, match=message):
        require_readable(path)


def test_a_tensor_that_went_missing_is_missed(path):
    tensors = load_file(path)
    count = len(tensors)
    del tensors["optimizer.muon.0.momentum_buffer"]
    save_file(tensors, path, {"state": json.dumps(STATE.__dict__), "tensors": str(count)})
    refused(path, f"it has {count - 1} tensors, and says {count}")


@pytest.mark.parametrize("contents", [b"", b"x", b"\0" * 64, b"\xff" * 64], ids=["empty", "short", "zeros", "ones"])
def test_files_that_are_no_safetensors(path, contents):
    path.write_bytes(contents)
    refused(path, "")


def test_a_folder_instead_of_a_file(path):
    path.unlink()
    path.mkdir()
    refused(path, "")


def broken(whole: bytes, rng: Random) -> bytes:
    """The file with its header, its end or some of its bytes spoilt."""
    kind, data = rng.choice(("bytes", "header", "cut", "longer")), bytearray(whole)
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    if kind == "cut":
        return whole[: rng.randrange(len(whole))]
    if kind == "longer":
        return whole + rng.randbytes(rng.randrange(1, 64))
    for _ in range(rng.randrange(1, 8)):
        data[rng.randrange(header if kind == "header" else len(data))] = rng.randrange(256)
    return bytes(data)


def test_whatever_is_in_the_file_it_is_read_or_refused_by_its_name(path):
    """A spoilt file that is read has finite numbers, and a step of training goes well with it."""
    whole, refusals = path.read_bytes(), 0
    for case in range(200):
        path.write_bytes(broken(whole, Random(case)))
        module, average, optimizer = parts()
        try:
            load_checkpoint(path, module, average, optimizer)
        except ValueError as error:
            refusals += 1
            assert str(error).startswith(f"resume: {path}: ") and "move it away" in str(error), case
            continue
        assert all(torch.isfinite(value).all() for value in module.state_dict().values())
        module(torch.randn(4, 8)).square().mean().backward()
        optimizer.step(1e-3)
    assert refusals > 100


def test_a_checkpoint_is_whole_whenever_the_writing_stops(path, monkeypatch):
    """The old file stays until the new one is complete; nothing is ever written under its name."""
    before, written = path.read_bytes(), []

    def stopped(tensors, target, metadata=None):
        written.append(target)
        with open(target, "wb") as file:
            file.write(b"half")
        assert path.read_bytes() == before
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(host_weights, "save_file", stopped)
        save_checkpoint(path, State(8), *parts(steps=1))
    assert len(written) == 1 and path.read_bytes() == before
    save_checkpoint(path, State(8), *parts(steps=1))
    assert load_checkpoint(path, *parts()).step == 8
