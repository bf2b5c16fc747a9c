"""Held-out scores of an expert, through the host's own loaders and sampler: the same targets, seeds and captions with
it and without."""

from pathlib import Path

import comfy.sd
import torch
from torch import Tensor
from tqdm import tqdm

from ..host.frozen_model import in_training
from ..host.reference import encode_reference
from ..miniworld.caption import caption
from ..miniworld.contact_sheet import grid
from ..miniworld.pairs import held_out_pairs, pair_scores
from ..miniworld.render import render
from ..patches.video_prompt import VideoPrompt, apply
from ..patches.video_prompt_expert import load_expert
from .scores import BATCH, CFG, FRAMES, STEPS, load_vae, sample

SEED = 78


def held_out_scores(
    backbone: Path,
    expert: Path,
    vae_path: Path,
    clip,
    count: int = 200,
    steps: int = STEPS,
    cfg: float = CFG,
    sheet: Path | None = None,
) -> dict[str, float]:
    """Mean `pair_scores` of `count` held-out pairs whose targets' captions do not say the motion: "without" the expert,
    "with" it, and "seen", with it and references whose captions do not say it either. sheet: where to save a picture of
    references and what followed them."""
    sums: dict[str, list[float]] = {}
    with in_training(False):
        plain, vae = comfy.sd.load_diffusion_model(str(backbone)), load_vae(vae_path)
        with_expert = apply(plain, load_expert(expert), VideoPrompt())
        pairs = held_out_pairs(count, SEED)
        for i in tqdm(range(0, count, BATCH), desc="held-out pairs", mininterval=5):
            references, targets = zip(*pairs[i : i + BATCH])
            shown, first = render(references, FRAMES).frames, render(targets, FRAMES).frames[:, 0]
            latents = torch.cat([encode_reference(vae, video, 64, 64) for video in shown])
            asked = [caption(scene, motion=False) for scene in targets]
            made: dict[str, Tensor] = {}
            for name, model, motion in (
                ("without", plain, True),
                ("with", with_expert, True),
                ("seen", with_expert, False),
            ):
                given = latents, [caption(scene, motion=motion) for scene in references]
                made[name] = sample(model, vae, clip, asked, SEED + i, first, steps, cfg, given)
                for frames, target, reference in zip(made[name], targets, references):
                    for score, value in pair_scores(frames, target, reference).items():
                        sums.setdefault(f"{score} {name}", []).append(value)
            if sheet and i == 0:
                rows = [video for row in zip(shown, made["without"], made["seen"]) for video in row]
                grid(
                    rows[:36],
                    [
                        text
                        for scene, ask in zip(references, asked)
                        for text in (caption(scene), f"without: {ask}", f"with: {ask}")
                    ][:36],
                    abreast=3,
                ).save(sheet)
    kept = ("transfer", "object", "first frame", "dynamic degree")
    return {
        name: round(sum(values) / len(values), 3) for name, values in sums.items() if name.rsplit(" ", 1)[0] in kept
    } | {"captions": count}
