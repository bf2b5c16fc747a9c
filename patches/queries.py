"""Which rows and queries of an attention call an edit is for."""

import torch
from torch import Tensor

from ..host.editing import Call, Continue
from ..host.forward import Forward


def on_positive_rows(forward: Forward, value: float, like: Tensor) -> Tensor:
    """`value` for the rows of the positive prompt and 0 for the others, [batch, 1, 1], in like's dtype and device."""
    return torch.tensor([value if row == 0 else 0.0 for row in forward.rows]).to(like).view(-1, 1, 1)


def for_video(call: Call, changed: Call, proceed: Continue) -> Tensor:
    """The attention of `changed` for the queries of the video grid, and of `call` for those before and after it.

    Of an edit that takes this path, `edit_attention` must know that it splits "queries".
    """
    front, back = call.before, call.q.shape[1] - call.after
    if front == back:
        return proceed(call)
    out = proceed(changed)
    if front == 0 and call.after == 0:
        return out
    parts = [out[:, front:back]]
    if front:
        parts.insert(0, proceed(_queries(call, slice(front), before=front, after=0)))
    if call.after:
        parts.append(proceed(_queries(call, slice(back, None), before=0, after=call.after)))
    return torch.cat(parts, dim=1)


def _queries(call: Call, span: slice, before: int, after: int) -> Call:
    mask = call.mask
    if mask is not None and mask.shape[-2] > 1:
        mask = mask[..., span, :]
    return call.replace(q=call.q[:, span], mask=mask, before=before, after=after)
