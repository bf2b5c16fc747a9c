"""Tiny Plan Adapters and Semantic Planners with random weights, saved as files that this pack's loaders read."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from ..kernels.plan_adapter import PlanAdapter
from ..kernels.plan_spec import PlanAdapterSpec, PlannerSpec
from ..kernels.planner import Planner
from ..kernels.semantic_plan import SemanticPlan
from .toy import TEXT_DIM, TOYS, randomize

ENCODER, DIMS = "toy tower > 3 dims", 3


def toy_plan(count: int = 4, rows: int = 2, columns: int = 3, seed: int = 30) -> SemanticPlan:
    tokens = torch.randn(count, rows, columns, DIMS, generator=torch.Generator().manual_seed(seed))
    return SemanticPlan(tokens, 2.0, ENCODER)


def write_toy_plan_adapter(path: Path, name: str = "wan-t2v", seed: int = 4, **changes) -> Path:
    """A Plan Adapter for the toy, as if trained."""
    config, wan = TOYS[name].config, name.startswith("wan")
    made = {
        "family": "wan" if wan else "hunyuan",
        "width": config["dim" if wan else "hidden_size"],
        "heads": config["num_heads"],
        "blocks": (0, 2),
        "dims": DIMS,
        "encoder": ENCODER,
        "rank": 4,
        "token_width": 10,
        "seen": 2,
    }
    spec = PlanAdapterSpec(**made | changes)
    adapter = PlanAdapter(spec)
    randomize(adapter.requires_grad_(False), seed)
    save_file(adapter.state_dict(), path, spec.metadata)
    return path


def write_toy_planner(path: Path, seed: int = 5, **changes) -> Path:
    """A Semantic Planner, as if trained, that reads the toys' text."""
    made = dict(width=24, heads=2, blocks=2, ffn=20, rows=2, columns=3, fps=2.0, shift=3.0)
    spec = PlannerSpec(**{"dims": DIMS, "encoder": ENCODER, "text_width": TEXT_DIM} | made | changes)
    planner = Planner(spec)
    randomize(planner.requires_grad_(False), seed)
    save_file(planner.state_dict(), path, spec.metadata)
    return path
