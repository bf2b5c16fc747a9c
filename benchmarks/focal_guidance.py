"""Focal Guidance against the plain model: time and memory of a sampling step, beside what arithmetic says it must cost.

Random weights at the width of Wan 2.1 14B on a GPU and of 1.3B on a CPU, 512 text tokens, CFG 1. On a CPU a few blocks
and a small clip, where cross-attention is a far larger part of a step than at 480x832 and 81 frames.
"""

import argparse
import statistics

from .swin import Size, build, peak, save, start, timed

TEXT, TARGET = 512, 1.05
CPU = Size(width=1536, heads=12, ffn=8960, blocks=3, latent=(18, 26), dtype="float32")
GPU = Size(width=5120, heads=40, ffn=13824, blocks=8, latent=(60, 104), dtype="bfloat16")
FRAMES = {CPU: 11, GPU: 21}
PLAIN = "plain"
EXTRA = {  # attentions over the text beyond the model's own, in a block
    PLAIN: 0,
    "keyword_weight 3": 0,
    "keyword_weight 2.5": 0,
    "keyword_weight 3, cache 0.5": 1,
    "keyword_weight 3, cache 0.5, region": 2,
}


def flops(size: Size, tokens: int, extra: int) -> float:
    """Of one block: matrices 2 m n k, attention 4 queries keys width."""
    n, d, f = tokens, size.width, size.ffn
    block = 2 * n * d * (4 * d + 2 * d + 2 * f) + 2 * 2 * TEXT * d * d + 4 * n * n * d + 4 * n * TEXT * d
    return block + extra * 4 * n * TEXT * d


def variants(model, size: Size) -> dict:
    import torch

    from ..harness.toy_nodes import ToyCLIP
    from ..patches.focal_guidance import FocalGuidance, apply

    text = " ".join(f"word{i}" for i in range(TEXT))
    words = {"text": text, "keywords": ("word3", "word40", "word41", "word42")}
    cache = {"cache": 0.5, "source_blocks": "0"}
    options = (
        {"weight": 3.0},
        {"weight": 2.5},
        {"weight": 3.0} | cache,
        {"weight": 3.0, "region": torch.ones(1, *size.latent)} | cache,
    )
    guided = (apply(model, ToyCLIP(), FocalGuidance(**words, **one)) for one in options)
    return dict(zip(EXTRA, (model, *guided)))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="run.py bench focal_guidance", description=__doc__)
    made.add_argument("--rounds", type=int, default=5, help="of all variants side by side, of which the median counts")
    made.add_argument("--frames", type=int, help="latent frames (default: what suits the device)")
    return made


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    size: Size = start(CPU, GPU)
    import torch

    from ..harness.sampling import seeded
    from ..harness.toy import TEXT_DIM
    from ..kernels.focal_guidance import COPIES

    rounds, frames = chosen.rounds, chosen.frames or FRAMES[size]
    models = variants(build(size), size)
    noise, text = seeded(1, 16, frames, *size.latent), [[seeded(1, TEXT, TEXT_DIM, seed=1), {}]]
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):  # side by side, so that a machine that slows down slows all
        for name, model in models.items():
            seconds[name] += timed(model, noise, text, 2)
    tokens, real = frames * size.frame_tokens, 21 * 30 * 52
    peaks = {name: peak(model, noise, text) for name, model in models.items()}
    rows = {}
    for name in models:
        ratio = statistics.median(b / a for a, b in zip(seconds[PLAIN], seconds[name]))
        here, there = (flops(size, n, EXTRA[name]) / flops(size, n, 0) for n in (tokens, real))
        more = (peaks[name] - peaks[PLAIN]) / ((tokens + TEXT) * size.width * getattr(torch, size.dtype).itemsize)
        rows[name] = {"time ratio": ratio, "arithmetic here": here, "arithmetic at 480p": there, "sources": more}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    result = {"device": device, "torch": torch.__version__, "size": size.__dict__, "tokens": tokens, "rounds": rounds}
    lines = [
        f"# Focal Guidance on {device}",
        "",
        f"Wan T2V with random weights, width {size.width}, {size.blocks} blocks, {TEXT} text tokens, {tokens} tokens, "
        f"CFG 1, {rounds} rounds side by side, medians; torch {torch.__version__}. 4 keywords, up to {COPIES} copies "
        "of keys.",
        "",
        "| | time of a step | FLOP | FLOP at 480x832, 81 frames | peak, in q and k of one source |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        time, here, there, more = row.values()
        lines.append(f"| {name} | {time:.3f} | {here:.3f} | {there:.3f} | {more:+.2f} |")
    worst = max(row["arithmetic at 480p"] for row in rows.values())
    lines += ["", f"Target at 480x832: at most {TARGET} with everything; by arithmetic {worst:.3f}."]
    save("focal-guidance", result | {"variants": rows}, "\n".join(lines) + "\n")
    return 0
