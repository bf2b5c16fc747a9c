"""The loss of an SSG Adapter in training: flow matching beside the frozen model (flow_matching.py), with text, prompted
image or both left out of some videos, as in IP-Adapter (arXiv 2308.06721)."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from . import flow_matching
from .ssg_model import option_of

TEXT_DROPOUT, IMAGE_DROPOUT, BOTH_DROPOUT = 0.05, 0.05, 0.05  # IP-Adapter's


@dataclass(frozen=True)
class Batch:
    """latents, conds, cover: as in flow_matching.Batch; silent: conds of each video with the empty text; features: CLIP
    features of its prompted image [n, tokens, clip_width]."""

    latents: Tensor
    conds: list[dict]
    silent: list[dict]
    features: Tensor
    cover: Tensor | None = None


Draw = Callable[[Random], Batch]


def losses(
    model, draw: Draw, rng: Random, dtype: torch.dtype | None = torch.bfloat16, dropout: bool = True
) -> dict[str, Tensor]:
    """ "loss" of one batch and, where objects are known, "objects". model: of `with_adapter`; dtype: of autocast, None
    for none; dropout: whether texts and images are left out."""
    batch = draw(rng)
    seed = rng.getrandbits(60)
    conds, features = left_out(batch, rng) if dropout else (batch.conds, batch.features)
    sample = flow_matching.Batch(batch.latents, conds, batch.cover, option_of(features))
    return flow_matching.losses(model, sample, seed, dtype)


def left_out(batch: Batch, rng: Random) -> tuple[list[dict], Tensor]:
    """Conds and features of a batch, some texts empty and some images zero."""
    conds, features = list(batch.conds), batch.features.clone()
    for i in range(len(conds)):
        u = rng.random()
        if u < TEXT_DROPOUT + BOTH_DROPOUT:
            conds[i] = batch.silent[i]
        if TEXT_DROPOUT <= u < TEXT_DROPOUT + BOTH_DROPOUT + IMAGE_DROPOUT:
            features[i] = 0
    return conds, features
