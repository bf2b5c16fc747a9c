"""Swin Renderer on MiniMax H3 and LTX: time of a one-step run at 1, 2 and 4 windows, dense and in windows, in one run,
beside arithmetic for the real sizes.

The models are tests' toys with random weights, on a CPU. Frames have so many tokens that attention's share of a block
in one window is about that of the real model (attention over matrices: H3 4.0 at 768x1344, LTX-2 1.7 at 704x1280).
Runs include what is done once around a step. A window of the real size is 110 (H3) or 64 (LTX-2) latent frames.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
WINDOW, LENGTHS = 10, (1, 2, 4)
TOYS = {"h3": (22, 22), "ltxv": (8, 9)}  # height and width of the latent: 121 and 72 tokens a frame
# matrices' FLOP a token and block, channels of attention, tokens a latent frame, window, lengths
REAL = {
    "MiniMax H3, 768x1344": (0.77e9, 7168, 1008, 110, (107, 214, 428)),
    "LTX-2, 704x1280": (0.55e9, 4096, 880, 64, (63, 126, 252)),
}


def arithmetic(matrices: float, channels: int, area: int, window: int, frames: int) -> float:
    """Dense over windows, FLOP of a block; text, sound and references left out."""
    dense, cut = (matrices + 4 * keys * area * channels for keys in (frames, min(frames, window)))
    return dense / cut


def measure(folder: Path, repeats: int) -> dict:
    import comfy.sd
    import torch

    from ..harness.sampling import Shot, sample
    from ..harness.toy import NEWER, write_toy
    from ..patches.swin_renderer import SwinRenderer, apply

    seconds = {}
    for name in (name for name in TOYS if name in NEWER):
        with torch.inference_mode():
            dense = comfy.sd.load_diffusion_model(str(write_toy(name, folder / f"{name}.safetensors")))
            models = {"dense": dense, "windows": apply(dense, SwinRenderer(window=WINDOW))}
            for length in LENGTHS:
                shot = Shot(name, WINDOW * length, *TOYS[name], steps=1, cfg=1.0)
                times = {variant: [] for variant in models}
                for _ in range(repeats + 1):
                    for variant, model in models.items():
                        start = time.perf_counter()
                        sample(model, shot)
                        times[variant].append(time.perf_counter() - start)
                for variant, each in times.items():
                    seconds[f"{name}, {variant}, {length}x"] = statistics.median(each[1:])
    return seconds


def table(seconds: dict) -> str:
    lines = [
        "# Swin Renderer on MiniMax H3 and LTX, tiny models on a CPU",
        "",
        "`python run.py bench families`. At 1x both run the same: its ratio is the noise of the machine.",
        "",
    ]
    lines += ["| model | length | dense, s | windows, s | dense over windows |", "| --- | --- | --- | --- | --- |"]
    for name in TOYS:
        for length in LENGTHS if f"{name}, dense, 1x" in seconds else ():
            dense, cut = (seconds[f"{name}, {variant}, {length}x"] for variant in ("dense", "windows"))
            lines.append(f"| {name} | {length}x | {dense:.2f} | {cut:.2f} | {dense / cut:.2f} |")
    lines += ["", "Arithmetic for the real sizes, a block's FLOP, not measured:", ""]
    lines += ["| model | latent frames | dense over windows |", "| --- | --- | --- |"]
    for name, (*size, lengths) in REAL.items():
        lines += [f"| {name} | {frames} | {arithmetic(*size, frames):.2f} |" for frames in lengths]
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="run.py bench families", description=__doc__)
    made.add_argument("--repeats", type=int, default=3, help="timed runs of each, of which the median counts")
    return made


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    from ..cli.hosts import require_host
    from ..harness.stand_ins import start_host

    start_host(require_host(ROOT), "--use-pytorch-cross-attention", "--cpu")
    with TemporaryDirectory() as folder:
        seconds = measure(Path(folder), options.repeats)
    results = ROOT / "benchmarks" / "results"
    (results / "families-cpu.json").write_text(json.dumps(seconds, indent=1) + "\n", encoding="utf-8")
    (results / "families-cpu.md").write_text(table(seconds), encoding="utf-8")
    print(table(seconds))
    return 0
