"""What `overview` measures besides single techniques: peers of core and of other packs, and a Plan Adapter."""

import importlib.util
import os
from pathlib import Path

from .swin import ROOT, Size

TWO_PASSES = 3.0  # CFG
KJ_NAG = "KJNodes WanVideoNAG"
KJ_FILE = Path("ComfyUI-KJNodes", "nodes", "model_optimization_nodes.py")


def skip_layers(model):
    """Core's Skip Layer Guidance on the last block: a second pass without it."""
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    return SkipLayerGuidanceDiT.execute(model, 3.0, 0.0, 1.0, double_layers="1").result[0]


def kj_nag(model, conditioning: list):
    """KJNodes' Normalized Attention Guidance; None where the user has no copy."""
    from ..cli.hosts import require_host

    places = (os.environ.get("SEMANTIC_VIDEO_PEERS"), require_host(ROOT) / "custom_nodes")
    file = next((Path(place) / KJ_FILE for place in places if place and (Path(place) / KJ_FILE).exists()), None)
    if file is None:
        return None
    spec = importlib.util.spec_from_file_location("kj_model_optimization", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.WanVideoNAG().patch(model, conditioning, nag_scale=5.0, nag_alpha=0.5, nag_tau=2.5)[0]


def plan_adapter(model, size: Size):
    """`model` with a Plan Adapter on every block, as if trained, of which each latent frame sees 5 x 12 tokens."""
    import torch

    from ..harness.toy import randomize
    from ..harness.toy_plans import DIMS, ENCODER, toy_plan
    from ..host.weights import load_weights
    from ..kernels.plan_adapter import PlanAdapter
    from ..kernels.plan_spec import PlanAdapterSpec
    from ..patches.plan_adapter import PlanGuide, apply

    spec = PlanAdapterSpec("wan", size.width, size.heads, tuple(range(size.blocks)), DIMS, ENCODER)
    weights = PlanAdapter(spec)
    randomize(weights.requires_grad_(False))
    make = lambda **place: PlanAdapter(spec, **place)  # noqa: E731
    patcher = load_weights(make, weights.state_dict(), "plan adapter", getattr(torch, size.dtype))
    return apply(model, patcher, PlanGuide(toy_plan(count=8, rows=3, columns=4)))
