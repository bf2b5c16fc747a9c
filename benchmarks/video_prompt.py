"""Video-As-Prompt against the plain model: time and memory of a sampling step, beside what arithmetic says it must
cost.

Random weights. On a CPU a small Wan I2V in which attention and matrices weigh as in the 14B model at 480x832, 49 frames
(20,280 tokens, width 5120), with an expert on every fourth block; on a GPU that model's width itself, with as many
blocks as the published expert has, times four.
"""

import argparse
import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from .swin import Size, peak, save, start, timed, timing_parser

FRAMES, TEXT, IMAGE = 13, 512, 257
TARGET = 1.05


CPU = Size(width=384, heads=3, ffn=1040, blocks=12, latent=(18, 26), dtype="float32")
GPU = Size(width=5120, heads=40, ffn=13824, blocks=40, latent=(60, 104), dtype="bfloat16")


def layers_of(size: Size) -> tuple[int, ...]:
    return tuple(range(0, size.blocks, 4))


def flops(size: Size) -> tuple[float, float]:
    """Of one pass without and with the expert: matrices 2 m n k, attention 4 queries keys width; the last expert block
    trimmed."""
    n, d, f = FRAMES * size.frame_tokens, size.width, size.ffn
    context = 2 * 2 * (TEXT + IMAGE) * d * d  # keys and values of the cross-attentions
    matrices = 2 * n * d * (4 * d + 2 * d + 2 * f)  # self-attention, queries and output of cross-attention, FFN
    block = matrices + context + 4 * n * n * d + 4 * n * (TEXT + IMAGE) * d
    extra = matrices + context + 12 * n * n * d + 4 * n * (TEXT + IMAGE) * d  # 2n queries meet 2n keys
    last = 2 * n * d * 2 * d + 4 * n * n * d  # keys and values only
    plain = size.blocks * block
    return plain, plain + (len(layers_of(size)) - 1) * extra + last


def build(size: Size, folder: Path):
    """A Wan I2V MODEL and an expert for it."""
    import comfy.ops
    import comfy.sd
    import torch
    from comfy.ldm.wan.model import WanModel
    from safetensors.torch import save_file

    from ..harness.toy import TEXT_DIM, randomize
    from ..patches.video_prompt_expert import load_expert

    transformer = {"num_heads": size.heads, "text_dim": TEXT_DIM}
    metadata = {"config": json.dumps({"transformer": transformer}), "layers": ",".join(map(str, layers_of(size)))}
    options = {"dtype": getattr(torch, size.dtype)}

    def weights(blocks: int) -> dict:
        module = WanModel(
            model_type="i2v",
            dim=size.width,
            ffn_dim=size.ffn,
            num_heads=size.heads,
            num_layers=blocks,
            text_dim=TEXT_DIM,
            freq_dim=256,
            in_dim=36,
            out_dim=16,
            device="cpu",
            dtype=options["dtype"],
            operations=comfy.ops.disable_weight_init,
        )
        randomize(module)
        return module.state_dict()

    model = comfy.sd.load_diffusion_model_state_dict(weights(size.blocks), options, metadata)
    file = folder / "expert.safetensors"
    save_file(
        {
            key: value.contiguous()
            for key, value in weights(len(layers_of(size))).items()
            if not key.startswith("head.")
        },
        file,
        metadata,
    )
    return model, load_expert(file, options)


def parser() -> argparse.ArgumentParser:
    return timing_parser("video_prompt", __doc__)


def sides(size: Size, folder: Path) -> tuple[dict, object, list]:
    """{"plain": MODEL, "with expert": MODEL}, and the noise and the text that they sample."""
    from ..harness.sampling import clip_vision, seeded
    from ..harness.toy import TEXT_DIM
    from ..host.reference import carrying
    from ..kernels.video_prompt import IMAGE as IMAGE_COND
    from ..kernels.video_prompt import LATENT
    from ..kernels.video_prompt import TEXT as TEXT_COND
    from ..patches.video_prompt import VideoPrompt, apply

    model, expert = build(size, folder)
    noise, image = seeded(1, 16, FRAMES, *size.latent), seeded(1, IMAGE, 1280, seed=1)
    text = [[seeded(1, TEXT, TEXT_DIM, seed=2), {"clip_vision_output": clip_vision(penultimate_hidden_states=image)}]]
    text = carrying(
        text,
        {LATENT: seeded(1, 36, FRAMES, *size.latent, seed=3)},
        {TEXT_COND: seeded(1, TEXT, TEXT_DIM, seed=4), IMAGE_COND: image},
    )
    return {"plain": model, "with expert": apply(model, expert, VideoPrompt())}, noise, text


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    size: Size = start(CPU, GPU)
    import torch

    with TemporaryDirectory() as folder:
        variants, noise, text = sides(size, Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(chosen.rounds):
            for name, variant in variants.items():
                seconds[name] += timed(variant, noise, text, 2)
        peaks = {name: peak(variant, noise, text) for name, variant in variants.items()}
    plain, with_expert = flops(size)
    measured = statistics.median(b / a for a, b in zip(seconds["plain"], seconds["with expert"]))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    result = {
        "device": device,
        "torch": torch.__version__,
        "size": size.__dict__,
        "tokens": FRAMES * size.frame_tokens,
        "expert blocks": layers_of(size),
        "rounds": chosen.rounds,
        "seconds per step": {name: statistics.median(s) for name, s in seconds.items()},
        "peak bytes": peaks,
        "time ratio": measured,
        "arithmetic": with_expert / plain,
        "over arithmetic": measured / (with_expert / plain),
    }
    lines = [
        f"# Video-As-Prompt on {result['device']}",
        "",
        f"Wan I2V with random weights, width {size.width}, {size.blocks} blocks, expert on {len(layers_of(size))}, "
        f"{FRAMES * size.frame_tokens} tokens and as many of the reference, CFG 1, {chosen.rounds} rounds side by "
        f"side, medians; torch {torch.__version__}.",
        "",
        "| | plain | with expert | ratio |",
        "| --- | ---: | ---: | ---: |",
        f"| s per step | {result['seconds per step']['plain']:.3f} | {result['seconds per step']['with expert']:.3f} | "
        f"{measured:.3f} |",
        f"| FLOP | {plain:.3g} | {with_expert:.3g} | {with_expert / plain:.3f} |",
        f"| peak MB of a step | {peaks['plain'] / 2**20:.0f} | {peaks['with expert'] / 2**20:.0f} | "
        f"{peaks['with expert'] / peaks['plain']:.2f} |",
        "",
        f"Time over arithmetic: {result['over arithmetic']:.3f} (target: at most {TARGET}, "
        f"{'met' if result['over arithmetic'] <= TARGET else 'MISSED'}).",
    ]
    save("video-prompt", result, "\n".join(lines) + "\n")
    return 0
