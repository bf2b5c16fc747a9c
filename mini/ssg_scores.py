"""Held-out scores of a mini SSG Adapter, through the host's own loaders and sampler: the same two-object captions and
seeds with it and without."""

from pathlib import Path

import comfy.model_management
import comfy.sd
from tqdm import tqdm

from ..host.clip import SemVidCLIP
from ..host.frozen_model import in_training
from ..miniworld.caption import caption, parse
from ..miniworld.contact_sheet import grid
from ..miniworld.oracle import judge
from ..miniworld.scene import sample_scenes
from ..patches.ssg_adapter_file import load_adapter
from ..training.ssg_model import option_of, with_adapter
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
    at the prompted first frames of the true videos. sheet: where to save a picture of some."""
    scenes, sums = sample_scenes(count, SEED, "heldout", (2,)), {}
    with in_training(False):
        plain, vae = comfy.sd.load_diffusion_model(str(model_path)), load_vae(vae_path)
        adapter = load_adapter(adapter_path)
        adapter.model.to(comfy.model_management.get_torch_device())
        patched = with_adapter(plain, adapter.model, passes)
        for i in tqdm(range(0, count, BATCH), desc="held-out captions", mininterval=5):
            part = scenes[i : i + BATCH]
            captions = [caption(scene) for scene in part]
            patched.model_options["transformer_options"] |= option_of(prompted_features(clip, part))
            videos = {
                name: sample(model, vae, text_clip, captions, SEED + i, steps=steps, cfg=cfg)
                for name, model in (("without", plain), ("with", patched))
            }
            for name, made in videos.items():
                for text, frames in zip(captions, made):
                    scores = judge(frames, parse(text))
                    scores["motion"] = scores.get("motion", scores.get("attribute"))  # captions say one of them
                    for score in KEPT:
                        sums.setdefault(f"{score} {name}", []).append(scores[score])
            if sheet and i == 0:
                shown = [
                    (videos[name][k], f"{name}: {text}") for k, text in enumerate(captions[:12]) for name in videos
                ]
                grid(*zip(*shown), abreast=2).save(sheet)
    return {name: round(sum(values) / len(values), 3) for name, values in sorted(sums.items())} | {
        "captions": count,
        "passes": passes,
        "cfg": cfg,
    }
