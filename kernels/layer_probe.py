"""Which blocks of a video DiT hear the text: how patches respond to a word, and what hangs on one block's text.

    r_p = sum_h q_hp . (k_hw - mean_j k_hj) / (H sqrt(d))                    response of patch p to word w
    I   = (N / S0) sum_pq w_pq z_p z_q / sum_p z_p^2,  z = r - mean(r)       Moran's I: blob 1, noise 0, checkerboard -1
    c_l = |v_l - v| / |v|                                                    v_l: block l alone hears the empty prompt

Moran's I (Moran 1950) and the deviation of the response are the diagnosis of Focal Guidance (arXiv 2601.07287), whose
own response, weights and ranking rule are not published: those here are our choice. So is c, the relative change of
the predicted velocity, which says what the diagnosis can only suggest.
"""

import torch
from torch import Tensor


def text_response(q: Tensor, k: Tensor, words: list[int], chosen: slice = slice(None)) -> Tensor:
    """Head-mean logits of patches against words, each against the mean of `words`: what all share is no response to
    any.

    q: [batch, patches, heads, dim]; k: [batch, keys, heads, dim]. Returns [batch, chosen words, patches] in fp32.
    """
    heads, dim = q.shape[2:]
    keys = k[:, words].flatten(2).float()
    keys = (keys[:, chosen] - keys.mean(1, keepdim=True)) / (heads * dim**0.5)
    return keys @ q.flatten(2).float().transpose(1, 2)


def coherence(
    q: Tensor, k: Tensor, words: list[int], grid: tuple[int, int, int], chunk: int = 16
) -> tuple[float, float]:
    """Mean Moran's I and mean deviation of the response, over batch, words and frames; q on a grid (frames, rows,
    columns).

    `chunk` words at a time: at most so many fp32 numbers for each patch.
    """
    moran = std = 0.0
    for start in range(0, len(words), chunk):
        maps = text_response(q, k, words, slice(start, start + chunk)).unflatten(2, grid)
        moran += float(morans_i(maps).mean((0, 2)).sum())
        std += float(deviation(maps).mean((0, 2)).sum())
    return moran / len(words), std / len(words)


def morans_i(maps: Tensor) -> Tensor:
    """Moran's I of maps [..., rows, columns] with rook neighbours, each weighing 1; [...]. A constant map gives 0; no
    N x N matrix is made.
    """
    rows, columns = maps.shape[-2:]
    z = maps - maps.mean((-2, -1), keepdim=True)
    pairs = (rows - 1) * columns + rows * (columns - 1)
    vertical = (z[..., 1:, :] * z[..., :-1, :]).sum((-2, -1))
    horizontal = (z[..., 1:] * z[..., :-1]).sum((-2, -1))
    total = z.square().sum((-2, -1))
    flat = total <= flat_below(maps)
    return torch.where(
        flat, 0.0, (vertical + horizontal) * (rows * columns / max(pairs, 1)) / torch.where(flat, 1.0, total)
    )


def flat_below(maps: Tensor) -> Tensor:
    """The sum of squares [...] that rounding alone leaves of constant maps [..., rows, columns]."""
    rounding = torch.finfo(maps.dtype).eps * maps.abs().amax((-2, -1))
    return maps.shape[-2] * maps.shape[-1] * rounding.square()


def deviation(maps: Tensor) -> Tensor:
    """Standard deviation over the last two dimensions, with divisor N."""
    return maps.std((-2, -1), correction=0)


def ranks(values: list[float]) -> list[float]:
    """Ranks from 0 (lowest) to 1 (highest); equal values share the mean of theirs."""
    last = max(len(values) - 1, 1)
    return [(sum(v < x for v in values) + (values.count(x) - 1) / 2) / last for x in values]


def weak_by_response(
    moran: list[float], std: list[float], skip: float = 0.1, share: float = 1 / 3
) -> tuple[list[int], list[int]]:
    """Weak and responsive blocks by the paper's picture: lowest and highest `share` of the mean rank of both curves
    (our choice).

    skip: part of the blocks at either end that is never called weak or responsive: the paper speaks of intermediate
    blocks.
    """
    mean = [(a + b) / 2 for a, b in zip(ranks(moran), ranks(std))]
    edge = round(skip * len(mean))
    order = sorted(range(edge, len(mean) - edge), key=lambda block: mean[block])
    count = min(max(round(share * len(mean)), 1), len(order) // 2)
    return sorted(order[:count]), sorted(order[len(order) - count :])


def weak_by_cause(change: list[float], share: float = 1 / 3) -> tuple[list[int], list[int]]:
    """Weak and responsive blocks by the change that the empty prompt makes in each (our choice).

    Weak: as many as possible, the least first, that together make at most `share` of the sum. Responsive: the fewest
    that make at least half of it. With share below 1/2 no block is both. Without any change all are weak.
    """
    order = sorted(range(len(change)), key=lambda block: change[block])
    total = sum(change)
    weak, made = [], 0.0
    for block in order:
        made += change[block]
        if made > share * total:
            break
        weak.append(block)
    responsive, made = [], 0.0
    for block in reversed(order):
        if made >= total / 2:
            break
        made += change[block]
        responsive.append(block)
    return sorted(weak), sorted(responsive)


def scaled(values: list[float]) -> tuple[float, list[float]]:
    """Where 0 and each value lie between the lowest and the highest (or 0), 0..1; what is not finite lies at 0."""
    known = [value for value in values if value - value == 0]
    low, high = min([0.0, *known]), max([0.0, *known])
    span = high - low or 1.0
    return -low / span, [(value if value in known else 0.0) / span - low / span for value in values]
