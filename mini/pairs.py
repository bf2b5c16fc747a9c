"""Cached latents of (reference, target) pairs: pair number i of a seed, rendered and encoded once, in shards of 64 as
in latents.py.

Either video of a pair may serve as the target, and any video of the same motion as its reference, so that few pairs
give many.
"""

from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ..host.start_image import padded_start
from ..host.weights import save_weights
from ..miniworld.pairs import does
from ..miniworld.render import render
from ..miniworld.scene import Scene, sample_pair
from .dit import image_channels
from .latents import FRAMES, SHARD, encode, object_cover

CROSSED = 0.5  # chance that a reference is of another pair, so of another speed


def pair_number(seed: int, index: int) -> tuple[Scene, Scene]:
    return sample_pair(Random(f"{seed}/pair/{index}"), "train")


def path_of(folder: Path, shard: int) -> Path:
    return folder / f"pair-{shard:04}.safetensors"


def fill(folder: Path, vae, seed: int, pairs: int, batch: int = 16) -> None:
    """Makes the shards that are missing of the first `pairs` pairs: their videos, reference and target in turn, and
    padded first frames."""
    missing = [i for i in range(-(-pairs // SHARD)) if not path_of(folder, i).exists()]
    for i in tqdm(missing, desc="pairs", unit="shard", mininterval=5, disable=not missing):
        scenes = [scene for k in range(i * SHARD, (i + 1) * SHARD) for scene in pair_number(seed, k)]
        parts: dict[str, list[Tensor]] = {"clip": [], "image": [], "cover": []}
        for j in range(0, len(scenes), batch):
            shown = render(scenes[j : j + batch], FRAMES)
            video = shown.frames.movedim(-1, 1) * 2 - 1
            parts["clip"].append(encode(vae, video).half())
            parts["image"].append(encode(vae, padded_start(video, 0.0, time=2)).half())
            parts["cover"].append(object_cover(shown.masks).to(torch.uint8))
        save_weights({name: torch.cat(values) for name, values in parts.items()}, path_of(folder, i), {})


class Pairs:
    """The first `pairs` pairs of a filled folder."""

    def __init__(self, folder: Path, seed: int, pairs: int):
        shards = [load_file(path_of(folder, i)) for i in range(-(-pairs // SHARD))]
        self.tensors = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
        self.scenes = [scene for i in range(len(shards) * SHARD) for scene in pair_number(seed, i)]
        self.fellows: dict[tuple[str, str, str], list[int]] = {}
        for i, scene in enumerate(self.scenes):
            self.fellows.setdefault(does(scene), []).append(i)

    def __len__(self) -> int:
        return len(self.scenes) // 2

    def reference_of(self, rng: Random, target: int) -> int:
        """The other video of its pair, or one of another pair that does the same and looks as unlike."""
        a = self.scenes[target]
        if rng.random() < CROSSED:
            other = rng.choice(self.fellows[does(a)])
            b, things = self.scenes[other], (a.things[0], self.scenes[other].things[0])
            if (
                things[0].shape != things[1].shape
                and things[0].colour != things[1].colour
                and a.background != b.background
            ):
                return other
        return target ^ 1

    def batch(self, rng: Random, count: int) -> tuple[list[Scene], list[Scene], dict[str, Tensor]]:
        """`count` targets, their references, and float32 tensors: target, reference [count, 36, time, 8, 8], the
        model's whole input with a clean video (as `encode_reference` has it), and the target's cover."""
        targets = [rng.randrange(len(self.scenes)) for _ in range(count)]
        references = [self.reference_of(rng, i) for i in targets]
        tensors = {
            name: torch.cat(
                (self.tensors["clip"][picks].float(), image_channels(self.tensors["image"][picks].float())), 1
            )
            for name, picks in (("target", targets), ("reference", references))
        }
        tensors["cover"] = self.tensors["cover"][targets].float()
        return [self.scenes[i] for i in targets], [self.scenes[i] for i in references], tensors
