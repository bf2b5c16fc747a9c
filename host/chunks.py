"""Parts of a model that treat each token alone, run over a few tokens at a time: the same but for rounding, with less
memory.

Only the modules' `forward` is wrapped, and only during one call of the model: what other packs and the host do to the
layers inside (LoRA, fp8, offloading) and to `forward` itself stays.
"""

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn


@contextmanager
def in_chunks(modules: Iterable[nn.Module], tokens: int | None):
    """Within, each module gets at most `tokens` tokens of [batch, tokens, channels] at once; None: all. Further inputs,
    such as a modulation, must be one for all tokens, else the module gets all. Leave compiled models and blocks alone:
    their graphs would be made anew for every call."""
    wrapped = []
    if tokens is not None and not torch.compiler.is_compiling():
        wrapped = list(modules)
    before = [module.__dict__.get("forward") for module in wrapped]  # another pack's
    try:
        for module in wrapped:
            module.forward = partial(chunked, module.forward, tokens)
        yield
    finally:
        for module, old in zip(wrapped, before):
            if old is None:
                module.__dict__.pop("forward", None)
            else:
                module.forward = old


def compiled(blocks: Iterable[nn.Module]) -> bool:
    """Whether torch.compile has any of these blocks, wrapped or in place."""
    return any("_orig_mod" in block._modules or block._compiled_call_impl is not None for block in blocks)


def chunked(forward: Callable[..., Tensor], tokens: int, x: Tensor, *rest: Tensor) -> Tensor:
    """`forward` of x [batch, n, channels], at most `tokens` of the n at once, and of `rest`, [batch, channels] or
    [batch, 1, channels] each; longer ones belong to parts of x, which then stays whole."""
    if x.shape[1] <= tokens or any(other.ndim > 2 and other.shape[1] > 1 for other in rest):
        return forward(x, *rest)
    out = None
    for start in range(0, x.shape[1], tokens):
        part = forward(x[:, start : start + tokens], *rest)
        if out is None:
            out = part.new_empty(*x.shape[:-1], part.shape[-1])
        out[:, start : start + tokens] = part
    return out
