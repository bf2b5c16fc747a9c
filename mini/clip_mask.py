"""CLIP Spatial Mask without ComfyUI: the mini CLIP's own towers (open_clip) and kernels/clip_mask.py, in the settings
that suit it, as mini/prompted.py has them. tests/mini holds it equal to what the node finds."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip import CLIP
from torch import Tensor

from ..kernels.clip_mask import Geometry, class_terms, merge, text_map
from .clip import preprocess, tokenize

BLOCK = -2
CONTRAST, KERNEL, FUSION, PATCHES = 5.0, 1, "product", "direct"


@torch.no_grad()
def find(model: CLIP, frames: Tensor, phrases: Sequence[str]) -> Tensor:
    """Masks [phrases, frames, height, width], 0..1, of frames [frames, height, width, 3], 0..1."""
    tower = model.visual
    size, patch = tower.image_size[0], tower.patch_size[0]
    geometry = Geometry(*frames.shape[1:3], size)
    text = F.normalize(model.encode_text(tokenize(model.vocabulary, list(phrases))), dim=-1)
    evidence, patches = joint_features(model, preprocess(geometry.square(frames).movedim(1, -1)))
    maps = [geometry.patches(text_map(features, text), patch) for features in (evidence, patches)]
    mask = merge(*maps, CONTRAST, KERNEL, FUSION, PATCHES)
    return torch.stack([geometry.picture(one, patch) for one in mask.unbind(1)])


def joint_features(model: CLIP, images: Tensor) -> tuple[Tensor, Tensor]:
    """Of images [n, 3, size, size], preprocessed: what the class token takes from each patch in BLOCK, and each patch
    after it, both [n, patches, dim] in the joint space without the last LayerNorm's per-image constants."""
    tower = model.visual
    blocks = tower.transformer.resblocks
    last = BLOCK % len(blocks)
    x = tower._embeds(images)
    for block in blocks[:last]:
        x = block(x)
    block, attention = blocks[last], blocks[last].attn
    q, k, v = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    terms = F.linear(class_terms(q, k, v, attention.num_heads), attention.out_proj.weight)
    return tuple((features * tower.ln_post.weight) @ tower.proj for features in (terms, block(x)[:, 1:]))
