"""The prompt's tokens on their way to the blocks: some models let them see one another first, in a refiner of their
own, which no attention site shows."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import comfy.conds
import torch
from torch import Tensor

if TYPE_CHECKING:
    from .forward import Forward
    from .run import Run

Alone = Callable[[Sequence[int], slice], Tensor]  # (rows, tokens) -> those tokens, as if there were no others
Refine = Callable[["Forward", Tensor, Alone], Tensor]  # -> refined tokens of all rows, [batch, tokens, width]


@contextmanager
def refining(forward: "Forward", edits: Sequence[Refine]):
    """Within, what comes out of the model's text refiner is what `edits` make of it, one after the other. Models
    without one are left alone."""
    module = forward.family.text_refiner(forward.module) if edits else None
    with ExitStack() as stack:
        for edit in edits if module is not None else ():
            stack.callback(_attach(module, forward, edit).remove)
        yield


def _attach(module: torch.nn.Module, forward: "Forward", edit: Refine):
    signature = inspect.signature(module.forward)

    def hook(_, args: tuple, kwargs: dict, refined: Tensor) -> Tensor:
        given = signature.bind(*args, **kwargs).arguments

        def alone(rows: Sequence[int], tokens: slice) -> Tensor:
            rows, mask = list(rows), given["mask"]
            own = {"x": given["x"][rows, tokens], "timesteps": given["timesteps"][rows]}
            if mask is not None:
                own["mask"] = mask.expand(len(given["x"]), -1)[rows, tokens]
            return module.forward(**{**given, **own})  # not called: that would come by here again

        return edit(forward, refined, alone)

    return module.register_forward_hook(hook, with_kwargs=True)


@contextmanager
def refined_apart(model, run: "Run"):
    """Within, the texts of each timeline of `run` go one by one through what `model`, the host's, does to a prompt
    before it is first called (MiniMax H3's refiner, LTX-2's connector). A text may come out longer: `run.timelines`
    learn it."""
    plain, before = model.extra_conds, vars(model).get("extra_conds")

    def extra_conds(**params) -> dict:
        out, text, uuid = plain(**params), params.get("cross_attn"), params.get("uuid")
        spoken = run.timelines.get(uuid, ())
        rest = 0 if text is None else text.shape[1] - sum(one.tokens for one in spoken)
        if len(spoken) < 2 or text is None or rest < 0:
            return out
        texts = text.split([*(one.tokens for one in spoken), *([rest] if rest else [])], 1)
        refined = [plain(**params | {"cross_attn": one})["c_crossattn"].cond for one in texts]
        run.timelines[uuid] = tuple(replace(one, tokens=own.shape[1]) for one, own in zip(spoken, refined))
        return out | {"c_crossattn": comfy.conds.CONDRegular(torch.cat(refined, 1))}

    model.extra_conds = extra_conds
    try:
        yield
    finally:
        if before is None:
            del model.extra_conds
        else:
            model.extra_conds = before
