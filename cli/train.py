"""run.py train mini-vae | mini-clip | mini-t2v | ... | planner: see cli/train_options.py.

torchrun --nproc-per-node N run.py train ssg-adapter | video-prompt: in N processes (training/parallel.py)."""

import torch

from ..harness.stand_ins import start_host
from ..training import parallel
from . import train_options
from .hosts import require_host
from .server import ROOT

SHARED = ("ssg-adapter", "video-prompt")  # what several processes can train together


def main(arguments: list[str]) -> int:
    chosen = train_options.parser().parse_args(arguments)  # before ComfyUI takes its seconds
    host = require_host(ROOT)
    own = chosen.pairs or chosen.clips  # the mini models train on the CPU
    cuda = bool(own) and torch.cuda.is_available()
    if not parallel.launched():
        return train(host, cuda, arguments)
    if chosen.model not in SHARED:
        raise ValueError(f"torchrun: is for {' and '.join(SHARED)}. Train {chosen.model} with python run.py train.")
    if cuda:
        parallel.choose_device()  # before ComfyUI asks for it
    with parallel.joined(cuda):
        parallel.require_shares(batch_of(chosen), "--batch")  # before anything is encoded
        return train(host, cuda, arguments)


def batch_of(chosen) -> int:
    models = train_options.OWN if chosen.pairs or chosen.clips else train_options.MODELS
    return chosen.batch or models[chosen.model][2]


def train(host, cuda: bool, arguments: list[str]) -> int:
    start_host(host, *(["--disable-cuda-malloc"] if cuda else []))
    return train_options.main(arguments)
