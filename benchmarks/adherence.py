"""Text Contrast, AlignVid, DyMoS and ALG against the plain model: time and memory of a sampling step in which they act,
and DyMoS with a mask beside DyMoS as a merge of two attentions.

Image to video with random weights at the widths of Wan 1.3B; on a CPU few blocks and a small video. Beside it, what
arithmetic says at the widths of Wan 14B and 480x832, 81 frames.
"""

import argparse
import statistics
import time

from .swin import Size, build, peak, save, start, timed

TEXT = 512
TARGETS = {
    "Text Contrast": 1.01,
    "Text Contrast, keep_norm off": 1.01,
    "AlignVid": 1.02,
    "DyMoS, mask": 1.02,
    "DyMoS, merge": 1.02,
    "ALG": 1.02,
}
FLOP_PER_BYTE = 120  # what a GPU computes while it reads or writes one byte: 400 TFLOP/s beside 3.35 TB/s

CPU = Size(width=1536, heads=12, ffn=8960, blocks=2, latent=(18, 26), dtype="float32")
GPU = Size(width=1536, heads=12, ffn=8960, blocks=30, latent=(60, 104), dtype="bfloat16")
FRAMES = {CPU: 7, GPU: 21}
WAN_14B = Size(width=5120, heads=40, ffn=13824, blocks=40, latent=(60, 104), dtype="bfloat16")


def arithmetic(size: Size, frames: int) -> dict[str, float]:
    """Cost of a pass over the plain one's. Matrices 2 m n k, attention 4 queries keys width; reads and writes of
    tensors of n x width by FLOP_PER_BYTE. A mask is free here: whether a backend takes it is not arithmetic's."""
    n, d, f = frames * size.frame_tokens, size.width, size.ffn
    block = 2 * n * d * (4 * d + 2 * d + 2 * f) + 2 * 2 * TEXT * d * d + 4 * n * n * d + 4 * n * TEXT * d
    width_of_value = 2
    passes = {"mean of q": 1, "contrast": 2, "norms": 2, "rescale": 2}  # over n x width, in keep_norm's order
    tensor = n * d * width_of_value * FLOP_PER_BYTE
    mean_row = 4 * TEXT * d
    added = {
        "Text Contrast": sum(passes.values()) * tensor + mean_row,
        "Text Contrast, keep_norm off": (passes["mean of q"] + passes["contrast"]) * tensor + mean_row,
        "AlignVid": 2 * TEXT * d * width_of_value * FLOP_PER_BYTE,
        "DyMoS, mask": 0,
        "DyMoS, merge": 5 * tensor,  # two outputs read and written once more, one merged
        "ALG": 4 * 20 * n * 4 * 4 * FLOP_PER_BYTE / size.blocks,  # 20 channels in fp32, twice there and back, once
    }
    return {name: 1 + extra / block for name, extra in added.items()}


def variants(model) -> dict:
    from ..host.editing import edit_attention
    from ..host.schedule import Interval
    from ..kernels.dymos import attend_lse, damped
    from ..patches import alg, alignvid, dymos, text_contrast

    def merged(call, proceed):
        area = call.forward.layout.height * call.forward.layout.width
        return damped(call.q, call.k, call.v, slice(0, area), 0.6, attend_lse).flatten(2)

    every = Interval()
    return {
        "plain": model,
        "Text Contrast": text_contrast.apply(model, text_contrast.TextContrast()),
        "Text Contrast, keep_norm off": text_contrast.apply(model, text_contrast.TextContrast(keep_norm=False)),
        "AlignVid": alignvid.apply(model, alignvid.AlignVid(interval=every)),
        "DyMoS, mask": dymos.apply(model, dymos.DyMoS(interval=every)),
        "DyMoS, merge": edit_attention(model, "merge", merged, sites=("self",)),
        "ALG": alg.apply(model, alg.ALG(min_sigma=0.0)),
    }


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="run.py bench adherence", description=__doc__)
    made.add_argument("--rounds", type=int, default=5, help="of all variants side by side, of which the median counts")
    made.add_argument("--frames", type=int, help="latent frames (default: what suits the device)")
    return made


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    size: Size = start(CPU, GPU)
    import torch

    from ..harness.sampling import seeded
    from ..harness.toy import TEXT_DIM

    rounds, frames = chosen.rounds, chosen.frames or FRAMES[size]
    models = variants(build(size, in_dim=36))
    noise = seeded(1, 16, frames, *size.latent)
    image = {"concat_latent_image": seeded(*noise.shape, seed=3), "concat_mask": torch.ones(1, 1, *noise.shape[2:])}
    text = [[seeded(1, TEXT, TEXT_DIM, seed=1), image]]
    # On a CPU the time of this process alone, so that what else the machine does counts less.
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):  # side by side, so that a machine that slows down slows all
        for name, model in models.items():
            seconds[name] += timed(model, noise, text, 2, clock)
    peaks = {name: peak(model, noise, text) for name, model in models.items()}
    ratios = {
        name: statistics.median(b / a for a, b in zip(seconds["plain"], seconds[name]))
        for name in models
        if name != "plain"
    }
    predicted = arithmetic(WAN_14B, 21)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    result = {
        "device": device,
        "torch": torch.__version__,
        "size": size.__dict__,
        "tokens": frames * size.frame_tokens,
        "rounds": rounds,
        "seconds per step": {name: statistics.median(s) for name, s in seconds.items()},
        "peak bytes": peaks,
        "time ratios": ratios,
        "arithmetic at Wan 14B": predicted,
    }
    lines = [
        f"# The adherence shelf on {device}",
        "",
        f"A step in which each acts, over the plain model's. Wan I2V with random weights, width {size.width}, "
        f"{size.blocks} blocks, {frames * size.frame_tokens} tokens, CFG 1, PyTorch attention, {rounds} rounds side by "
        f"side, medians; torch {torch.__version__}. Arithmetic: Wan 14B, 480x832, 81 frames.",
        "",
        "| | s per step | over plain | peak MB | arithmetic | target |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name in models:
        row = f"| {name} | {result['seconds per step'][name]:.3f} | "
        if name == "plain":
            lines.append(row + f"| {peaks[name] / 2**20:.0f} | | |")
            continue
        met = max(predicted[name], ratios[name]) <= TARGETS[name]
        verdict = f"at most {TARGETS[name]}: {'met' if met else 'MISSED'}"
        lines.append(row + f"{ratios[name]:.3f} | {peaks[name] / 2**20:.0f} | {predicted[name]:.4f} | {verdict} |")
    save("adherence", result, "\n".join(lines) + "\n")
    return 0
