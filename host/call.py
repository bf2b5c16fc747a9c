"""One attention call of the model: its tensors in one layout, and which rows of the model's batch they are."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .forward import Forward
from .layout import Crop, Site


class UnknownRows(RuntimeError):
    """Which rows of the model's batch an attention call holds cannot be known."""


@dataclass(frozen=True)
class Call:
    """One attention call, in one layout whatever the host used.

    q: [batch, queries, heads, dim]; k, v: [batch, keys, heads, dim]; after RoPE.
    before, after: queries in front of and behind the video grid (on joint attention `before` includes the text).
    keys_before: keys in front of the video grid, also where an editor hands on a part of the queries.
    mask: None or additive / boolean [batch | 1, heads | 1, queries | 1, keys].
    batch: rows of the model's batch that q holds; None where that cannot be known, because another patch (KJNodes
    WanVideoNAG) calls the attention with a part of the batch, or once more with a prompt of its own.
    frames: of a call that an editor has cut out, the frames of the grid that q holds, in order, while k and v hold all;
    None: q holds all.
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
    keys_before: int = 0
    frames: tuple[int, ...] | None = None

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

    @property
    def crop(self) -> Crop:
        """The part of the video that all rows of q show; see `by_crop`. Raises UnknownRows."""
        crops = set(self.forward.crops)
        if len(crops) > 1:
            crops = {self.forward.crops[row] for row in self.batch_rows}
        if len(crops) > 1:
            raise UnknownRows(
                "the rows of one attention call show different parts of the video. Wrap the edit: by_crop."
            )
        return crops.pop()

    def take(self, indices: list[int]) -> "Call":
        """The call of some rows of q, k and v."""
        mask = self.mask[indices] if self.mask is not None and len(self.mask) > 1 else self.mask
        batch = tuple(self.batch_rows[index] for index in indices)
        return self.replace(q=self.q[indices], k=self.k[indices], v=self.v[indices], mask=mask, batch=batch)


Continue = Callable[[Call], Tensor]  # -> [batch, queries, heads * dim]
Edit = Callable[[Call, Continue], Tensor]


def by_crop(edit: Edit) -> Edit:
    """`edit` for the rows of each part of the video on their own. Conditioning areas of equal size come in one batch,
    wherever in the video they lie; elsewhere all rows show the same and `edit` gets the whole call."""

    def each(call: Call, proceed: Continue) -> Tensor:
        if len(set(call.forward.crops)) == 1:
            return edit(call, proceed)
        crops = [call.forward.crops[row] for row in call.batch_rows]
        groups = [[i for i, crop in enumerate(crops) if crop == one] for one in dict.fromkeys(crops)]
        parts = [edit(call.take(group), proceed) for group in groups]
        order = torch.tensor([index for group in groups for index in group])
        return torch.cat(parts)[order.argsort().to(parts[0].device)]

    return each
