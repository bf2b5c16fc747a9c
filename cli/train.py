"""run.py train mini-vae | mini-clip | mini-t2v | mini-i2v | video-prompt | ssg-adapter: see cli/train_options.py."""

import torch

from ..harness.stand_ins import start_host
from . import train_options
from .hosts import find_hosts
from .server import ROOT


def main(arguments: list[str]) -> int:
    chosen = train_options.parser().parse_args(arguments)  # before ComfyUI takes its seconds
    hosts = find_hosts(ROOT)
    if not hosts:
        raise ValueError(
            "no ComfyUI found. git clone https://github.com/Comfy-Org/ComfyUI   then set COMFYUI_PATH to it, or put "
            "it at ~/ComfyUI."
        )
    own = chosen.pairs or chosen.clips  # the mini models train on the CPU
    start_host(hosts[0], *(["--disable-cuda-malloc"] if own and torch.cuda.is_available() else []))
    return train_options.main(arguments)
