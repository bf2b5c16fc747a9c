"""The prompt's tokens on their way to the blocks: some models let them see one another first, in a refiner of their
own, which no attention site shows."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .forward import Forward

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
