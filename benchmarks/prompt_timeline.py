"""Prompt Timeline against the unpatched model: time and memory of a sampling step with four spans, beside the same with
all four texts for every frame and with one prompt.

Random weights. Wan: text cross-attention, 512 tokens a text as T5 pads them. HunyuanVideo: joint attention, 80 tokens a
text. The sides take turns, so that a machine that slows down slows all; on a CPU the time is the process's own, since
others compute beside it.
"""

import argparse
import json
import statistics
import time
from math import inf

from .swin import Size, build, peak, save, start, timed, timing_parser

SPANS = (1.0, 2.5, 4.0)  # borders in seconds, of 24 latent frames at 16 fps
FRAMES = 24
WORDS = {"Wan": 512, "HunyuanVideo": 80}
SIDES = ("one prompt", "all texts", "timeline")
TARGET = 1.03  # timeline over all texts, either family

CPU = Size(width=768, heads=6, ffn=4480, blocks=3, latent=(18, 26), dtype="float32")
GPU = Size(width=1536, heads=12, ffn=8960, blocks=30, latent=(60, 104), dtype="bfloat16")


def build_hunyuan(size: Size):
    """A HunyuanVideo MODEL of that width, a third of its blocks double ones, with random weights."""
    import comfy.ops
    import comfy.sd
    import torch
    from comfy.ldm.hunyuan_video.model import HunyuanVideo

    from ..harness.toy import HUNYUAN, randomize

    double = max(1, size.blocks // 3)
    config = HUNYUAN | {
        "hidden_size": size.width,
        "num_heads": size.heads,
        "depth": double,
        "depth_single_blocks": size.blocks - double,
    }
    module = HunyuanVideo(**config, device="cpu", dtype=torch.float32, operations=comfy.ops.disable_weight_init)
    randomize(module)
    metadata = {"config": json.dumps({"transformer": {"num_heads": size.heads}})}
    return comfy.sd.load_diffusion_model_state_dict(
        module.state_dict(), {"dtype": getattr(torch, size.dtype)}, metadata
    )


def prompts(words: int) -> tuple[list, list]:
    """One prompt, and a timeline of four."""
    from ..harness.sampling import seeded
    from ..harness.toy import TEXT_DIM
    from ..kernels.prompt_timeline import Span
    from ..patches.timeline_text import joined, spoken_span

    timeline = None
    for number, span in enumerate(zip((0.0, *SPANS), (*SPANS, inf))):
        text = [[seeded(1, words, TEXT_DIM, seed=number), {"pooled_output": seeded(1, 768, seed=number)}]]
        timeline = joined(timeline, spoken_span(text, Span(*span)))
    return text, timeline


def parser() -> argparse.ArgumentParser:
    return timing_parser("prompt_timeline", __doc__)


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    size: Size = start(CPU, GPU)
    import torch

    from ..harness.sampling import seeded
    from ..patches.prompt_timeline import PromptTimeline, apply

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    noise = seeded(1, 16, FRAMES, *size.latent)
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    measured, lines = {}, []
    for family, make in (("Wan", build), ("HunyuanVideo", build_hunyuan)):
        model, (one, timeline) = make(size), prompts(WORDS[family])
        sides = dict(
            zip(SIDES, ((model, one), (model, timeline), (apply(model, timeline, PromptTimeline()), timeline)))
        )
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(chosen.rounds):
            for name, (side, text) in sides.items():
                seconds[name] += timed(side, noise, text, 2, clock)
        peaks = {name: peak(side, noise, text) for name, (side, text) in sides.items()}
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        ratios = {
            name: statistics.median(b / a for a, b in zip(seconds[name], seconds["timeline"])) for name in SIDES[:2]
        }
        measured[family] = {"seconds per step": medians, "peak bytes": peaks, "timeline over": ratios}
        cells = [f"{medians[name]:.3f} s, {peaks[name] / 2**20:.0f} MB" for name in SIDES]
        lines.append(f"| {family} | " + " | ".join([*cells, *(f"{ratios[n]:.3f}" for n in SIDES[:2])]) + " |")
    met = all(one["timeline over"]["all texts"] <= TARGET for one in measured.values())
    result = {
        "device": device,
        "torch": torch.__version__,
        "size": size.__dict__,
        "tokens": FRAMES * size.frame_tokens,
        "words": WORDS,
        "rounds": chosen.rounds,
        "measured": measured,
    }
    heading = [
        f"# Prompt Timeline on {device}",
        "",
        f"Random weights, width {size.width}, {size.blocks} blocks, {FRAMES * size.frame_tokens} video tokens of "
        f"{FRAMES} latent frames, four spans of {WORDS['Wan']} (Wan) and {WORDS['HunyuanVideo']} (HunyuanVideo) text "
        f"tokens, CFG 1, {chosen.rounds} rounds side by side, medians; torch {torch.__version__}. Time of a step ("
        f"{'wall clock' if torch.cuda.is_available() else 'of the processor'}), and what it needs beyond its weights.",
        "",
        "| | one prompt | all texts, unpatched | timeline | over one prompt | over all texts |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    verdict = f"Target: at most {TARGET} times the unpatched model with the same texts, {'met' if met else 'MISSED'}."
    save("prompt-timeline", result, "\n".join([*heading, *lines, "", verdict]) + "\n")
    return 0
