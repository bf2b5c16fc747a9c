"""SSG Adapter against the plain model: time and memory of a sampling step, beside what arithmetic says it must cost.

Random weights at the widths of Wan 2.1 1.3B, with a branch of rank 128 on every block and the 257 tokens of ViT-H. On a
CPU a few blocks and a small clip; on a GPU all 30 blocks at 480x832, 81 frames, where a longer self-attention makes the
branch's share smaller still.
"""

import argparse
import statistics

from .swin import Size, build, peak, save, start, timed, timing_parser

TEXT, IMAGE, RANK, CLIP_WIDTH = 512, 257, 128, 1280
TARGET = 1.06

CPU = Size(width=1536, heads=12, ffn=8960, blocks=3, latent=(18, 26), dtype="float32")
GPU = Size(width=1536, heads=12, ffn=8960, blocks=30, latent=(60, 104), dtype="bfloat16")
FRAMES = {CPU: 7, GPU: 21}


def flops(size: Size, frames: int) -> tuple[float, float]:
    """Of one pass without and with the adapter: matrices 2 m n k, attention 4 queries keys width. The projector runs
    once, K' and V' per block."""
    n, d, f = frames * size.frame_tokens, size.width, size.ffn
    block = 2 * n * d * (4 * d + 2 * d + 2 * f) + 2 * 2 * TEXT * d * d + 4 * n * n * d + 4 * n * TEXT * d
    branch = 2 * 2 * IMAGE * RANK * (CLIP_WIDTH + d) + 4 * n * IMAGE * d
    plain = size.blocks * block
    return plain, plain + size.blocks * branch + 2 * 2 * IMAGE * CLIP_WIDTH**2


def adapter_for(size: Size):
    """An adapter as if trained."""
    import torch

    from ..harness.toy import randomize
    from ..host.weights import load_weights
    from ..kernels.ssg_adapter import SSGAdapter
    from ..kernels.ssg_spec import Spec

    spec = Spec("wan", size.width, size.heads, tuple(range(size.blocks)), RANK, CLIP_WIDTH)
    weights = SSGAdapter(spec)
    randomize(weights)
    return load_weights(
        lambda **place: SSGAdapter(spec, **place), weights.state_dict(), "adapter", getattr(torch, size.dtype)
    )


def parser() -> argparse.ArgumentParser:
    options = timing_parser("ssg_adapter", __doc__)
    options.add_argument("--frames", type=int, help="latent frames (default: 7 on a CPU, 21 on a GPU)")
    return options


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    size: Size = start(CPU, GPU)
    import torch

    from ..harness.sampling import seeded
    from ..harness.toy import TEXT_DIM
    from ..patches.ssg_adapter import apply
    from ..patches.ssg_guide import Guide

    rounds, frames = chosen.rounds, chosen.frames or FRAMES[size]
    model = build(size)
    noise, text = seeded(1, 16, frames, *size.latent), [[seeded(1, TEXT, TEXT_DIM, seed=1), {}]]
    variants = {
        "plain": model,
        "with adapter": apply(model, adapter_for(size), Guide(seeded(1, IMAGE, CLIP_WIDTH, seed=2))),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):  # side by side, so that a machine that slows down slows both
        for name, variant in variants.items():
            seconds[name] += timed(variant, noise, text, 2)
    peaks = {name: peak(variant, noise, text) for name, variant in variants.items()}
    plain, with_adapter = flops(size, frames)
    measured = statistics.median(b / a for a, b in zip(seconds["plain"], seconds["with adapter"]))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    result = {
        "device": device,
        "torch": torch.__version__,
        "size": size.__dict__,
        "tokens": frames * size.frame_tokens,
        "rank": RANK,
        "image tokens": IMAGE,
        "rounds": rounds,
        "seconds per step": {name: statistics.median(s) for name, s in seconds.items()},
        "peak bytes": peaks,
        "time ratio": measured,
        "arithmetic": with_adapter / plain,
    }
    lines = [
        f"# SSG Adapter on {device}",
        "",
        f"Wan T2V with random weights, width {size.width}, {size.blocks} blocks, each with a branch of rank {RANK} on "
        f"{IMAGE} image tokens, {frames * size.frame_tokens} tokens, CFG 1, {rounds} rounds side by side, medians; "
        f"torch {torch.__version__}.",
        "",
        "| | plain | with adapter | ratio |",
        "| --- | ---: | ---: | ---: |",
        f"| s per step | {result['seconds per step']['plain']:.3f} | {result['seconds per step']['with adapter']:.3f} "
        f"| {measured:.3f} |",
        f"| FLOP | {plain:.3g} | {with_adapter:.3g} | {with_adapter / plain:.3f} |",
        f"| peak MB of a step | {peaks['plain'] / 2**20:.0f} | {peaks['with adapter'] / 2**20:.0f} | "
        f"{peaks['with adapter'] / peaks['plain']:.2f} |",
        "",
        f"Target: at most {TARGET} times the plain step, {'met' if measured <= TARGET else 'MISSED'}.",
    ]
    save("ssg-adapter", result, "\n".join(lines) + "\n")
    return 0
