"""Which rows and queries of an attention call an edit is for."""

import torch
from torch import Tensor

from ..host.call import Call, Continue


def on_positive_rows(call: Call, value: float) -> Tensor:
    """`value` for the rows that are not of the negative prompt and 0 for the others, [batch, 1, 1], like q."""
    values = torch.zeros(len(call.q))
    values[call.positive_rows] = value
    return values.to(call.q).view(-1, 1, 1)


def over_cfg(call: Call, strength: float, wanted: bool) -> float:
    """`strength`, where `wanted` over a CFG above 1: guidance multiplies what is added to the positive prompt's rows
    alone."""
    return strength / max(call.forward.run.cfg, 1.0) if wanted else strength


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
