"""One attention call of the model: its tensors in one layout, and which rows of the model's batch they are."""

from dataclasses import dataclass, replace

from torch import Tensor

from .forward import Forward
from .layout import Site


class UnknownRows(RuntimeError):
    """Which rows of the model's batch an attention call holds cannot be known."""


@dataclass(frozen=True)
class Call:
    """One attention call, in one layout whatever the host used.

    q: [batch, queries, heads, dim]; k, v: [batch, keys, heads, dim]; after RoPE.
    before, after: queries in front of and behind the video grid (on joint attention `before` includes the text).
    mask: None or additive / boolean [batch | 1, heads | 1, queries | 1, keys].
    batch: rows of the model's batch that q holds; None where that cannot be known, because another patch (KJNodes
    WanVideoNAG) calls the attention with a part of the batch, or once more with a prompt of its own.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    site: Site
    forward: Forward
    before: int
    after: int
    batch: tuple[int, ...] | None

    def replace(self, **changes) -> "Call":
        return replace(self, **changes)

    @property
    def batch_rows(self) -> tuple[int, ...]:
        """`batch`; for editors that index what the forward knows per row. Raises UnknownRows where it is not known."""
        if self.batch is None:
            raise UnknownRows(
                f"another patch (KJNodes WanVideoNAG is one) calls the {self.site.kind} attention of block "
                f"{self.site.block} with a part of the batch, or again with a prompt of its own, so it cannot be known "
                "which rows are of the positive prompt. Remove that patch or this one; where this one has 'passes', "
                "'both' works beside it."
            )
        return self.batch

    @property
    def rows(self) -> tuple[int, ...]:
        """For each row of q, k and v 0 (conditional) or 1 (negative), see `Forward.rows`. Raises UnknownRows."""
        return tuple(self.forward.rows[row] for row in self.batch_rows)

    @property
    def positive_rows(self) -> list[int]:
        """Indices into q, k and v of the rows that are not negative: q[call.positive_rows]. Raises UnknownRows, but not
        in a call of the model that has no such row."""
        if all(self.forward.rows):
            return []
        return [index for index, row in enumerate(self.rows) if row == 0]
