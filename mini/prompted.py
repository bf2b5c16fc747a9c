"""Cached videos with prompted images: what the mini CLIP sees in each scene's first frame after CLIP Spatial Mask and
Visual Prompt, by the very functions that these nodes run, as fp16 features beside the latents of latents.py. The files
are named after the CLIP's weights."""

import hashlib
from pathlib import Path
from random import Random

import comfy.utils
import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ..host.clip import SemVidCLIP
from ..host.weights import save_weights, weights_digest
from ..kernels.visual_prompt import paint
from ..miniworld.caption import object_captions
from ..miniworld.render import render
from ..miniworld.scene import Scene
from ..patches.clip_mask import SpatialMask, encode, find
from .latents import SHARD, Latents, scene_number

TWO_OBJECTS = 0.8  # share of training videos with two: where an object is, is said best by a picture of both
# the mini CLIP's patches speak of their own place; best on training scenes
MASK = SpatialMask(kernel=1, fusion="product", patches="direct")
STYLE, STRENGTH, FEATHER = "darken", 0.5, 4.0  # half: what CLIP missed is still seen. feather: Visual Prompt's default


@torch.no_grad()
def prompted_features(clip: SemVidCLIP, scenes: list[Scene]) -> Tensor:
    """Features [n, 65, 128] of the scenes' first frames, in which their objects' phrases are found and the rest is
    darkened. Every phrase is looked for once, in all frames that have it."""
    frames = render(scenes, 1).frames[:, 0]
    mask = torch.zeros(frames.shape[:3])
    phrases: dict[str, list[int]] = {}
    for i, scene in enumerate(scenes):
        for phrase in object_captions(scene):
            phrases.setdefault(phrase, []).append(i)
    for phrase, rows in phrases.items():
        mask[rows] = torch.maximum(mask[rows], find(clip, frames[rows], [phrase], MASK)[0][0])
    return encode(clip, paint(frames, mask, STYLE, STRENGTH, FEATHER)).penultimate_hidden_states.cpu()


def name_of(clip_path: Path) -> str:
    """First letters of the digest of a CLIP's weights and of how images are prompted."""
    about = f"{MASK} {STYLE} {STRENGTH} {FEATHER} {weights_digest(load_file(clip_path))}"
    return hashlib.sha256(about.encode()).hexdigest()[:8]


def path_of(folder: Path, name: str, shard: int) -> Path:
    return folder / f"prompt-{name}-{shard:04}.safetensors"


def fill(folder: Path, clip: SemVidCLIP, name: str, seed: int, shards: int, together: int = 8) -> None:
    """Makes the files that are missing of the first `shards` shards of scenes, `together` at a time, since a phrase is
    then found in more frames at once."""
    comfy.utils.PROGRESS_BAR_ENABLED = False
    missing = [i for i in range(shards) if not path_of(folder, name, i).exists()]
    bar = tqdm(total=len(missing), desc="prompted images", unit="shard", mininterval=5, disable=not missing)
    for first in range(0, len(missing), together):
        some = missing[first : first + together]
        features = prompted_features(
            clip, [scene_number(seed, k) for i in some for k in range(i * SHARD, (i + 1) * SHARD)]
        ).half()
        for i, part in zip(some, features.split(SHARD)):
            save_weights({"features": part}, path_of(folder, name, i), {})
            bar.update(1)
    bar.close()


class Prompted:
    """The first `shards` shards of a folder that `fill` and the one of latents.py have filled."""

    def __init__(self, folder: Path, name: str, seed: int, shards: int):
        latents = Latents(folder, seed).shards[:shards]
        self.tensors = {key: torch.cat([shard[key] for shard in latents]) for key in latents[0]}
        self.tensors["features"] = torch.cat([load_file(path_of(folder, name, i))["features"] for i in range(shards)])
        self.scenes = [scene_number(seed, i) for i in range(shards * SHARD)]
        self.by_objects = {
            count: [i for i, scene in enumerate(self.scenes) if len(scene.things) == count] for count in (1, 2)
        }

    def batch(self, rng: Random, count: int) -> tuple[list[Scene], dict[str, Tensor]]:
        """`count` random scenes and their float32 latents, cover and features."""
        picks = [rng.choice(self.by_objects[2 if rng.random() < TWO_OBJECTS else 1]) for _ in range(count)]
        return [self.scenes[i] for i in picks], {key: value[picks].float() for key, value in self.tensors.items()}
