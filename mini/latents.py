"""Cached latents: scene number i of a seed, rendered and encoded once, in shards of 64 that appear whole or not at all.

The folder is named after the encoder's weights and the first scenes, so that another VAE or world never mixes in.
Captions are not stored: they are drawn anew each time.
"""

import hashlib
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from comfy.latent_formats import Wan21
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ..host.start_image import padded_start
from ..host.weights import save_weights, weights_digest
from ..miniworld.render import render
from ..miniworld.scene import Scene, sample_scene
from .vae import quick_norms

SHARD = 64
TWO_OBJECTS = 0.4  # share of scenes with two objects
FRAMES = 21
HARD_SHAPES = {"triangle": 1, "cross": 2}  # what each adds to the hardness of a scene


def scene_number(seed: int, index: int, split: str = "train") -> Scene:
    rng = Random(f"{seed}/{split}/{index}")
    return sample_scene(rng, split, 2 if rng.random() < TWO_OBJECTS else 1)


def hardness(scene: Scene) -> int:
    """What the mini DiTs get wrong more often: a second object, triangles, and crosses most."""
    return len(scene.things) + sum(HARD_SHAPES.get(thing.shape, 0) for thing in scene.things)


def encode(vae, video: Tensor) -> Tensor:
    """Latents as the DiT sees them [batch, 16, latent time, height, width], of video [batch, 3, time, height, width],
    -1..1."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), quick_norms():
        return Wan21().process_in(vae.encode(video.contiguous(memory_format=torch.channels_last_3d)).float())


def decode(vae, latents: Tensor) -> Tensor:
    """Frames [batch, time, height, width, 3], 0..1."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return (vae.decode(Wan21().process_out(latents)).float().clamp(-1, 1).movedim(1, -1) + 1) / 2


def object_cover(masks: Tensor) -> Tensor:
    """Whether an object touches a latent pixel: masks [batch, objects, time, 64, 64] -> [batch, 1, latent time, 8, 8],
    0 or 1."""
    cover = F.max_pool2d(masks.amax(1), 8)
    rest = cover[:, 1:].unflatten(1, (-1, 4)).amax(2)
    return (torch.cat((cover[:, :1], rest), 1).unsqueeze(1) > 0.1).float()


def folder_of(cache: Path, vae, seed: int) -> Path:
    """Named after the encoder's weights, in the precision they ship in, and the first scenes."""
    encoder = {key: x.half() for key, x in vae.state_dict().items() if key.startswith(("encoder.", "conv1."))}
    about = f"{[scene_number(seed, i) for i in range(8)]} {weights_digest(encoder)}"
    return cache / f"latents-{hashlib.sha256(about.encode()).hexdigest()[:8]}-{seed}"


def fill(folder: Path, vae, seed: int, scenes: int, images: int = 0, batch: int = 16) -> None:
    """Makes the shards that are missing of the first `scenes` scenes, and of the padded first frames of the first
    `images` of them."""
    wanted = [("clip", i) for i in range(-(-scenes // SHARD))] + [("image", i) for i in range(-(-images // SHARD))]
    missing = [(kind, i) for kind, i in wanted if not (folder / f"{kind}-{i:04}.safetensors").exists()]
    for kind, i in tqdm(missing, desc="latents", unit="shard", mininterval=5, disable=not missing):
        latents, cover = [], []
        for j in range(i * SHARD, (i + 1) * SHARD, batch):
            shown = render([scene_number(seed, k) for k in range(j, j + batch)], FRAMES)
            video = shown.frames.movedim(-1, 1) * 2 - 1
            latents.append(encode(vae, video if kind == "clip" else padded_start(video, 0.0, time=2)).half())
            cover.append(object_cover(shown.masks).to(torch.uint8))
        save_weights(
            {"latents": torch.cat(latents), "cover": torch.cat(cover)}, folder / f"{kind}-{i:04}.safetensors", {}
        )


class Latents:
    """The shards present in a folder; `refresh` takes in those that another process has added since."""

    def __init__(self, folder: Path, seed: int, images: bool = False):
        self.folder, self.seed, self.images = folder, seed, images
        self.shards: list[dict[str, Tensor]] = []
        self.refresh()

    def refresh(self) -> None:
        while (path := self._path("clip")).exists() and (not self.images or self._path("image").exists()):
            shard = load_file(path)
            if self.images:
                shard["image"] = load_file(self._path("image"))["latents"]
            self.shards.append(shard)

    def _path(self, kind: str) -> Path:
        return self.folder / f"{kind}-{len(self.shards):04}.safetensors"

    def __len__(self) -> int:
        return SHARD * len(self.shards)

    def batch(self, rng: Random, count: int) -> tuple[list[Scene], dict[str, Tensor]]:
        """`count` random scenes and their float32 tensors: latents, cover and, with images, image. Half of them are the
        harder of two drawn."""
        drawn = [[rng.randrange(len(self)) for _ in range(1 + i % 2)] for i in range(count)]
        picks = [max(indices, key=lambda i: hardness(scene_number(self.seed, i))) for indices in drawn]
        tensors = {
            key: torch.stack([self.shards[i // SHARD][key][i % SHARD] for i in picks]).float() for key in self.shards[0]
        }
        return [scene_number(self.seed, i) for i in picks], tensors
