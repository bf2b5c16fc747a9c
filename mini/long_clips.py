"""Cached long videos, four times the mini models' own length: latents, and what the mini CLIP sees of a few of their
frames, for the Semantic Planner and the Plan Adapter. In shards of 64 as in latents.py; scenes have one object.

The features of a token frame are those of the video frame in its middle; 2 x 2 neighbouring patches make one token of
four times the channels, as Qwen2.5-VL's merger has it.
"""

import hashlib
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ..host.weights import save_weights, weights_digest
from ..miniworld.render import render
from ..miniworld.scene import Scene, sample_scene
from ..patches.clip_mask import encode as encode_image
from .latents import SHARD, encode, object_cover

FRAMES, TOKEN_FRAMES = 93, 12
MERGE = 2  # patches along a side that make one token


def scene_number(seed: int, index: int) -> Scene:
    return sample_scene(Random(f"{seed}/long/{index}"), "train", 1)


def middles(frames: int, count: int) -> list[int]:
    """The video frames in the middle of each of `count` equal parts of a video."""
    return [int((i + 0.5) * frames / count) for i in range(count)]


def merged(features: Tensor, rows: int) -> Tensor:
    """Patches [n, rows * columns, width] as [n, rows / 2, columns / 2, 4 * width]."""
    grid = features.unflatten(1, (rows, -1)).unflatten(2, (-1, MERGE)).unflatten(1, (-1, MERGE))
    return grid.permute(0, 1, 3, 2, 4, 5).flatten(3)


@torch.no_grad()
def features_of(clip, video: Tensor, count: int = TOKEN_FRAMES) -> Tensor:
    """[count, 4, 4, 512] of frames [time, 64, 64, 3], 0..1."""
    seen = encode_image(clip, video[middles(len(video), count)]).penultimate_hidden_states[:, 1:]
    return merged(seen, clip.size // clip.patch).cpu()


def name_of(clip_path: Path, vae) -> str:
    about = f"{FRAMES} {TOKEN_FRAMES} {MERGE} {weights_digest(load_file(clip_path))}"
    return hashlib.sha256(f"{about} {weights_digest(vae.state_dict())}".encode()).hexdigest()[:8]


def path_of(folder: Path, kind: str, shard: int) -> Path:
    return folder / f"{kind}-{shard:04}.safetensors"


def fill(folder: Path, vae, clip, seed: int, scenes: int, videos: int, batch: int = 8) -> None:
    """Makes the shards that are missing: features of the first `scenes` scenes, latents of the first `videos`."""
    wanted = [("latents", i) for i in range(-(-videos // SHARD))] + [
        ("features", i) for i in range(-(-scenes // SHARD))
    ]
    missing = [(kind, i) for kind, i in wanted if not path_of(folder, kind, i).exists()]
    for kind, i in tqdm(missing, desc="long videos", unit="shard", mininterval=5, disable=not missing):
        parts: dict[str, list[Tensor]] = {}
        for j in range(i * SHARD, (i + 1) * SHARD, batch):
            shown = render([scene_number(seed, k) for k in range(j, j + batch)], FRAMES)
            if kind == "latents":
                made = {
                    "latents": encode(vae, shown.frames.movedim(-1, 1) * 2 - 1).half(),
                    "cover": object_cover(shown.masks).to(torch.uint8),
                }
            else:
                made = {"features": torch.stack([features_of(clip, video) for video in shown.frames]).half()}
            for name, value in made.items():
                parts.setdefault(name, []).append(value)
        save_weights({name: torch.cat(values) for name, values in parts.items()}, path_of(folder, kind, i), {})


class LongClips:
    """The first `scenes` scenes of a filled folder. videos: how many of them have latents."""

    def __init__(self, folder: Path, seed: int, scenes: int, videos: int):
        self.features = torch.cat(
            [load_file(path_of(folder, "features", i))["features"] for i in range(-(-scenes // SHARD))]
        )
        shards = [load_file(path_of(folder, "latents", i)) for i in range(-(-videos // SHARD))]
        self.latents, self.cover = (
            torch.cat([s[name] for s in shards]) if shards else None for name in ("latents", "cover")
        )
        self.scenes = [scene_number(seed, i) for i in range(len(self.features))]
