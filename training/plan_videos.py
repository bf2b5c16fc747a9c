"""From a folder of one's own videos to the files that plans need: compressor and Plan Adapter beside a MODEL, and the
Semantic Planner. What the nodes and `run.py train plan-adapter | planner --clips` share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from ..kernels.compressor import Compressor, CompressorSpec, initialise
from ..kernels.plan_adapter import parameter_count
from ..kernels.plan_spec import PlannerSpec
from ..kernels.planner import parameter_count as planner_parameters
from ..patches.plan_file import compressed_encoder, save_compressor
from ..patches.plan_weights import save
from .checkpoint import require_resumable
from .plan import Plan, State
from .plan_adapter import Settings, part, spec_for, train_plan_adapter
from .plan_folder import PlanFolder
from .planner import train_planner
from .validation import PATIENCE

Describe = Callable[[State, dict, dict[str, float]], dict[str, str]]  # state, facts, last losses -> metadata
COMPRESSOR = "_compressor"  # behind the adapter's name
SOME = 64  # videos that normalise a compressor or a planner
FEW = 2  # token frames of each of them, for a compressor


@dataclass(frozen=True)
class AdapterShape:
    """dims: of the plan's tokens; rank, seen, blocks: of `spec_for`; rows, columns: of a plan, 0 as the encoder gives
    them."""

    dims: int = 8
    rank: int = 64
    seen: int = 5
    blocks: tuple[int, ...] | None = None
    rows: int = 0
    columns: int = 0


@dataclass(frozen=True)
class PlannerShape:
    """width, heads, blocks: of the DiT, whose feed-forward has four times the width. shift: of its noise levels. rows,
    columns: of a plan, 0 as the encoder gives them; those of the adapter that is to render it."""

    width: int = 512
    heads: int = 8
    blocks: int = 12
    shift: float = 3.0
    rows: int = 0
    columns: int = 0

    def __post_init__(self):
        """Refuses, before videos are encoded, what `PlannerSpec` would only afterwards."""
        if self.heads < 1 or self.width % (2 * self.heads):
            raise ValueError(
                f"channels {self.width}: must divide into {self.heads} heads of an even number of channels. Choose a "
                f"multiple of {2 * max(self.heads, 1)}, or other heads."
            )


def compressor_of(target: Path) -> Path:
    """The file of the compressor that is written beside an adapter."""
    return target.with_name(f"{target.stem}{COMPRESSOR}.safetensors")


def filled(videos: PlanFolder, plan: Plan, *targets: Path) -> None:
    """Encodes what is missing; what cannot be resumed (`require_resumable`) is found out before."""
    require_resumable(plan, *targets)
    with torch.inference_mode():
        videos.fill()


def few(frames: Tensor) -> Tensor:
    """At most FEW of token frames [time, ...], evenly over them; not their mean, which varies less than they do."""
    return frames[:: -(-len(frames) // FEW)].clone()  # or all would stay in memory


def last_of(state: State) -> dict[str, float]:
    return {name: round(curve[-1][1], 4) for name, curve in state.curves.items() if curve}


def train_adapter_on_videos(
    videos: PlanFolder,
    model,
    target: Path,
    plan: Plan,
    describe: Describe,
    shape: AdapterShape,
    share: float = 0.1,
    settings: Settings | None = None,
) -> State:
    """Writes `target` and the compressor beside it. share: of the videos, to validate on. Raises ValueError for videos
    that cannot be used, and as `spec_for`, `require_resumable` and `train_plan_adapter` do."""
    spec = spec_for(model, shape.dims, videos.tower.name, shape.blocks, shape.rank, seen=shape.seen)
    filled(videos, plan, target, compressor_of(target))
    learnt, kept = videos.split(share, plan.seed)
    features = videos.entry(learnt[0])["features"]
    compressor_spec = CompressorSpec(features.shape[-1], videos.tower.name, shape.dims)
    with torch.inference_mode(False):
        compressor = Compressor(compressor_spec)
        initialise(compressor, plan.seed)
        compressor.normalise(torch.cat([few(videos.entry(video)["features"]) for video in learnt[:SOME]]))

    def export(weights: dict[str, Tensor], state: State) -> None:
        facts = {"videos": len(videos), "parameters": parameter_count(spec), "fps": videos.shape.plan_fps}
        compressed = Compressor(compressor_spec)
        compressed.load_state_dict(part(weights, "compressor"))
        save_compressor(compressed, compressor_of(target))
        made = replace(spec, encoder=compressed_encoder(compressor_spec, compressed.state_dict()))
        save(part(weights, "adapter"), made, target, describe(state, facts, last_of(state)))

    grid = (shape.rows or features.shape[1], shape.columns or features.shape[2])
    settings = replace(
        settings or Settings(patience=PATIENCE),
        grid=grid if shape.rows or shape.columns else None,
        validate=videos.for_adapter(model, plan.batch, kept) if kept else None,
    )
    draw = videos.for_adapter(model, plan.batch, learnt)
    weights, state = train_plan_adapter(model, spec, compressor, draw, plan, export, settings)
    if not target.exists():  # resumed where there was nothing left to do
        export(weights, state)
    return state


def train_planner_on_videos(
    videos: PlanFolder,
    target: Path,
    plan: Plan,
    describe: Describe,
    shape: PlannerShape,
    share: float = 0.1,
    every: int = 50,
    patience: int = PATIENCE,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> State:
    """Writes `target`. `videos` must have a compressor, whose plans the planner learns to draw. Raises ValueError for
    videos that cannot be used, and as `require_resumable` and `train_planner` do."""
    filled(videos, plan, target)
    learnt, kept = videos.split(share, plan.seed)
    first = videos.entry(learnt[0])["features"]
    rows, columns = grid = shape.rows or first.shape[1], shape.columns or first.shape[2]
    spec = PlannerSpec(
        first.shape[-1],
        videos.encoder,
        videos.text_width,
        shape.width,
        shape.heads,
        shape.blocks,
        ffn=4 * shape.width,
        rows=rows,
        columns=columns,
        fps=videos.shape.plan_fps,
        shift=shape.shift,
    )

    def export(weights: dict[str, Tensor], state: State) -> None:
        facts = {"videos": len(videos), "parameters": planner_parameters(spec), "seconds": videos.shape.seconds}
        save(weights, spec, target, describe(state, facts, last_of(state)))

    some = videos.for_planner(min(SOME, len(learnt)), "cpu", learnt, grid)(Random(plan.seed)).plans
    draw = videos.for_planner(plan.batch, device, learnt, grid)
    validate = videos.for_planner(plan.batch, device, kept, grid) if kept else None
    weights, state = train_planner(spec, some, draw, plan, export, device, dtype, validate, every, patience)
    if not target.exists():
        export(weights, state)
    return state
