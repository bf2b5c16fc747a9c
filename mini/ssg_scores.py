"""Held-out scores of a mini SSG Adapter, through the host's own loaders and sampler: the same two-object captions and
seeds with it and without."""

from pathlib import Path

import comfy.model_management
import comfy.sd
import torch
from tqdm import tqdm

from ..host.clip import SemVidCLIP
from ..miniworld.caption import caption, parse
from ..miniworld.contact_sheet import grid
from ..miniworld.oracle import judge
from ..miniworld.scene import sample_scenes
from ..patches.ssg_adapter_file import load_adapter
from ..training.ssg_adapter import option_of, with_adapter
from .prompted import prompted_features
from .scores import BATCH, CFG, STEPS, load_vae, sample

SEED = 79
KEPT = ("relation", "object", "motion", "background")


def held_out_scores(
    model_path: Path,
    adapter_path: Path,
    vae_path: Path,
    text_clip,
    clip: SemVidCLIP,
    count: int = 200,
    passes: str = "both",
    steps: int = STEPS,
    cfg: float = CFG,
    sheet: Path | None = None,
) -> dict[str, float]:
    """The oracle's mean scores on `count` held-out captions of two objects, "without" the adapter and "with" it looking
    at the prompted first frames of the true clips. sheet: where to save a picture of some."""
    training, comfy.model_management.in_training = comfy.model_management.in_training, False
    scenes, sums = sample_scenes(count, SEED, "heldout", (2,)), {}
    with torch.inference_mode():
        plain, vae, adapter = (
            comfy.sd.load_diffusion_model(str(model_path)),
            load_vae(vae_path),
            load_adapter(adapter_path),
        )
        adapter.model.to(comfy.model_management.get_torch_device())
        following = with_adapter(plain, adapter.model, passes)
        for i in tqdm(range(0, count, BATCH), desc="held-out captions", mininterval=5):
            part = scenes[i : i + BATCH]
            captions = [caption(scene) for scene in part]
            following.model_options["transformer_options"] |= option_of(prompted_features(clip, part))
            clips = {
                name: sample(model, vae, text_clip, captions, SEED + i, steps=steps, cfg=cfg)
                for name, model in (("without", plain), ("with", following))
            }
            for name, made in clips.items():
                for text, frames in zip(captions, made):
                    scores = judge(frames, parse(text))
                    scores["motion"] = scores.get("motion", scores.get("attribute"))  # captions say one of them
                    for score in KEPT:
                        sums.setdefault(f"{score} {name}", []).append(scores[score])
            if sheet and i == 0:
                shown = [(clips[name][k], f"{name}: {text}") for k, text in enumerate(captions[:12]) for name in clips]
                grid(*zip(*shown), abreast=2).save(sheet)
    comfy.model_management.in_training = training
    return {name: round(sum(values) / len(values), 3) for name, values in sorted(sums.items())} | {
        "captions": count,
        "passes": passes,
        "cfg": cfg,
    }
