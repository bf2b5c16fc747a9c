"""The cache of Focal Guidance between keywords alone: what source blocks leave, and what it changes in a weak one."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ..host.call import Call
from ..host.editing import attend
from ..host.memory import outlives_block
from ..kernels.keyword_columns import column_difference, column_map, edited
from .focal_cache import part
from .prompt_words import video_tokens


@dataclass
class Columns:
    """Sum over the source blocks so far of their maps on the keywords, mean over heads: [rows, queries, columns]."""

    total: Tensor
    sources: int = 1

    @property
    def mean(self) -> Tensor:
        return self.total / self.sources


def add_source(call: Call, rows: list[int], columns: list[int], before: Columns | None) -> Columns:
    """With the map of this block, on its keys as the model has them."""
    found = own_map(call, call.k, call.mask, rows, [[column] for column in columns]).float().mean(2)
    if before is not None:
        before.total += found
        before.sources += 1
        return before
    with outlives_block():
        return Columns(found.clone())


def carry_columns(call: Call, guided: Call, out: Tensor, source: Columns, rows: list[int], columns: list[int], cache):
    """`out` with the keywords' columns moved. guided: the call with keys weighed; its copies of a keyword are it."""
    copies = range(call.k.shape[1], guided.k.shape[1], len(columns))
    groups = [[column, *(start + i for start in copies)] for i, column in enumerate(columns)]
    own = own_map(call, guided.k, guided.mask, rows, groups)
    queries = queries_of(call)
    difference = column_difference(own, edited(own, source.mean.to(own.device), cache), guided.v[rows][:, columns])
    out = out.clone()
    out[rows, queries] += difference
    return out


def own_map(call: Call, k: Tensor, mask: Tensor | None, rows: list[int], columns: list[list[int]]) -> Tensor:
    queries = queries_of(call)
    heard = partial(attend, mask=part(mask, rows, queries))
    return column_map(call.q[rows, queries], k[rows], columns, heard)


def queries_of(call: Call) -> slice:
    return slice(None) if call.site.kind == "text" else video_tokens(call)
