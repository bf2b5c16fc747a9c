"""The golden Video-As-Prompt model, drawn from its names, and a small video of it; its fixtures are in conftest.py."""

import json
import zlib
from pathlib import Path

import comfy.sd
import numpy as np
import torch

from semantic_video.kernels.video_prompt import IMAGE, LATENT, TEXT
from semantic_video.patches.video_prompt_keys import host_key

GOLDEN = np.load(Path(__file__).resolve().parent.parent / "golden" / "vap.npz")
SEED, KEYS, CASES = int(GOLDEN["seed"]), json.loads(str(GOLDEN["keys"])), json.loads(str(GOLDEN["cases"]))
FP32 = {"dtype": torch.float32}


def drawn(name, shape):
    return torch.from_numpy(
        np.random.default_rng([SEED, zlib.crc32(name.encode())]).standard_normal(shape, dtype=np.float32)
    )


def weight(name, shape):
    n = drawn(name, shape)
    if "scale_shift_table" in name:
        return 0.3 * n
    if n.ndim == 1:
        return 1 + 0.2 * n if "norm" in name and name.endswith("weight") else 0.2 * n
    return n * 1.5 / np.sqrt(np.prod(shape[1:]))


def load_backbone(without=("_mot_ref",), options=FP32):
    return comfy.sd.load_diffusion_model_state_dict(
        {
            host_key(name): weight(name, tuple(shape))
            for name, shape in KEYS.items()
            if not any(part in name for part in without)
        },
        options,
    )


def conditioning(words, seed, reference=True, frames=3, ref_words=9):
    from semantic_video.harness.sampling import clip_vision, seeded
    from semantic_video.host.reference import carrying

    cond = [
        [
            seeded(1, words, 4096, seed=seed),
            {
                "clip_vision_output": clip_vision(penultimate_hidden_states=seeded(1, 257, 1280, seed=4)),
                "concat_latent_image": seeded(1, 16, 3, 8, 12, seed=3),
                "concat_mask": torch.ones(1, 1, 3, 8, 12),
            },
        ]
    ]
    if not reference:
        return cond
    return carrying(
        cond,
        {LATENT: seeded(1, 36, frames, 8, 12, seed=7)},
        {TEXT: seeded(1, ref_words, 4096, seed=seed + 8), IMAGE: seeded(1, 257, 1280, seed=9)},
    )


def sample(model, positive=None, negative=None, frames=3, cfg=3.0, steps=2, callback=None):
    import comfy.sample

    from semantic_video.harness.sampling import seeded

    positive, negative = positive or conditioning(7, 20), negative or conditioning(7, 21)
    noise = seeded(1, 16, frames, 8, 12, seed=1)
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        "euler",
        "simple",
        positive,
        negative,
        torch.zeros_like(noise),
        seed=1,
        disable_pbar=True,
        callback=callback,
    )
