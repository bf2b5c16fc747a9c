"""Trains an SSG Adapter beside a frozen MODEL: the one core of the node and of `run.py train ssg-adapter`."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import comfy.model_management
import comfy.utils
import torch
from safetensors import safe_open
from torch import Tensor

from ..host.families import family_of
from ..host.frozen_model import checkpointed, copying_norms, differentiable, load_frozen, own_copy
from ..host.weights import save_weights
from ..kernels.ssg_adapter import SSGAdapter, initialise, parameter_count
from ..kernels.ssg_spec import Spec
from .loop import Plan, State, checkpoint_path, train
from .ssg_adapter import Draw, losses, spec_for, with_adapter
from .video_folder import VideoFolder

VALIDATIONS = 4  # batches, always the same, with the same noise
PATIENCE = 8
Export = Callable[[dict[str, Tensor], State], None]
Describe = Callable[[State, dict, dict[str, float]], dict[str, str]]


@dataclass(frozen=True)
class Settings:
    """validate: draws of clips that are not learnt from; every: steps between validations; patience: how many without a
    better one end the training, 0 for never. checkpointing: blocks run twice, which saves most of the memory. offload:
    the model's weights stay in main memory. dtype: of autocast, or None."""

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
    at the end. MODEL itself is left as it was. Raises ValueError for a checkpoint to resume that is of another adapter.
    """
    with ExitStack() as stack:
        stack.enter_context(differentiable())
        model = own_copy(model)
        load_frozen(model, settings.offload)
        adapter = SSGAdapter(spec, device=model.load_device)
        initialise(adapter, plan.seed)
        if plan.resume:
            must_fit(plan, adapter)
        blocks = family_of(model).block_modules(model.model.diffusion_model)
        stack.enter_context(copying_norms(blocks))
        if settings.checkpointing:
            stack.enter_context(checkpointed(blocks))
        following, bar = with_adapter(model, adapter), comfy.utils.ProgressBar(plan.steps or 1000)

        def loss_of(step: int, done: float) -> dict[str, Tensor]:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update_absolute(step if plan.steps else int(1000 * done))
            return losses(following, draw, Random(f"{plan.seed}/{step}/ssg"), settings.dtype)

        def enough(weights: dict[str, Tensor], state: State) -> bool:
            if state.step % settings.every:
                return False
            curve = state.curves.setdefault("validation", [])
            value = validation(following, adapter, weights, settings, plan)
            better = all(value < before for _, before in curve)
            curve.append((state.step, value))
            if better:
                export(weights, state)
            best = min(curve, key=lambda point: point[1])[0]
            return settings.patience > 0 and sum(step > best for step, _ in curve) >= settings.patience

        if settings.validate is None:
            weights, state = train(plan, adapter, loss_of, export if plan.export_minutes else None)
            if not plan.export_minutes:
                export(weights, state)
        else:
            weights, state = train(plan, adapter, loss_of, enough=enough)
            if "validation" not in state.curves:
                export(weights, state)
        bar.update_absolute(bar.total)
    return weights, state


def train_on_clips(
    clips: VideoFolder,
    target: Path,
    plan: Plan,
    describe: Describe,
    share: float = 0.1,
    settings: Settings = USUAL,
    **options,
) -> State:
    """Encodes the clips that are not encoded yet, trains an adapter on them and writes it to `target`.

    describe(state, facts, losses): the file's metadata, of facts about clips and adapter and of the last value of each
    loss. share: of the clips, to validate on. settings.validate is made here. options: of `spec_for`. Raises ValueError
    for clips that cannot be used, and as `spec_for` and `train_adapter` do.
    """
    with torch.inference_mode():
        clips.fill()
    learnt, kept = clips.split(share, plan.seed)
    spec, shape = spec_for(clips.model, clips.features_of(learnt[0])[None], **options), clips.shape
    facts = {
        "clips": len(clips.clips),
        "folder": clips.folder.name,
        "size": [shape.width, shape.height, shape.length],
        "fps": shape.fps,
        "style": shape.style,
        "parameters": parameter_count(spec),
    }

    def export(weights: dict[str, Tensor], state: State) -> None:
        save_adapter(
            weights,
            spec,
            target,
            describe(state, facts, {name: curve[-1][1] for name, curve in state.curves.items() if curve}),
        )

    settings = replace(settings, validate=clips.draw(kept, plan.batch) if kept else None)
    weights, state = train_adapter(clips.model, spec, clips.draw(learnt, plan.batch), plan, export, settings)
    if not target.exists():  # resumed where there was nothing left to do
        export(weights, state)
    return state


def validation(following, adapter: SSGAdapter, weights: dict[str, Tensor], settings: Settings, plan: Plan) -> float:
    """Mean loss of the averaged weights on clips that are not learnt from."""
    now = {key: value.detach().clone() for key, value in adapter.state_dict().items()}
    adapter.load_state_dict(weights)
    with torch.no_grad():
        values = [
            float(
                losses(
                    following, settings.validate, Random(f"{plan.seed}/{i}/validation"), settings.dtype, dropout=False
                )["loss"]
            )
            for i in range(VALIDATIONS)
        ]
    adapter.load_state_dict(now)
    return sum(values) / len(values)


def must_fit(plan: Plan, adapter: SSGAdapter) -> None:
    path = checkpoint_path(plan)
    if not path.exists():
        return
    with safe_open(path, "pt") as file:
        found = {key[6:]: tuple(file.get_slice(key).get_shape()) for key in file.keys() if key.startswith("model.")}  # noqa: SIM118  (not a dict)
    if found != {key: tuple(value.shape) for key, value in adapter.state_dict().items()}:
        raise ValueError(
            f"resume: the checkpoint {path} is of another adapter (rank, blocks, model or CLIP). Restore those "
            "settings, or turn resume off."
        )


def save_adapter(weights: dict[str, Tensor], spec: Spec, path, metadata: dict[str, str]) -> None:
    """bfloat16, for the SSG Adapter Loader."""
    save_weights(
        {key: value.detach().bfloat16().cpu() for key, value in weights.items()}, path, metadata | spec.metadata
    )
