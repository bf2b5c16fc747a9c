"""CLIP Spatial Mask against the truth: how well the mask of a phrase covers the object it names, in MiniWorld, by the
mini CLIP.

One random frame of each held-out scene; the phrase names one object by colour and shape. IoU of mask > 0.5 and the true
mask > 0.5; pointing: whether the mask's highest pixel lies on the object. Beside the node's published defaults: its
other settings, among them what training/prompted.py uses (chosen on training scenes); smooth random masks (noise on
CLIP's patches, filtered and stretched as the node's); a disc in the centre as large as the mean object; the mask of the
other object's phrase (two objects only), which must be worse.
"""

import argparse

from .swin import ROOT, start

SEED, THRESHOLD = 11, 0.5


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="run.py bench clip_mask", description=__doc__.split("\n\n")[0])
    options.add_argument("--scenes", type=int, default=200, help="held-out scenes, one and two objects in turn")
    return options


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    start(None, None)
    import json

    import torch

    from ..miniworld.report import interval

    scores = measure(chosen.scenes)
    quarters = torch.tensor([0.25, 0.5, 0.75])
    rows = {
        name: {
            key: {
                "mean": float(v.mean()),
                "interval": interval(v),
                "quartiles": torch.quantile(v, quarters).tolist(),
                "n": len(v),
            }
            for key, v in found.items()
        }
        for name, found in scores.items()
    }
    lines = [
        "# CLIP Spatial Mask on MiniWorld",
        "",
        f"{chosen.scenes} held-out scenes, one frame each, mini CLIP (64 px, 8 x 8 patches). IoU of mask > {THRESHOLD} "
        "with the true mask, by phrase; pointing: share of masks whose highest pixel lies on the object.",
        "",
        "| mask | IoU | 95 % interval | quartiles | pointing | phrases |",
        "| --- | ---: | --- | --- | ---: | ---: |",
    ]
    for name, row in rows.items():
        iou, point = row["IoU"], row["pointing"]
        lines.append(
            f"| {name} | {iou['mean']:.3f} | {iou['interval'][0]:.3f} .. {iou['interval'][1]:.3f} | "
            f"{' / '.join(f'{q:.2f}' for q in iou['quartiles'])} | {point['mean']:.3f} | {iou['n']} |"
        )
    text = "\n".join(lines) + "\n"
    results = ROOT / "benchmarks" / "results"
    (results / "clip-mask-iou.md").write_text(text)
    (results / "clip-mask-iou.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(text)
    return 0


def measure(scenes: int) -> dict:
    """{kind of mask: {"IoU": [phrases], "pointing": [phrases]}}."""
    from itertools import product
    from random import Random

    import torch

    from ..host.clip_loading import load_clip
    from ..kernels.clip_mask import Fusion, Geometry, mean_filter, minmax
    from ..mini.prompted import MASK
    from ..miniworld.caption import phrase
    from ..miniworld.render import render
    from ..miniworld.scene import COLOURS, SHAPES, ThingFacts, sample_scenes
    from ..patches.clip_mask import SpatialMask, find

    settings = (
        {"published defaults": SpatialMask()}
        | {f"fusion {f}": SpatialMask(fusion=f) for f in Fusion.__args__[1:]}
        | {
            "patches direct, fusion product": SpatialMask(fusion="product", patches="direct"),
            "the same, filter 1": MASK,
        }
    )
    clip = load_clip(ROOT / "mini" / "weights" / "mini_clip.safetensors")
    rng, generator = Random(SEED), torch.Generator().manual_seed(SEED)
    grid, geometry = clip.size // clip.patch, Geometry(64, 64, clip.size)
    named = [phrase(ThingFacts(shape, colour)) for colour, shape in product(COLOURS, SHAPES)]
    found: dict[str, dict[str, list[float]]] = {}

    def judge(name: str, mask, true) -> None:
        a, b = mask > THRESHOLD, true > THRESHOLD
        row = found.setdefault(name, {"IoU": [], "pointing": []})
        row["IoU"].append(float((a & b).sum() / (a | b).sum().clamp(min=1)))
        row["pointing"].append(float(b.flatten()[mask.argmax()]))

    y, x = torch.meshgrid(*[(torch.arange(64) + 0.5) / 64 - 0.5] * 2, indexing="ij")
    samples = []
    for scene in sample_scenes(scenes, SEED, "heldout"):
        clips = render([scene])
        t = rng.choice(clips.visible[0].all(0).nonzero().flatten().tolist())
        colours = [thing.to_colour if thing.to_colour and t > 10 else thing.colour for thing in scene.things]
        texts = [
            named[list(COLOURS).index(c) * len(SHAPES) + SHAPES.index(thing.shape)]
            for c, thing in zip(colours, scene.things)
        ]
        samples.append((clips.frames[0, t : t + 1], clips.masks[0, :, t], texts))
    area = torch.cat([true for _, true, _ in samples]).gt(THRESHOLD).float().mean()
    disc = 1 - (x.square() + y.square()).sqrt() / (2 * (area / torch.pi).sqrt())
    for frame, masks, texts in samples:
        for name, config in settings.items():
            for i, mask in enumerate(find(clip, frame, texts, config)[0][:, 0]):
                judge(name, mask, masks[i])
                if len(texts) == 2 and config == MASK:
                    judge("the same, of the other object's phrase", mask, masks[1 - i])
        for true in masks[: len(texts)]:
            noise = minmax(mean_filter(torch.rand(1, 1, grid, grid, generator=generator), SpatialMask().kernel))
            judge("random", geometry.picture(noise[0], clip.patch)[0], true)
            judge("centre", disc, true)
    return {name: {key: torch.tensor(v) for key, v in row.items()} for name, row in found.items()}
