"""Files of Plan Adapters and Semantic Planners: what the metadata declares is proved against the file's header before
anything is allocated."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from ..host.weights import Checkpoint, load_weights, on_meta, require_fit, save_weights
from ..kernels.plan_adapter import PlanAdapter
from ..kernels.plan_spec import PlanAdapterSpec, PlannerSpec, Spec
from ..kernels.planner import Planner

REMEDY = "Download or export it again."


def load_plan_adapter(path: str | Path, dtype: torch.dtype | None = None):
    """A model patcher around a PlanAdapter, its weights as stored or in `dtype`. Raises ValueError, naming file and
    reason, for anything else."""
    patcher = _load(Path(path), PlanAdapterSpec, PlanAdapter, "branches", dtype)
    patcher.cached_patcher_init = (load_plan_adapter, (path, dtype))  # for the host to load it on another device
    return patcher


def load_planner(path: str | Path, dtype: torch.dtype | None = None):
    """As `load_plan_adapter`, around a Planner."""
    patcher = _load(Path(path), PlannerSpec, Planner, "blocks", dtype)
    patcher.cached_patcher_init = (load_planner, (path, dtype))
    return patcher


def save(weights: dict[str, Tensor], spec: Spec, path: str | Path, metadata: dict[str, str]) -> None:
    """Matrices in bfloat16, the rest in float32."""
    small = {key: value.detach().cpu() for key, value in weights.items()}
    small = {key: value.bfloat16() if value.ndim > 1 else value.float() for key, value in small.items()}
    save_weights(small, path, metadata | spec.metadata)


def _load(path: Path, kind: type[Spec], module: type[nn.Module], blocks: str, dtype: torch.dtype | None):
    file = Checkpoint(path)
    try:
        spec = kind.read(file.metadata)
        require_blocks(spec, file.keys, blocks)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}.") from None

    def build(**place):
        return module(spec, **place)

    names = {key: key for key in file.keys}
    header = file.header(names)
    require_fit(on_meta(build), header, path.name, REMEDY)
    widest = max(header.values(), key=lambda tensor: tensor.numel()).dtype
    return load_weights(build, file.read(names), path.name, dtype or widest)


def require_blocks(spec: Spec, keys: list[str], prefix: str) -> None:
    """Raises ValueError where the blocks of `keys` are not those of `spec`, without building either."""
    found = {match[1] for key in keys if (match := re.match(rf"{prefix}\.([^.]*)\.", key))}
    wanted = range(spec.blocks) if isinstance(spec.blocks, int) else spec.blocks
    wrong = sorted(found ^ {str(block) for block in wanted})
    if wrong:
        raise ValueError(
            f"its tensors do not fit: its config speaks of {len(wanted)} blocks, its tensors of {len(found)}, which "
            f"differ in block '{wrong[0][:40]}'. {REMEDY[:-1]}"
        )
