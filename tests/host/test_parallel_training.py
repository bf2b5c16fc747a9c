"""Training in two processes is training in one, at the same batch of all together."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from semantic_video.cli import train
from semantic_video.harness.toy import write_toy
from semantic_video.host.frozen_model import in_training
from semantic_video.tests.host import parallel_worker as worker
from semantic_video.tests.host.test_ssg_training import batch_of
from semantic_video.training import flow_matching, parallel
from semantic_video.training.flow_matching import Batch, losses

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds what two processes of parallel_worker.py have written."""
    folder = tmp_path_factory.mktemp("processes")
    write_toy("wan-t2v", folder / "toy.safetensors")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, worker.__file__, str(folder)],
            env=shared | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return folder


@pytest.fixture(scope="module")
def told(folder):
    return [json.loads((folder / f"{name}.json").read_text()) for name in ("first", "second")]


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    """(weights, state, exports) of one process."""
    with torch.inference_mode():
        return worker.run(folder, worker.plan_of(tmp_path_factory.mktemp("alone"), "whole"))


def test_two_processes_learn_what_one_does(folder, told, alone):
    weights, state, exports = alone
    found = load_file(folder / "first-weights.safetensors")
    assert found.keys() == weights.keys() and exports > 0
    for key, value in weights.items():
        torch.testing.assert_close(found[key], value, **CLOSE)
    for name, curve in state.curves.items():
        assert told[0]["curves"][name] == [[step, pytest.approx(value, rel=1e-5)] for step, value in curve], name
    assert {"loss", "objects", "validation"} == state.curves.keys()


def test_both_processes_have_the_same_and_the_first_writes_it(folder, told, alone):
    first, second = (load_file(folder / f"{name}-weights.safetensors") for name in ("first", "second"))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert all(told[0][key] == told[1][key] for key in ("curves", "step", "seconds"))
    assert (told[0]["exports"], told[1]["exports"]) == (alone[2], 0)
    assert sorted(told[0]["turns"] + told[1]["turns"]) == list(range(5)) and told[1]["turns"] == [1, 3]


def test_a_batch_that_cannot_be_shared_is_refused(told):
    for one in told:
        assert one["refused"] == (
            "batch 3: is of all 2 processes together, and cannot be shared equally. Give a multiple of 2, or start as "
            "many processes as divide 3."
        )


def test_an_interruption_of_one_ends_both_and_one_resumes_what_two_began(folder, told, alone):
    assert [one["ended"] for one in told] == ["PeerEnded", "InterruptProcessingException"]
    plan = worker.plan_of(folder, "parted", resume=True)
    with safe_open(plan.checkpoint, "pt") as file:
        assert json.loads(file.metadata()["state"])["step"] == worker.STOP
    weights, state, _ = worker.run(folder, plan)
    assert state.step == plan.steps
    for key, value in alone[0].items():
        torch.testing.assert_close(weights[key], value, **CLOSE)


def test_without_joined_there_is_one_process_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert parallel.first() and parallel.processes() == 1 and parallel.share(3) == range(3)
    values, layer = [0.1, float("nan")], nn.Linear(2, 2)
    assert parallel.means(values) is values
    parallel.mean_gradients(list(layer.parameters()))
    assert layer.weight.grad is None and not parallel.launched()


def test_gradients_are_means_and_a_missing_one_counts_as_zero(told):
    assert told[0]["gradients"] == told[1]["gradients"] == [[0.5, 1.5], [0.5, 4.0], None]


def test_each_asks_the_model_for_its_rows_alone_and_the_mean_of_all_is_the_batch_s(toys, monkeypatch):
    """Where objects weigh, and rows have different weights, too."""
    model, seen = toys("wan-t2v"), []

    def denoised(model, x, sigma, *_):
        seen.append(len(x))
        return x * scale

    def found(rank=None):
        token = parallel.GROUP.set(None if rank is None else parallel.Group(rank, 2, torch.device("cpu")))
        try:
            values = losses(model, batch, 7, None)
        finally:
            parallel.GROUP.reset(token)
        (gradient,) = torch.autograd.grad(values["loss"], scale)
        return torch.stack([*(value.detach() for value in values.values()), gradient])

    monkeypatch.setattr(flow_matching, "denoised", denoised)
    with in_training():
        scale = torch.nn.Parameter(torch.ones(()))
        drawn = batch_of(model, worker.SHOT, 4)
        cover = torch.zeros(4, 1, *drawn.latents.shape[2:])
        cover[1], cover[2, ..., 0] = 1, 1
        batch = Batch(drawn.latents, drawn.conds, cover)
        whole, parts = found(), [found(0), found(1)]
    assert seen == [3, 1, 2, 1, 1]  # the last one's text is longer
    assert not torch.allclose(parts[0], whole, rtol=1e-2)
    torch.testing.assert_close((parts[0] + parts[1]) / 2, whole, rtol=1e-5, atol=1e-6)


def test_what_several_processes_cannot_train_is_refused(monkeypatch):
    monkeypatch.setattr(parallel, "launched", lambda: True)
    with pytest.raises(ValueError, match="^torchrun: is for ssg-adapter and video-prompt. Train mini-vae with "):
        train.main(["mini-vae"])


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="process 2 finds 2 GPUs. Start 2 processes at most"):
        parallel.choose_device()
