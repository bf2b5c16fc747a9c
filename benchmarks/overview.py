"""All techniques on one page: what a sampling step with each costs over one of the unpatched host, and its peer beside
it: core's context windows, guidance that takes a second pass (CFG, skip-layer guidance), NAG, or full attention.

Wan with random weights, small on a CPU. Sizes stand above each table; at 480x832 attention weighs more and text less,
and the pages of single techniques say what arithmetic expects there.
"""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from . import prompt_timeline, ssg_adapter, swin, video_prompt
from .overview_peers import KJ_NAG, TWO_PASSES, kj_nag, plan_adapter, skip_layers
from .swin import ROOT, Size, build, inputs, save, start, timed, timing_parser

HOST = "unpatched host"
LONG, TEXT = 4, 512  # windows in the long video; tokens of a prompt
NARROW = Size(width=128, heads=2, ffn=640, blocks=4, latent=(18, 24), dtype="float32")
WIDE = Size(width=768, heads=6, ffn=4480, blocks=4, latent=(18, 26), dtype="float32")
GPU = swin.GPU
FRAMES = {WIDE: 7, GPU: 21}


@dataclass(frozen=True)
class Side:
    """model: a MODEL; noise, text: what it samples; cfg: 1 is one pass. kind: "host", "ours" or "peer"."""

    name: str
    kind: str
    model: object
    noise: object
    text: list
    cfg: float = 1.0


@dataclass(frozen=True)
class Group:
    """Sides of one size, the host first. size: in words."""

    title: str
    size: str
    sides: list[Side]


def wan(size: Size, frames: int, text: int = TEXT) -> str:
    return (
        f"width {size.width}, {size.blocks} blocks, {frames} latent frames of {size.latent[0]}x{size.latent[1]}: "
        f"{frames * size.frame_tokens} tokens; {text} of text"
    )


def long_video(size: Size) -> Group:
    from ..patches.swin_renderer import SwinRenderer, apply

    frames = LONG * swin.WINDOW
    made, (noise, text) = swin.variants(build(size)), inputs(frames, size)
    told = apply(made["dense"], SwinRenderer(anchors="rotating", time_scale=0.0))
    sides = (
        (f"{HOST}, full attention", "host", made["dense"]),
        ("Swin Renderer, windows of 22", "ours", made["windows"]),
        ("Swin Renderer, time_scale 0, rotating anchors", "ours", told),
        ("core's context windows, 21 of overlap 7", "peer", made["context windows"]),
    )
    return Group("Long video", wan(size, frames), [Side(*side, noise, text) for side in sides])


def story(size: Size) -> Group:
    from ..harness.sampling import seeded
    from ..patches.prompt_timeline import PromptTimeline, apply

    frames = prompt_timeline.FRAMES
    model, (one, timeline) = build(size), prompt_timeline.prompts(TEXT)
    noise = seeded(1, 16, frames, *size.latent)
    return Group(
        "Four prompts over time",
        wan(size, frames, 4 * TEXT),
        [
            Side(f"{HOST}, all texts at once", "host", model, noise, timeline),
            Side("Prompt Timeline", "ours", apply(model, timeline, PromptTimeline()), noise, timeline),
            Side(f"{HOST}, one prompt", "peer", model, noise, one),
        ],
    )


def adherence(size: Size) -> Group:
    import torch

    from ..harness.sampling import seeded
    from ..harness.toy import TEXT_DIM
    from ..harness.toy_nodes import ToyCLIP
    from ..host.schedule import Interval
    from ..patches import alg, alignvid, dymos, focal_guidance, text_contrast

    frames, model = FRAMES[size], build(size, in_dim=36)
    noise = seeded(1, 16, frames, *size.latent)
    image = {"concat_latent_image": seeded(*noise.shape, seed=3), "concat_mask": torch.ones(1, 1, *noise.shape[2:])}
    text = [[seeded(1, TEXT, TEXT_DIM, seed=1), image]]
    words = {"text": " ".join(f"word{i}" for i in range(TEXT)), "keywords": ("word3", "word40", "word41", "word42")}

    def focal(**options):
        config = focal_guidance.FocalGuidance(**words, weight=3.0, **options)
        return focal_guidance.apply(model, ToyCLIP(), config)

    every = Interval()
    sides = [
        ("Text Contrast", "ours", text_contrast.apply(model, text_contrast.TextContrast())),
        ("AlignVid", "ours", alignvid.apply(model, alignvid.AlignVid(interval=every))),
        ("DyMoS", "ours", dymos.apply(model, dymos.DyMoS(interval=every))),
        ("ALG", "ours", alg.apply(model, alg.ALG(min_sigma=0.0))),
        ("Focal Guidance, 4 keywords x 3", "ours", focal()),
        ("Focal Guidance, keywords and cache 0.5", "ours", focal(cache=0.5, source_blocks="0")),
        ("core's Skip Layer Guidance, a second pass", "peer", skip_layers(model)),
    ]
    if nag := kj_nag(model, text):
        sides.append((KJ_NAG, "peer", nag))
    made = [Side(*side, noise, text) for side in sides]
    two = Side("CFG, a second pass", "peer", model, noise, text, TWO_PASSES)
    return Group("Prompt adherence", wan(size, frames), [Side(HOST, "host", model, noise, text), *made, two])


def pictures(size: Size) -> Group:
    from ..harness.sampling import seeded
    from ..harness.toy import TEXT_DIM
    from ..patches.ssg_adapter import apply
    from ..patches.ssg_guide import Guide

    frames, model = FRAMES[size], build(size)
    noise, text = seeded(1, 16, frames, *size.latent), [[seeded(1, TEXT, TEXT_DIM, seed=1), {}]]
    guide = Guide(seeded(1, ssg_adapter.IMAGE, ssg_adapter.CLIP_WIDTH, seed=2))
    twice = noise.repeat(1, 1, 2, 1, 1)
    return Group(
        "Pictures beside the prompt",
        wan(size, frames) + f"; an adapter of rank {ssg_adapter.RANK} on every block, {ssg_adapter.IMAGE} image tokens",
        [
            Side(HOST, "host", model, noise, text),
            Side("SSG Adapter", "ours", apply(model, ssg_adapter.adapter_for(size), guide), noise, text),
            Side("Plan Adapter", "ours", plan_adapter(model, size), noise, text),
            Side("the picture's frames in the sequence, as many as the video's", "peer", model, twice, text),
        ],
    )


def reference_video(size: Size, folder: Path) -> Group:
    sides, noise, text = video_prompt.sides(size, folder)
    host, ours = sides.values()
    return Group(
        "A video as the prompt",
        wan(size, video_prompt.FRAMES) + f"; an expert on {len(video_prompt.layers_of(size))} blocks",
        [
            Side(HOST, "host", host, noise, text),
            Side("Video-As-Prompt", "ours", ours, noise, text),
            Side("the reference's frames in the sequence", "peer", host, noise.repeat(1, 1, 2, 1, 1), text),
        ],
    )


def groups(cpu: bool, folder: Path) -> list:
    """What makes each group; one at a time, since each has a model of its own."""
    narrow, wide, reference = (NARROW, WIDE, video_prompt.CPU) if cpu else (GPU, GPU, video_prompt.GPU)
    made = ((long_video, narrow), (story, narrow), (adherence, wide), (pictures, wide))
    return [
        *(lambda make=make, size=size: make(size) for make, size in made),
        lambda: reference_video(reference, folder),
    ]


def measure(group: Group, rounds: int, clock) -> list[dict]:
    """For each side the median seconds of a step, and the median, least and greatest of its ratios to the host's."""
    seconds: dict[str, list[float]] = {side.name: [] for side in group.sides}
    for number in range(rounds + 1):  # side by side, so that a machine that slows down slows all; the first warms up
        for side in group.sides:
            steps = timed(side.model, side.noise, side.text, 1, clock, side.cfg)
            seconds[side.name] += steps if number else []
    host = seconds[group.sides[0].name]
    rows = []
    for side in group.sides:
        ratios = sorted(own / base for own, base in zip(seconds[side.name], host))
        spread = {"ratio": statistics.median(ratios), "least": ratios[0], "greatest": ratios[-1]}
        rows.append({"name": side.name, "kind": side.kind, "seconds": statistics.median(seconds[side.name])} | spread)
    return rows


def table(result: dict) -> str:
    lines = [
        f"# What each technique costs, on {result['device']}",
        "",
        "`python run.py bench overview`. A sampling step over one of the unpatched host: the median of "
        f"{result['rounds']} rounds side by side, and the least and greatest. Random weights; CFG 1, one pass, "
        f"unless it says otherwise; {result['clock']}; torch {result['torch']}. Peers are in italics.",
        "",
        "![ratios](overview-cpu.png)".replace("-cpu", f"-{result['label']}"),
    ]
    for group in result["groups"]:
        lines += ["", f"## {group['title']}", "", f"{group['size'][0].upper()}{group['size'][1:]}.", ""]
        lines += ["| | s per step | over the host | least .. greatest |", "| --- | ---: | ---: | ---: |"]
        for row in group["rows"]:
            name = f"*{row['name']}*" if row["kind"] == "peer" else row["name"]
            spread = "" if row["kind"] == "host" else f"{row['least']:.2f} .. {row['greatest']:.2f}"
            lines.append(f"| {name} | {row['seconds']:.3f} | {row['ratio']:.2f} | {spread} |")
    if missing := result["not there"]:
        lines += ["", f"Not measured, because it was not there: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def plot(result: dict, path: Path) -> None:
    """Ratios with their spread, one line a technique; peers in grey."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [(group["title"], row) for group in result["groups"] for row in group["rows"] if row["kind"] != "host"]
    figure, axes = pyplot.subplots(figsize=(9, 0.32 * len(rows) + 1.2))
    for y, (_, row) in enumerate(reversed(rows)):
        colour = "grey" if row["kind"] == "peer" else "tab:blue"
        axes.plot((row["least"], row["greatest"]), (y, y), color=colour, linewidth=2)
        axes.plot(row["ratio"], y, "o", color=colour)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{title}: {row['name']}" for title, row in reversed(rows)])
    axes.set_xlabel("time of a step over one of the unpatched host", loc="right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def parser():
    return timing_parser("overview", __doc__)


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    cpu = start(True, False)
    import torch

    found = []
    with TemporaryDirectory() as folder:
        for make in groups(cpu, Path(folder)):
            group = make()
            rows = measure(group, chosen.rounds, time.process_time if cpu else time.perf_counter)
            found.append({"title": group.title, "size": group.size, "rows": rows})
            print(f"{group.title}: done", flush=True)
    names = {row["name"] for group in found for row in group["rows"]}
    device = "CPU" if cpu else torch.cuda.get_device_name()
    result = {
        "device": device,
        "label": "".join(c if c.isalnum() else "-" for c in device.lower()),
        "torch": torch.__version__,
        "clock": "the processor's time" if cpu else "wall clock",
        "rounds": chosen.rounds,
        "groups": found,
        "not there": sorted({KJ_NAG} - names),
    }
    save("overview", result, table(result))
    plot(result, ROOT / "benchmarks" / "results" / f"overview-{result['label']}.png")
    return 0
