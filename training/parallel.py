"""One training in several processes, as torchrun starts them: each takes its rows of every batch, gradients are means
over all, and files are written by the first.

    torchrun --nproc-per-node N run.py train ssg-adapter ...        backend nccl on GPUs, gloo else

Every process draws the whole batch and its noise from (seed, step) and keeps its rows, so that N processes learn what
one would: latents and texts are small beside a step of the model. A process group of somebody else's, such as another
pack's inside ComfyUI, is not ours: without `joined` there is one process, and nothing here does anything.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

LONGEST = timedelta(hours=24)  # that the others wait while the first encodes, scores or writes


class PeerEnded(KeyboardInterrupt):
    """Another process of this training was interrupted or failed; it says why."""


@dataclass(frozen=True)
class Group:
    rank: int
    count: int
    device: torch.device

    def total(self, values: list[float]) -> list[float]:
        """Sums over all processes."""
        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(numbers)
        return numbers.tolist()


GROUP: ContextVar[Group | None] = ContextVar("semantic_video_processes", default=None)


def launched() -> bool:
    """Whether torchrun started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def choose_device() -> None:
    """This process's GPU. ValueError where the machine has fewer GPUs than processes."""
    local, found = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= found:
        raise ValueError(f"--nproc-per-node: process {local} finds {found} GPUs. Start {found} processes at most.")
    torch.cuda.set_device(local)


@contextmanager
def joined(cuda: bool) -> Iterator[None]:
    """Within, this process is one of those that its environment (RANK, WORLD_SIZE, MASTER_ADDR, ...) names."""
    dist.init_process_group("nccl" if cuda else "gloo", timeout=LONGEST)
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    token = GROUP.set(Group(dist.get_rank(), dist.get_world_size(), device))
    try:
        yield
        wait()  # while the first still writes
    finally:
        GROUP.reset(token)
    dist.destroy_process_group()  # not after an error: nccl would wait for the others


def processes() -> int:
    group = GROUP.get()
    return group.count if group else 1


def first() -> bool:
    """Whether this process writes files and shows progress."""
    group = GROUP.get()
    return group is None or group.rank == 0


def by_first(call: Callable) -> Callable:
    """`call` in the first process, nothing in the others."""
    return call if first() else lambda *_, **__: None


def require_shares(batch: int, name: str = "batch") -> None:
    """ValueError for a batch of which the processes cannot take equal shares."""
    count = processes()
    if batch % count:
        raise ValueError(
            f"{name} {batch}: is of all {count} processes together, and cannot be shared equally. Give a multiple of "
            f"{count}, or start as many processes as divide {batch}."
        )


def share(batch: int) -> range:
    """This process's rows of a batch. ValueError as `require_shares`."""
    require_shares(batch)
    group = GROUP.get()
    if group is None:
        return range(batch)
    rows = batch // group.count
    return range(group.rank * rows, (group.rank + 1) * rows)


def means(values: list[float]) -> list[float]:
    """Of each value, the mean over all processes."""
    group = GROUP.get()
    return [total / group.count for total in group.total(values)] if group else values


def turn(number: int) -> bool:
    """Whether the piece of work of this number is this process's; they take turns."""
    group = GROUP.get()
    return group is None or number % group.count == group.rank


def wait() -> None:
    """Until all processes are here."""
    if group := GROUP.get():
        group.total([0.0])


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process goes through it before the others do, who so find what it has made."""
    if not first():
        wait()
    yield
    if first():
        wait()


@contextmanager
def together() -> Iterator[None]:
    """A part that all processes come through, or none: what one raises, be it an interruption, ends all; the others
    raise PeerEnded."""
    group = GROUP.get()
    if group is None:
        yield
        return
    try:
        yield
    except BaseException:
        group.total([1.0])
        raise
    if group.total([0.0])[0]:
        raise PeerEnded("another process of this training ended it")


def same_start(parameters: list[Tensor]) -> None:
    """Gives all processes the first one's values."""
    if GROUP.get():
        for parameter in parameters:
            dist.broadcast(parameter.data, 0)


def require_same_step(step: int) -> None:
    """ValueError where processes resumed at different steps."""
    if means([step])[0] != step:
        raise ValueError(
            f"resume: this process found a checkpoint of step {step}, another of another step. Give all one --cache."
        )


def mean_gradients(parameters: list[Tensor]) -> None:
    """Every gradient becomes its mean over all processes; None, where it is None in all, and else counts as zero."""
    group = GROUP.get()
    if group is None:
        return
    learnt = group.total([float(parameter.grad is not None) for parameter in parameters])
    for parameter, found in zip(parameters, learnt):
        if not found:
            continue
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.contiguous()
        dist.all_reduce(gradient)
        parameter.grad = gradient.div_(group.count)
