"""Attention maps of chosen keys: where video tokens look at a word, averaged over heads, in bounded memory.

    A_p(w) = mean_h  exp(q_hp . k_hw / sqrt(d)) / sum_j exp(q_hp . k_hj / sqrt(d))

The softmax runs over all keys, as in the model: padding takes its part, and in joint attention so does the video. One
head and a chunk of queries at a time, so that neither an L x L map nor the L x text map of all heads is ever held: at
most `budget` fp32 logits, one head's keys in fp32, and the result.
"""

import torch
from torch import Tensor

from .wording import counted

BUDGET = 2**24  # logits at once: 64 MiB


def text_map(q: Tensor, k: Tensor, columns: list[int], mask: Tensor | None = None, budget: int = BUDGET) -> Tensor:
    """q: [batch, queries, heads, dim]; k: [batch, keys, heads, dim]; columns: the keys that are looked at.

    mask: None or additive / boolean [batch | 1, heads | 1, queries | 1, keys]. Returns [batch, queries, columns] in
    fp32, rows at most 1.
    """
    batch, queries, heads, dim = q.shape
    keys = k.shape[1]
    chunk = max(budget // keys, 1)
    out = q.new_zeros(batch, queries, len(columns), dtype=torch.float32)
    for row in range(batch):
        for head in range(heads):
            key = (k[row, :, head].float() * dim**-0.5).T
            for start in range(0, queries, chunk):
                part = slice(start, min(start + chunk, queries))
                logits = q[row, part, head].float() @ key
                add_mask(logits, mask, row, head, part)
                logits.sub_(logits.amax(-1, keepdim=True)).exp_()
                out[row, part] += logits[:, columns] / logits.sum(-1, keepdim=True)
    return out.div_(heads)


def add_mask(logits: Tensor, mask: Tensor | None, row: int, head: int, part: slice) -> None:
    """In place, the part of a four-axis mask that belongs to these logits [queries, keys]."""
    if mask is None:
        return
    own = mask[row if len(mask) > 1 else 0, head if mask.shape[1] > 1 else 0]
    own = own[part] if len(own) > 1 else own
    if own.dtype == torch.bool:
        logits.masked_fill_(~own, -torch.inf)
    else:
        logits.add_(own)


def word_maps(columns: Tensor, words: list[list[int]]) -> Tensor:
    """Maps of words [..., words, queries] from maps of single tokens [..., queries, tokens]: a word's tokens, by
    index, are added up.
    """
    return torch.stack([columns[..., tokens].sum(-1) for tokens in words], dim=-2)


def normalised(maps: Tensor) -> Tensor:
    """Maps [frames, rows, columns] to 0..1 over the whole video, so that frames compare. A constant map becomes 0."""
    low, high = maps.amin(), maps.amax()
    return (maps - low) / (high - low) if high > low else torch.zeros_like(maps)


def spread_frames(maps: Tensor, frames: int, firsts: list[int]) -> Tensor:
    """One map per latent frame -> one per video frame. firsts: the first video frame of each latent frame, then the
    number of video frames, by the rhythm of the model's VAE. Raises ValueError for other counts of `frames`."""
    if frames == len(maps):
        return maps
    if frames != firsts[-1]:
        raise ValueError(
            f"{counted(frames, 'video frame')} for {counted(len(maps), 'latent frame')}; these make {firsts[-1]}"
        )
    return maps.repeat_interleave(torch.tensor(firsts).diff(), dim=0)
