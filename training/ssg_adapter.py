"""Trains an SSG Adapter beside a frozen MODEL: the one core of the node and of `run.py train ssg-adapter`.

The loss is in ssg_loss.py, the model with the adapter in it in ssg_model.py, the users' videos in video_folder.py.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ..host.families import family_of
from ..host.frozen_model import checkpointed, copying_norms, in_training, load_frozen, own_copy
from ..host.weights import save_weights
from ..kernels.ssg_adapter import SSGAdapter, initialise, parameter_count
from ..kernels.ssg_spec import Spec
from .checkpoint import require_resumable
from .loop import Export
from .parallel import by_first, first
from .plan import Plan, State
from .ssg_loss import Draw, losses
from .ssg_model import spec_for, with_adapter
from .validation import Validation, train_validated
from .video_folder import VideoFolder

Describe = Callable[[State, dict, dict[str, float]], dict[str, str]]


@dataclass(frozen=True)
class Settings:
    """validate: draws of videos that are not learnt from; every: steps between validations; patience: how many without
    a better one end the training, 0 for never. checkpointing: blocks run twice, which saves most of the memory.
    offload: the model's weights stay in main memory. dtype: of autocast, or None."""

    validate: Draw | None = None
    every: int = 50
    patience: int = 0
    checkpointing: bool = True
    offload: bool = False
    dtype: torch.dtype | None = torch.bfloat16


USUAL = Settings()


def train_adapter(
    model, spec: Spec, draw: Draw, plan: Plan, export: Export, settings: Settings = USUAL
) -> tuple[dict[str, Tensor], State]:
    """Trains until the plan is done or validation gets no better; returns the averaged weights at the end. When the
    user interrupts, the last checkpoint and the last export stay.

    export(weights, state): with validation whenever it is better than ever before; else every plan.export_minutes, and
    at the end. MODEL itself is left as it was. Raises ValueError as `train` does.
    """
    export = by_first(export)
    with ExitStack() as stack:
        stack.enter_context(in_training())
        model = own_copy(model)
        load_frozen(model, settings.offload)
        adapter = SSGAdapter(spec, device=model.load_device)
        initialise(adapter, plan.seed)
        blocks = family_of(model).block_modules(model.model.diffusion_model)
        stack.enter_context(copying_norms(blocks))
        if settings.checkpointing:
            stack.enter_context(checkpointed(blocks))
        patched, bar = with_adapter(model, adapter), comfy.utils.ProgressBar(plan.steps or 1000)

        def loss_of(step: int, done: float) -> dict[str, Tensor]:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update_absolute(step if plan.steps else int(1000 * done))
            return losses(patched, draw, Random(f"{plan.seed}/{step}/ssg"), settings.dtype)

        kept = None
        if settings.validate is not None:

            def held_out(rng: Random) -> Tensor:
                return losses(patched, settings.validate, rng, settings.dtype, dropout=False)["loss"]

            kept = Validation(held_out, settings.every, settings.patience)
        weights, state = train_validated(plan, adapter, loss_of, export, kept)
        bar.update_absolute(bar.total)
    return weights, state


def train_on_videos(
    videos: VideoFolder,
    target: Path,
    plan: Plan,
    describe: Describe,
    share: float = 0.1,
    settings: Settings = USUAL,
    **options,
) -> State:
    """Encodes the videos that are not encoded yet, trains an adapter on them and writes it to `target`.

    describe(state, facts, losses): the file's metadata, of facts about videos and adapter and of the last value of each
    loss. share: of the videos, to validate on. settings.validate is made here. options: of `spec_for`. Raises
    ValueError for videos that cannot be used, and as `spec_for`, `require_resumable` and `train_adapter` do.
    """
    require_resumable(plan, target)  # before hours of encoding, as what `spec_for` refuses
    spec, shape = spec_for(videos.model, videos.blank_features(), **options), videos.shape
    with torch.inference_mode():
        videos.fill()
    learnt, kept = videos.split(share, plan.seed)
    facts = {
        "clips": len(videos),
        "folder": videos.folder.name,
        "size": [shape.width, shape.height, shape.length],
        "fps": shape.fps,
        "style": shape.style,
        "parameters": parameter_count(spec),
    }

    def export(weights: dict[str, Tensor], state: State) -> None:
        last = {name: curve[-1][1] for name, curve in state.curves.items() if curve}
        save_adapter(weights, spec, target, describe(state, facts, last))

    settings = replace(settings, validate=videos.draw(kept, plan.batch) if kept else None)
    weights, state = train_adapter(videos.model, spec, videos.draw(learnt, plan.batch), plan, export, settings)
    if first() and not target.exists():  # resumed where there was nothing left to do
        export(weights, state)
    return state


def save_adapter(weights: dict[str, Tensor], spec: Spec, path: Path, metadata: dict[str, str]) -> None:
    """bfloat16, for the SSG Adapter Loader."""
    small = {key: value.detach().bfloat16().cpu() for key, value in weights.items()}
    save_weights(small, path, metadata | spec.metadata)
