"""What a call of the model holds at 1, 2, 4 and 8 windows, and how much of it beyond what any call must: the residual
stream (a block's input and output) and the RoPE table.

Wan with random weights, small on a CPU, of Wan 1.3B's widths on a GPU.
"""

import argparse
import json
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

from .swin import CPU, GPU, LENGTHS, WINDOW, Size, blocks_whole, build, inputs, save, start, timed

TEXT = 64  # tokens of a span's prompt
FPS = 16.0
VARIANTS = ("windows, blocks whole", "windows", "windows on a timeline", "windows on a timeline, one by one")


def parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog="run.py bench swin_memory", description=__doc__.split("\n\n")[0])


def story(windows: int) -> list:
    """CONDITIONING of a timeline with a span for each window."""
    from ..harness.sampling import seeded
    from ..harness.toy import TEXT_DIM
    from ..kernels.prompt_timeline import Span
    from ..patches.timeline_text import joined, spoken_span

    starts = [0.0, *((4 * WINDOW * i - 3) / FPS for i in range(1, windows))]
    timeline = None
    for i, (a, b) in enumerate(zip(starts, [*starts[1:], inf])):
        timeline = joined(timeline, spoken_span([[seeded(1, TEXT, TEXT_DIM, seed=i), {}]], Span(a, b)))
    return timeline


def variants(model, windows: int) -> dict:
    """name -> (MODEL, positive conditioning)"""
    from ..patches.prompt_timeline import PromptTimeline
    from ..patches.prompt_timeline import apply as with_texts
    from ..patches.swin_renderer import SwinRenderer, apply

    plain, told = inputs(1, CPU)[1], story(windows)
    cut = apply(model, SwinRenderer(window=WINDOW))
    texts = with_texts(model, told, PromptTimeline(FPS))
    back, alone = (apply(texts, SwinRenderer(window=WINDOW, lead_in=lead_in)) for lead_in in (0, 2))
    found = ((blocks_whole(cut), plain), (cut, plain), (back, told), (alone, told))
    return dict(zip(VARIANTS, found))


def held(model, noise, conditioning) -> int:
    """Most bytes that a call of the model holds above what is allocated when it begins."""
    import torch
    from comfy.patcher_extension import WrappersMP

    peaks = []

    def marked(executor, *args, **kwargs):
        if torch.cuda.is_available():
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            out = executor(*args, **kwargs)
            peaks.append(torch.cuda.max_memory_allocated() - before)
            return out
        with torch.profiler.record_function("model call"):
            return executor(*args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "memory", marked)
    if torch.cuda.is_available():
        timed(model, noise, conditioning, 1)
        return max(peaks)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        timed(model, noise, conditioning, 1)
    with TemporaryDirectory() as folder:
        profile.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    memory = sorted((e["ts"], e["args"]["Total Allocated"]) for e in events if e.get("name") == "[memory]")
    for call in (e for e in events if e.get("name") == "model call" and "dur" in e):
        before = [bytes_ for ts, bytes_ in memory if ts <= call["ts"]][-1:] or [memory[0][1]]
        during = [bytes_ for ts, bytes_ in memory if call["ts"] <= ts <= call["ts"] + call["dur"]]
        peaks.append(max(during) - before[0])
    return max(peaks)


def stream(size: Size, frames: int) -> int:
    """Bytes of a block's input and output and of the RoPE table, of so many latent frames."""
    each = 4 if size.dtype == "float32" else 2
    return frames * size.frame_tokens * (2 * size.width * each + size.width // size.heads // 2 * 4 * 4)


def measure() -> dict:
    size = start(CPU, GPU)
    import torch

    model = build(size)
    found: dict[str, dict[int, int]] = {name: {} for name in VARIANTS}
    for n in LENGTHS:
        noise = inputs(WINDOW * n, size)[0]
        for name, (patched, conditioning) in variants(model, n).items():
            found[name][n] = held(patched, noise, conditioning)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "device": device,
        "torch": torch.__version__,
        "size": size.__dict__,
        "stream": {n: stream(size, WINDOW * n) for n in LENGTHS},
        "bytes": found,
    }


def table(result: dict) -> str:
    size = result["size"]
    lines = [
        f"# What a call of the model holds, on {result['device']}",
        "",
        f"Wan with random weights, width {size['width']}, {size['blocks']} blocks, windows of {WINDOW} latent frames, "
        f"CFG 1; torch {result['torch']}. MB at the peak of a call above those before it; in brackets what "
        "of it is beyond the residual stream (a block's input and output) and the RoPE table.",
        "",
        "| length | stream and RoPE | " + " | ".join(VARIANTS) + " |",
        "| --- |" + " ---: |" * (1 + len(VARIANTS)),
    ]
    for n in LENGTHS:
        own = result["stream"][n]
        held_at = [result["bytes"][name][n] for name in VARIANTS]
        cells = [f"{count / 2**20:.1f} ({(count - own) / 2**20:.1f})" for count in held_at]
        lines.append(f"| {n}x | {own / 2**20:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser().parse_args(arguments)
    result = measure()
    save("swin-memory", result, table(result))
    return 0
