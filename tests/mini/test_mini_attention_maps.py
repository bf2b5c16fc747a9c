"""Attention Maps on the mini models, beside ground truth: a word of the object lies on the object."""

import comfy.sd
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor

from semantic_video.mini import clip as mini_clip
from semantic_video.mini.family import WEIGHTS
from semantic_video.mini.scores import image_conditioning, load_vae
from semantic_video.miniworld.caption import caption
from semantic_video.miniworld.render import render
from semantic_video.miniworld.scene import Scene, sample_scenes
from semantic_video.patches.attention_maps import attention_maps

AT = 0.5


def covered(mask: Tensor) -> Tensor:
    """Share of each token that the object covers [6, 4, 4], of its mask [21, 64, 64]."""
    area = functional.avg_pool2d(mask[:, None], 16)[:, 0]
    return torch.cat((area[:1], area[1:].unflatten(0, (-1, 4)).mean(1)))


def contrast(heat: Tensor, cover: Tensor) -> float:
    """Mean attention on the object over that beside it; 1 is chance."""
    return float((heat * cover).sum() / cover.sum() / ((heat * (1 - cover)).sum() / (1 - cover).sum()))


def overlap(heat: Tensor, cover: Tensor) -> tuple[float, float]:
    """IoU of the object's tokens with as many of the most attended, and what as many at random would get."""
    truth = cover.flatten() > 0.1
    count = int(truth.sum())
    best = torch.zeros_like(truth)
    best[heat.flatten().topk(count).indices] = True
    shared = count**2 / len(truth)
    return float((best & truth).sum() / (best | truth).sum()), shared / (2 * count - shared)


def conditioning(kind: str, vae, clip, scene: Scene, frames: Tensor) -> list:
    [[features, extra]] = clip.encode_from_tokens_scheduled(clip.tokenize(caption(scene)))
    return [[features, extra | (image_conditioning(vae, frames[None, 0]) if kind == "i2v" else {})]]


@pytest.mark.parametrize(("kind", "blocks"), [("t2v", "6-8"), ("i2v", "4-5")])
@torch.inference_mode()
def test_words_of_the_object_lie_on_it(kind, blocks):
    """The last blocks, chosen on other scenes (seed 71)."""
    model = comfy.sd.load_diffusion_model(str(WEIGHTS / f"mini_{kind}.safetensors"))
    vae = load_vae(WEIGHTS / "mini_vae.safetensors")
    clip = mini_clip.TextEncoder(mini_clip.load(WEIGHTS / "mini_clip.safetensors"))
    contrasts: dict[str, list[float]] = {"colour": [], "shape": [], "article": []}
    overlaps = []
    for scene in sample_scenes(8, 72, "heldout", objects=(1,)):
        clips = render([scene])
        thing, cover = scene.things[0], covered(clips.masks[0, 0])
        latent = {"samples": vae.encode(clips.frames[0])}
        positive = conditioning(kind, vae, clip, scene, clips.frames[0])
        words = [thing.colour, thing.shape, "a"]
        maps = attention_maps(model, clip, positive, caption(scene), words, latent, blocks, AT)
        assert maps.shape == (3, 6, 4, 4)
        for name, heat in zip(contrasts, maps):
            contrasts[name].append(contrast(heat, cover))
        overlaps += [overlap(heat, cover) for heat in maps[:2]]
    means = {name: sum(values) / len(values) for name, values in contrasts.items()}
    found, chance = (sum(column) / len(overlaps) for column in zip(*overlaps))
    assert min(contrasts["colour"] + contrasts["shape"]) > 1, contrasts
    assert min(means["colour"], means["shape"]) > 1.5 * max(means["article"], 1), means
    assert found > 4 * chance, (found, chance)
