"""How the mini Plan Adapter tells long stories: MiniWorld's oracle on videos of four times the mini models' length, in
windows alone, with the plan of the true video, and with the mini planner's. Same captions and seeds."""

from collections.abc import Callable
from pathlib import Path

import comfy.model_management
import comfy.sample
import torch
from torch import Tensor

from ..host.clip_loading import load_clip
from ..host.frozen_model import in_training
from ..kernels.plan_adapter import PlanAdapter
from ..miniworld.caption import caption, parse
from ..miniworld.guards import dynamic_degree, loop_score, seam_strength
from ..miniworld.oracle import judge
from ..miniworld.render import render
from ..miniworld.scene import Scene, sample_scenes
from ..patches.plan_file import load_compressor
from ..patches.plan_weights import load_plan_adapter, load_planner
from ..patches.planner import PlanRequest
from ..patches.planner import sample as sample_plan
from ..training.plan_adapter import PLANS, pooled, with_adapter
from . import clip as mini_clip
from .long_clips import FRAMES, features_of
from .plan_adapter import GRID, WINDOW, model_in_windows, patches
from .planner import FPS
from .scores import CFG, STEPS, load_vae

SEED, BATCH = 83, 4
LATENTS = (FRAMES + 3) // 4


def video_of(model, vae, text_clip, captions: list[str], seed: int, plans: Tensor | None = None) -> Tensor:
    """Videos [n, 93, 64, 64, 3] of n captions, sampled together; plans: one of each, for a model `with_adapter`."""
    model = model.clone()
    if plans is not None:
        model.model_options["transformer_options"][PLANS] = plans
    shape = (len(captions), 16, LATENTS, 8, 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    positive, negative = ([[mini_clip.encode_text(text_clip, t), {}]] for t in (captions, [""] * len(captions)))
    latents = comfy.sample.sample(
        model,
        noise,
        STEPS,
        CFG,
        "euler",
        "simple",
        positive,
        negative,
        torch.zeros(shape),
        seed=seed,
        disable_pbar=True,
    )
    return torch.cat([vae.decode(latent[None]) for latent in latents]).reshape(len(captions), FRAMES, 64, 64, 3).float()


def scores_of(scene: Scene, frames: Tensor) -> dict[str, float]:
    """story: motion or attribute as said; seam at the borders of unshifted windows, to be summed up by medians."""
    found = judge(frames, parse(caption(scene)))
    borders = [4 * i - 3 for i in range(WINDOW, LATENTS, WINDOW)]
    return {
        "story": found.get("motion", found.get("attribute", 0.0)),
        "object": found["object"],
        "background": found["background"],
        "seam": seam_strength(frames, borders),
        "loop": loop_score(frames),
        "dynamic": dynamic_degree(frames),
    }


def plans_from_truth(out: Path, scenes: list[Scene]) -> Tensor:
    clip, (compressor, _) = (
        load_clip(out / "mini_clip.safetensors"),
        load_compressor(out / "mini_compressor.safetensors"),
    )
    features = torch.stack([features_of(clip, video) for video in render(scenes, FRAMES).frames])
    return pooled(compressor.model(patches(features))[0], GRID)


def plans_from_text(out: Path, text_clip, scenes: list[Scene], seed: int) -> Tensor:
    planner = load_planner(out / "mini_planner.safetensors", torch.float32)
    empty = [[mini_clip.encode_text(text_clip, [""]), {}]]
    plans = []
    for i, scene in enumerate(scenes):
        text = [[mini_clip.encode_text(text_clip, [caption(scene)]), {}]]
        plans.append(
            sample_plan(planner, text, empty, PlanRequest(FRAMES / FPS, steps=20, cfg=CFG, seed=seed + i)).tokens
        )
    return torch.stack(plans)


VARIANTS = ("windows", "plan of the truth", "planner's plan")


def held_out_scores(
    out: Path, count: int = 16, strength: float = 1.0, say: Callable[[str], None] = print, variants=VARIANTS
) -> dict:
    """{variant: mean scores, the seam's median} on held-out captions of one object. Variants whose weights are missing
    are left out."""
    scenes = sample_scenes(count, SEED, "heldout", (1,))
    found: dict[str, list[dict[str, float]]] = {"truth": []}
    with in_training(False):
        text_clip, vae = mini_clip.load(out / "mini_clip.safetensors"), load_vae(out / "mini_vae.safetensors")
        windows = model_in_windows(out / "mini_t2v.safetensors")
        adapter: PlanAdapter = load_plan_adapter(out / "mini_plan_adapter.safetensors", torch.float32).model
        adapter.to(comfy.model_management.get_torch_device())
        planned = with_adapter(windows, adapter, strength)
        plans = {"windows": None, "plan of the truth": plans_from_truth(out, scenes)}
        if (out / "mini_planner.safetensors").exists():
            plans["planner's plan"] = plans_from_text(out, text_clip, scenes, SEED)
        plans = {name: plan for name, plan in plans.items() if name in variants}
        for i in range(0, count, BATCH):
            part = scenes[i : i + BATCH]
            videos = {"truth": render(part, FRAMES).frames}
            for name, all_plans in plans.items():
                own = None if all_plans is None else all_plans[i : i + BATCH]
                model = windows if own is None else planned
                videos[name] = video_of(model, vae, text_clip, [caption(s) for s in part], SEED + i, own)
            for name, frames in videos.items():
                found.setdefault(name, []).extend(map(scores_of, part, frames))
            say(f"{i + len(part)}: {summed(found)}")
    return summed(found)


def summed(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    def of(name: str, values: list[float]) -> float:
        return float(torch.tensor(values).median()) if name == "seam" else sum(values) / len(values)

    return {
        variant: {name: round(of(name, [s[name] for s in scores]), 3) for name in scores[0]}
        for variant, scores in found.items()
    }
