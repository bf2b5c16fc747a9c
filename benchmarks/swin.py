"""Swin Renderer against full attention and core's context windows: time and memory of a sampling step at 1, 2, 4 and 8
windows, in one run.

The model has random weights. On a CPU it is small, with windows of about 2,300 tokens so that attention's share of a
block is that of Wan 1.3B at 480x832 (4 N / 33 width = 2.6 at N = 32,760, width 1536); on a GPU it has the widths of Wan
1.3B and runs at 480x832.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
LENGTHS = (1, 2, 4, 8)
WINDOW = 22
VARIANTS = ("dense", "windows", "context windows", "no-op editor", "windows, blocks whole")
TIMED = ("dense", "windows", "context windows")
HELD = ("dense", "windows, blocks whole", "windows", "context windows")  # whose memory is measured
TARGETS = {
    "windows, 8x over 1x": (8.8, "at most"),
    "step with editing layer over step without, at 8x": (1.01, "at most"),
    "context windows over windows at 4x": (1.5, "at least"),
    "dense over windows at 4x": (2.3, "at least"),
}


@dataclass(frozen=True)
class Size:
    """width, heads, blocks of the DiT; height and width of the latent."""

    width: int
    heads: int
    ffn: int
    blocks: int
    latent: tuple[int, int]
    dtype: str

    @property
    def frame_tokens(self) -> int:
        return self.latent[0] * self.latent[1] // 4


CPU = Size(width=128, heads=2, ffn=640, blocks=4, latent=(18, 24), dtype="float32")
GPU = Size(width=1536, heads=12, ffn=8960, blocks=30, latent=(60, 104), dtype="bfloat16")


def build(size: Size, in_dim: int = 16):
    """A Wan MODEL of that size with random weights, on the host's terms. in_dim: 36 is image to video."""
    import comfy.ops
    import comfy.sd
    import torch
    from comfy.ldm.wan.model import WanModel

    from ..harness.toy import TEXT_DIM, randomize

    module = WanModel(
        dim=size.width,
        ffn_dim=size.ffn,
        num_heads=size.heads,
        num_layers=size.blocks,
        text_dim=TEXT_DIM,
        freq_dim=256,
        in_dim=in_dim,
        out_dim=16,
        device="cpu",
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )
    randomize(module)
    transformer = {"num_heads": size.heads, "text_dim": TEXT_DIM}
    metadata = {"config": json.dumps({"transformer": transformer})}
    return comfy.sd.load_diffusion_model_state_dict(
        module.state_dict(), {"dtype": getattr(torch, size.dtype)}, metadata
    )


def variants(model) -> dict:
    import comfy.context_windows as cw

    from ..host.editing import edit_attention
    from ..patches.swin_renderer import SwinRenderer, apply

    context = model.clone()  # the defaults of core's WanContextWindowsManual: 81 frames, overlap 30
    context.model_options["context_handler"] = cw.IndexListContextHandler(
        cw.get_matching_context_schedule(cw.ContextSchedules.UNIFORM_STANDARD),
        cw.get_matching_fuse_method(cw.ContextFuseMethods.PYRAMID),
        context_length=21,
        context_overlap=7,
        dim=2,
        freenoise=True,
    )
    cw.create_prepare_sampling_wrapper(context)
    cw.create_sampler_sample_wrapper(context)
    no_op = edit_attention(model, "no-op", lambda call, proceed: proceed(call), sites=("self", "text"))
    windows = apply(model, SwinRenderer(window=WINDOW))
    return dict(zip(VARIANTS, (model, windows, context, no_op, blocks_whole(windows))))


def blocks_whole(model):
    """`model` as it was before blocks took a video in pieces and feed-forwards in chunks."""
    from ..host.editing import EDITORS

    model = model.clone()
    options = model.model_options["transformer_options"]
    options[EDITORS] = tuple(replace(editor, tokens=None, pieces=None) for editor in options[EDITORS])
    return model


def timed(model, noise, conditioning, count: int, clock=time.perf_counter, cfg: float = 1.0) -> list[float]:
    """Seconds, by `clock`, of each of `count` sampling steps after the first; CFG 1 is one pass."""
    import comfy.sample
    import torch

    ticks = []

    def tick(*_):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        ticks.append(clock())

    with torch.inference_mode():
        comfy.sample.sample(
            model,
            noise,
            count + 1,
            cfg,
            "euler",
            "simple",
            conditioning,
            conditioning,
            torch.zeros_like(noise),
            callback=tick,
            disable_pbar=True,
            seed=0,
        )
    return [b - a for a, b in zip(ticks, ticks[1:])]


def peak(model, noise, conditioning) -> int:
    """Bytes that a step needs above what is allocated before it."""
    import torch

    if torch.cuda.is_available():
        timed(model, noise[:, :, :1], conditioning, 1)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        timed(model, noise, conditioning, 1)
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        timed(model, noise, conditioning, 1)
    with TemporaryDirectory() as folder:
        profile.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    allocated = [
        event["args"]["Total Allocated"]
        for event in sorted(events, key=lambda e: e.get("ts", 0))
        if event.get("name") == "[memory]"
    ]
    return max(allocated) - allocated[0]


def inputs(frames: int, size: Size) -> tuple:
    """Noise of so many latent frames, and a prompt of 512 tokens."""
    from ..harness.sampling import seeded
    from ..harness.toy import TEXT_DIM

    return seeded(1, 16, frames, *size.latent), [[seeded(1, 512, TEXT_DIM, seed=1), {}]]


def layer_seconds(plain, edited, size: Size, rounds: int = 15) -> float:
    """What a no-op editor adds to a step: views and bookkeeping, so it does not grow with the clip and is measured
    where little else takes time."""
    tiny = replace(size, latent=(2, 2))
    return statistics.median(
        statistics.median(timed(edited, *inputs(1, tiny), 20)) - statistics.median(timed(plain, *inputs(1, tiny), 20))
        for _ in range(rounds)
    )


def start(cpu, gpu):
    """Starts ComfyUI in this process with PyTorch attention; returns the size for the device there is."""
    from ..cli.hosts import require_host

    host = require_host(ROOT)
    import torch

    from ..harness.stand_ins import start_host

    start_host(host, "--use-pytorch-cross-attention", *([] if torch.cuda.is_available() else ["--cpu"]))
    return gpu if torch.cuda.is_available() else cpu


def save(name: str, result: dict, text: str) -> None:
    """benchmarks/results/NAME-DEVICE.json and .md"""
    name += "-" + "".join(c if c.isalnum() else "-" for c in result["device"].lower())
    folder = ROOT / "benchmarks" / "results"
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)


def measure(rounds: int, memory: bool) -> dict:
    size = start(CPU, GPU)
    import torch

    models = variants(build(size))
    timed_names = VARIANTS[:4]
    seconds: dict[str, dict[int, list[float]]] = {name: {n: [] for n in LENGTHS} for name in timed_names}
    for _ in range(rounds):  # variants side by side, so that a machine that slows down slows all
        for times in LENGTHS:
            for name in timed_names:
                seconds[name][times] += timed(models[name], *inputs(WINDOW * times, size), 2 if times > 2 else 4)
    layer = layer_seconds(models["dense"], models["no-op editor"], size)
    peaks = (
        {name: {n: peak(models[name], *inputs(WINDOW * n, size)) for n in LENGTHS} for name in HELD} if memory else {}
    )

    def ratio(over: str, under: str, n: int, m: int | None = None) -> float:
        return statistics.median(a / b for a, b in zip(seconds[over][n], seconds[under][m or n], strict=False))

    ratios = {
        "windows, 8x over 1x": statistics.median(seconds["windows"][8]) / statistics.median(seconds["windows"][1]),
        "step with editing layer over step without, at 8x": 1 + layer / statistics.median(seconds["dense"][8]),
        "the same two timed against each other": ratio("no-op editor", "dense", 8),
        "context windows over windows at 4x": ratio("context windows", "windows", 4),
        "dense over windows at 4x": ratio("dense", "windows", 4),
        "dense over windows at 8x": ratio("dense", "windows", 8),
    }
    if peaks:
        ratios["peak of windows, 8x over 1x"] = peaks["windows"][8] / peaks["windows"][1]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "device": device,
        "torch": torch.__version__,
        "size": size.__dict__,
        "tokens at 1x": WINDOW * size.frame_tokens,
        "rounds": rounds,
        "editing layer, seconds per step": layer,
        "seconds per step": {name: {n: statistics.median(s) for n, s in by.items()} for name, by in seconds.items()},
        "peak bytes": peaks,
        "ratios": ratios,
    }


def table(result: dict) -> str:
    lines = [
        f"# Swin Renderer on {result['device']}",
        "",
        f"Wan with random weights, width {result['size']['width']}, {result['size']['blocks']} blocks, "
        f"{result['tokens at 1x']} tokens in one window of {WINDOW} latent frames, CFG 1, {result['rounds']} rounds "
        f"side by side, medians; torch {result['torch']}.",
        "",
        "| length | "
        + " | ".join(f"{name}, s per step" for name in TIMED)
        + " | "
        + " | ".join(f"{name}, peak MB" for name in HELD)
        + " |",
        "| --- |" + " ---: |" * (len(TIMED) + len(HELD)),
    ]
    for n in LENGTHS:
        times = [f"{result['seconds per step'][name][n]:.3f}" for name in TIMED]
        peaks = [f"{result['peak bytes'][name][n] / 2**20:.0f}" if result["peak bytes"] else "-" for name in HELD]
        lines.append(f"| {n}x | " + " | ".join(times + peaks) + " |")
    lines += ["", "| ratio | measured | target |", "| --- | ---: | --- |"]
    for name, value in result["ratios"].items():
        bound, word = TARGETS.get(name, (None, ""))
        met = (
            "" if bound is None else f"{word} {bound}: {'met' if (value <= bound) == (word == 'at most') else 'MISSED'}"
        )
        lines.append(f"| {name} | {value:.3f} | {met} |")
    return "\n".join(lines) + "\n"


def timing_parser(name: str, description: str) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog=f"run.py bench {name}", description=description.split("\n\n")[0])
    options.add_argument("--rounds", type=int, default=5, help="how often each is timed, in turn; medians are shown")
    return options


def parser() -> argparse.ArgumentParser:
    options = timing_parser("swin", __doc__)
    options.add_argument("--no-memory", action="store_true", help="time only")
    return options


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    result = measure(chosen.rounds, not chosen.no_memory)
    save("swin", result, table(result))
    return 0
