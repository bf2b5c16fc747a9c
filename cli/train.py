"""run.py train mini-vae | mini-clip | mini-t2v | ... | planner: see cli/train_options.py."""

import torch

from ..harness.stand_ins import start_host
from . import train_options
from .hosts import require_host
from .server import ROOT


def main(arguments: list[str]) -> int:
    chosen = train_options.parser().parse_args(arguments)  # before ComfyUI takes its seconds
    host = require_host(ROOT)
    own = chosen.pairs or chosen.clips  # the mini models train on the CPU
    start_host(host, *(["--disable-cuda-malloc"] if own and torch.cuda.is_available() else []))
    return train_options.main(arguments)
