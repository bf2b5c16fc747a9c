"""Held-out scores of the mini DiTs, through the host's own loader, sampler (KSampler's euler / simple, its default
shift) and VAE."""

from pathlib import Path

import comfy.sample
import comfy.sd
import comfy.utils
import torch
from torch import Tensor

from ..host.frozen_model import in_training
from ..host.reference import carrying
from ..host.start_image import given_mask, padded_start
from ..kernels.video_prompt import LATENT, TEXT
from ..miniworld.caption import caption, parse
from ..miniworld.contact_sheet import grid
from ..miniworld.oracle import judge
from ..miniworld.render import render
from ..miniworld.scene import Scene, sample_scenes
from .clip import encode_text

STEPS, CFG, BATCH = 20, 4.0, 25
FRAMES = 21


def load_vae(path: Path):
    """As VAELoader does."""
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(path)))


def image_conditioning(vae, first: Tensor) -> dict[str, Tensor]:
    """What WanImageToVideo attaches, for a batch of first frames [n, 64, 64, 3], 0..1."""
    padded = padded_start(first[:, None].expand(-1, FRAMES, -1, -1, -1), time=1)
    image = torch.cat([vae.encode(video) for video in padded])
    return {"concat_latent_image": image, "concat_mask": 1 - given_mask(image[:1], 1)}


def sample(
    model,
    vae,
    clip,
    captions: list[str],
    seed: int = 0,
    first: Tensor | None = None,
    steps: int = STEPS,
    cfg: float = CFG,
    references: tuple[Tensor, list[str]] | None = None,
) -> Tensor:
    """Videos [n, 21, 64, 64, 3], 0..1, of n captions, sampled together. references: latents [n, 36, 6, 8, 8] and
    captions, as VAP Reference attaches."""
    extra = {} if first is None else image_conditioning(vae, first)
    shape = (len(captions), 16, (FRAMES + 3) // 4, 8, 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    positive, negative = ([[encode_text(clip, texts), dict(extra)]] for texts in (captions, [""] * len(captions)))
    if references:
        positive, negative = (
            carrying(cond, {LATENT: references[0]}, {TEXT: encode_text(clip, texts)})
            for cond, texts in ((positive, references[1]), (negative, [""] * len(captions)))
        )
    latents = comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        "euler",
        "simple",
        positive,
        negative,
        torch.zeros(shape),
        seed=seed,
        disable_pbar=True,
    )
    return torch.cat([vae.decode(latent[None]) for latent in latents]).reshape(len(captions), FRAMES, 64, 64, 3).float()


def held_out_scores(
    model_path: Path,
    vae_path: Path,
    clip,
    count: int = 200,
    seed: int = 77,
    steps: int = STEPS,
    cfg: float = CFG,
    sheet: Path | None = None,
) -> dict[str, float]:
    """The oracle's mean scores on `count` held-out captions in plain words, one and two objects in turn. A model with
    image channels is given the true first frame, and is also scored on keeping it (PSNR in dB). sheet: where to save a
    picture of the first videos."""
    scenes = sample_scenes(count, seed, "heldout")
    sums: dict[str, list[float]] = {}
    with in_training(False):
        model, vae = comfy.sd.load_diffusion_model(str(model_path)), load_vae(vae_path)
        image = model.model.diffusion_model.patch_embedding.weight.shape[1] > 16
        for i in range(0, count, BATCH):
            part = scenes[i : i + BATCH]
            first = render(part, FRAMES).frames[:, 0] if image else None
            captions = [caption(s) for s in part]
            videos = sample(model, vae, clip, captions, seed + i, first, steps, cfg)
            if sheet and i == 0:
                grid(list(videos[:16]), captions[:16], abreast=2).save(sheet)
            for k, (scene, frames) in enumerate(zip(part, videos)):
                for name, value in _scores(scene, frames).items():
                    sums.setdefault(name, []).append(value)
                if image:
                    sums.setdefault("first_frame_psnr_db", []).append(
                        float(-10 * (frames[0] - first[k]).square().mean().log10())
                    )
    return {name: round(sum(values) / len(values), 3) for name, values in sorted(sums.items())} | {
        "captions": count,
        "steps": steps,
        "cfg": cfg,
    }


def _scores(scene: Scene, frames: Tensor) -> dict[str, float]:
    """The oracle's, and the two kinds of motion together."""
    scores = judge(frames, parse(caption(scene)))
    return scores | {"motion_or_attribute": scores.get("motion", scores.get("attribute", 0.0))}
