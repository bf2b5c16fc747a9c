"""Swin Renderer on MiniMax H3 and LTX: time of a one-step run at 1, 2 and 4 windows, dense, in windows, and with the
sound of LTX-2 in windows as well, in alternation, beside arithmetic for the real sizes.

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
# height and width of the latent: 121, 72 and 72 tokens a frame
TOYS = {"h3": (22, 22), "ltxv": (8, 9), "ltxav23": (8, 9)}
SOUND = "windows, sound too"
# matrices' FLOP a token and block, channels of attention, tokens a latent frame, window, lengths
REAL = {
    "MiniMax H3, 768x1344": (0.77e9, 7168, 1008, 110, (107, 214, 428)),
    "LTX-2, 704x1280": (0.55e9, 4096, 880, 64, (63, 126, 252)),
}


def arithmetic(matrices: float, channels: int, area: int, window: int, frames: int) -> float:
    """Dense over windows, FLOP of a block; text, sound and references left out."""
    dense, cut = (matrices + 4 * keys * area * channels for keys in (frames, min(frames, window)))
    return dense / cut


def measure(folder: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of each of `repeats` runs, after one that does not count."""
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
            if name.startswith("ltxav"):
                models[SOUND] = apply(dense, SwinRenderer(window=WINDOW, sound="windows"))
            for length in LENGTHS:
                shot = Shot(name, WINDOW * length, *TOYS[name], steps=1, cfg=1.0)
                times = {variant: [] for variant in models}
                for _ in range(repeats + 1):
                    for variant, model in models.items():
                        start = time.perf_counter()
                        sample(model, shot)
                        times[variant].append(time.perf_counter() - start)
                for variant, each in times.items():
                    seconds[f"{name}, {variant}, {length}x"] = each[1:]
    return seconds


def table(seconds: dict[str, list[float]]) -> str:
    spread = statistics.median((max(each) - min(each)) / statistics.median(each) for each in seconds.values())
    rounds = len(next(iter(seconds.values())))
    lines = [
        "# Swin Renderer on MiniMax H3 and LTX, tiny models on a CPU",
        "",
        f"`python run.py bench families --repeats {rounds}`. Medians of runs in alternation; between the fastest and",
        f"the slowest run of a row lie {spread:.0%} of it (median over the rows). At 1x a window is the whole video:",
        "what differs there is this pack's work around an attention, and noise.",
        "",
        f"| model | length | dense, s | windows, s | {SOUND}, s | dense over windows |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in TOYS:
        for length in LENGTHS if f"{name}, dense, 1x" in seconds else ():
            each = [seconds.get(f"{name}, {variant}, {length}x") for variant in ("dense", "windows", SOUND)]
            dense, cut, sound = (None if one is None else statistics.median(one) for one in each)
            said = "-" if sound is None else f"{sound:.2f}"
            lines.append(f"| {name} | {length}x | {dense:.2f} | {cut:.2f} | {said} | {dense / cut:.2f} |")
    lines += ["", "Arithmetic for the real sizes, a block's FLOP, not measured:", ""]
    lines += ["| model | latent frames | dense over windows |", "| --- | --- | --- |"]
    for name, (*size, lengths) in REAL.items():
        lines += [f"| {name} | {frames} | {arithmetic(*size, frames):.2f} |" for frames in lengths]
    return "\n".join(lines) + "\n"


def as_lines(seconds: dict[str, list[float]]) -> str:
    rows = (f' "{name}": {json.dumps([round(one, 4) for one in each])}' for name, each in seconds.items())
    return "{\n" + ",\n".join(rows) + "\n}\n"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="run.py bench families", description=__doc__)
    made.add_argument("--repeats", type=int, default=5, help="timed runs of each, of which the median counts")
    return made


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    from ..cli.hosts import require_host
    from ..harness.stand_ins import start_host

    start_host(require_host(ROOT), "--use-pytorch-cross-attention", "--cpu")
    with TemporaryDirectory() as folder:
        seconds = measure(Path(folder), options.repeats)
    results = ROOT / "benchmarks" / "results"
    (results / "families-cpu.json").write_text(as_lines(seconds), encoding="utf-8")
    (results / "families-cpu.md").write_text(table(seconds), encoding="utf-8")
    print(table(seconds))
    return 0
