"""From frames and text to masks: one CLIP forward per frame, whatever the number of phrases."""

from dataclasses import dataclass

import comfy.utils
import torch
from torch import Tensor

from ..host.clip import SemVidCLIP, vision_output
from ..kernels.clip_mask import (
    Fit,
    Fusion,
    Geometry,
    Patches,
    class_terms,
    heat_map,
    merge,
    smooth_over_time,
    text_map,
)

BATCH = 16  # frames in one forward


@dataclass(frozen=True)
class SpatialMask:
    """class_block, patch_block: from 0, or from the end as -1; smoothing: over time, in frames. The rest as in
    kernels/clip_mask.py."""

    class_block: int = -2
    patch_block: int = -2
    contrast: float = 5.0
    kernel: int = 3
    fusion: Fusion = "soft or"
    fit: Fit = "squash"
    smoothing: float = 0.0
    patches: Patches = "negated"

    def blocks(self, count: int) -> tuple[int, int]:
        """Both indices counted from 0. Raises ValueError outside a tower of `count` blocks."""
        for name, block in (("class_block", self.class_block), ("patch_block", self.patch_block)):
            if not -count <= block < count:
                raise ValueError(
                    f"{name} {block}: this CLIP has {count} blocks. Use 0 to {count - 1}, or -1 (the last) to -{count}."
                )
        return self.class_block % count, self.patch_block % count


def phrases_of(text: str) -> list[str]:
    """The non-empty lines of `text`. Raises ValueError if there are none."""
    phrases = [line.strip() for line in text.splitlines() if line.strip()]
    if not phrases:
        raise ValueError("text: is empty. Write what to look for, one phrase per line, such as 'a red ball'.")
    return phrases


def find(clip: SemVidCLIP, frames: Tensor, phrases: list[str], config: SpatialMask) -> tuple[Tensor, Tensor]:
    """Masks [phrases, frames, height, width], 0..1, and scores [phrases, frames]: cosine of image and phrase.

    frames: [frames, height, width, 3], 0..1. A phrase longer than CLIP's context is read in parts; its mask is their
    maximum, its score their mean.
    """
    class_block, patch_block = config.blocks(clip.blocks)
    clip.load()
    texts = [clip.encode_text(phrase) for phrase in phrases]
    parts, text = [len(t) for t in texts], torch.cat(texts)
    geometry = Geometry(*frames.shape[1:3], clip.size, config.fit)
    progress = comfy.utils.ProgressBar(len(frames))
    masks, scores = [], []
    for some in frames.split(BATCH):
        evidence, patches, embedding = clip.class_and_patch_features(
            geometry.square(some), class_block, patch_block, class_terms
        )
        raw = [geometry.patches(text_map(features, text), clip.patch) for features in (evidence, patches)]
        masks.append(merge(*raw, config.contrast, config.kernel, config.fusion, config.patches).to(frames.device))
        scores.append((embedding @ text.T).to(frames.device))
        progress.update(len(some))
    small, scores = (
        smooth_over_time(torch.cat(masks), config.smoothing).split(parts, dim=1),
        torch.cat(scores).split(parts, dim=1),
    )
    small = torch.stack([mask.amax(1) for mask in small])
    return torch.stack([geometry.picture(mask, clip.patch) for mask in small]), torch.stack(
        [score.mean(1) for score in scores]
    )


def preview(frames: Tensor, masks: Tensor) -> Tensor:
    """[frames, height, width, 3]: the union of the masks over the frames."""
    return heat_map(frames, masks.amax(0))


def encode(clip: SemVidCLIP, frames: Tensor):
    """CLIP_VISION_OUTPUT of frames [n, height, width, 3], 0..1, squashed to CLIP's square, so that its patches divide
    the whole picture."""
    clip.load()
    geometry = Geometry(*frames.shape[1:3], clip.size)
    progress = comfy.utils.ProgressBar(len(frames))
    parts = []
    for some in frames.split(BATCH):
        parts.append(clip.encode_image(geometry.square(some)))
        progress.update(len(some))
    return vision_output({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, clip.size)
