"""Trains a compressor and a Plan Adapter beside a frozen MODEL: the one core of the node and of `run.py train
plan-adapter`.

    z = compressor(features)        L = L_FM + beta mean(KL)        plan = z + tau u eps

As in SemanticGen (arXiv 2512.20619, section 3.2) the compressor learns by the flow-matching loss of the generator that
sees its sample, with a KL term; beta is unpublished. The noise on the plan is RAE's (kernels/plan_adapter.py).
The MODEL is trained on as it samples, with all its patches: give it Swin Renderer for an adapter of windows.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor, nn

from ..host.editing import Call, edit_attention, edit_inputs
from ..host.families import family_of, wan
from ..host.forward import Forward
from ..host.frozen_model import checkpointed, copying_norms, in_training, load_frozen, own_copy
from ..kernels.compressor import Compressor, kl, sample
from ..kernels.plan_adapter import TAU, PlanAdapter, initialise, noisy_plan
from ..kernels.plan_spec import PlanAdapterSpec
from ..kernels.ssg_adapter import dense
from ..patches.plan_adapter import NAME, SITES, acts, added, groups_of
from . import flow_matching
from .loop import Export
from .plan import Plan, State
from .validation import Validation, train_validated

PLANS = "semantic_video_plans"  # transformer option: the plan of each video of the batch
BETA = 3e-4  # of the KL term, in nats a token; unpublished, our choice
TEXT_DROPOUT, PLAN_DROPOUT, BOTH_DROPOUT = 0.05, 0.05, 0.05  # IP-Adapter's, as for the SSG Adapter


@dataclass(frozen=True)
class Batch:
    """latents, conds, cover: as in flow_matching.Batch; silent: conds of each video with the empty text; features: of
    its vision tower, [n, time, rows, columns, width], or its plans where no compressor is trained."""

    latents: Tensor
    conds: list[dict]
    silent: list[dict]
    features: Tensor
    cover: Tensor | None = None


Draw = Callable[[Random], Batch]


@dataclass(frozen=True)
class Settings:
    """grid: rows and columns to which plans are made smaller, by means, None as they are; beta: weight of the KL term;
    tau: most noise on a plan; checkpointing: blocks run twice, which saves most of the memory; offload: the model's
    weights stay in main memory; dtype: of autocast, or None. validate: draws of videos that are not learnt from; every,
    patience: as in validation.py."""

    grid: tuple[int, int] | None = None
    beta: float = BETA
    tau: float = TAU
    checkpointing: bool = True
    offload: bool = False
    dtype: torch.dtype | None = torch.bfloat16
    validate: Draw | None = None
    every: int = 50
    patience: int = 0


USUAL = Settings()


def spec_for(
    model,
    dims: int,
    encoder: str,
    blocks: tuple[int, ...] | None = None,
    rank: int = 64,
    token_width: int = 256,
    seen: int = 5,
) -> PlanAdapterSpec:
    """The spec of an adapter for MODEL and plans of `encoder`. blocks None: all. Raises ValueError where it cannot
    be."""
    family, module = family_of(model), model.model.diffusion_model
    if hasattr(module, "vace_blocks"):
        raise ValueError(
            "model: VACE cannot be trained on. Train on the T2V model it was made from; the adapter then works on both."
        )
    if family.rope_axis is None:
        raise ValueError(
            f"model: Plan Adapter cannot say where a video's tokens stand on the RoPE axes of {family.NAME}. Train on "
            "a model of Wan or HunyuanVideo."
        )
    width, heads = family.width_heads(module)
    blocks = tuple(range(family.blocks(module))) if blocks is None else blocks
    name = "wan" if family is wan else "hunyuan"
    return PlanAdapterSpec(name, width, heads, blocks, dims, encoder, rank, token_width, seen)


def with_adapter(model, module: PlanAdapter, strength: float = 1.0):
    """A clone of MODEL with the adapter in it, each video of which follows the plan that `PLANS` gives it. Its output
    is that of Plan Adapter Apply; `module` may want gradients."""

    def prepare(forward: Forward) -> dict:
        plans, count = forward.options[PLANS], len(forward.latent)
        mine = plans[[i % len(plans) for i in range(count)]].to(forward.latent.device)
        seen = groups_of(module.spec, mine.shape[1:4], forward, forward.crops[0])
        forward.state[NAME] = module.tokens(mine), seen  # before the blocks, which may run twice
        return {}

    def edit(call: Call, proceed) -> Tensor:
        out = proceed(call)
        if not acts(call, module.spec):
            return out
        tokens, seen = call.forward.state[NAME]
        return added(out, call, list(range(len(out))), module, tokens, seen, strength, dense)

    return edit_attention(edit_inputs(model, f"{NAME} plans", prepare), NAME, edit, sites=SITES)


def losses(
    model, compressor: Compressor | None, draw: Draw, rng: Random, settings: Settings = USUAL, dropout: bool = True
) -> dict[str, Tensor]:
    """ "loss" of one batch, its parts "flow" and "kl", and, where objects are known, "objects". model: of
    `with_adapter`."""
    batch = draw(rng)
    seed = rng.getrandbits(60)
    plans, nats = batch.features, None
    noise = torch.Generator().manual_seed(rng.getrandbits(60))
    if compressor is not None:
        mean, logvar = compressor(batch.features)
        plans = sample(mean, logvar, torch.randn(mean.shape, generator=noise).to(mean))
        nats = kl(mean, logvar).mean()
    if settings.grid:
        plans = pooled(plans, settings.grid)
    levels = torch.rand(len(plans), generator=noise).to(plans)
    plans = noisy_plan(plans, levels, torch.randn(plans.shape, generator=noise).to(plans), settings.tau)
    conds = batch.conds
    if dropout:
        conds, plans = left_out(batch, plans, rng)
    shown = flow_matching.Batch(batch.latents, conds, batch.cover, {PLANS: plans})
    found = flow_matching.losses(model, shown, seed, settings.dtype)
    if nats is None:
        return found
    return found | {"loss": found["loss"] + settings.beta * nats, "flow": found["loss"].detach(), "kl": nats.detach()}


def pooled(plans: Tensor, grid: tuple[int, int]) -> Tensor:
    """Plans [n, time, rows, columns, dims] with means over as many rows and columns as `grid` has, as Edit Plan makes
    them smaller."""
    small = nn.functional.adaptive_avg_pool2d(plans.flatten(0, 1).movedim(-1, 1), grid)
    return small.movedim(1, -1).unflatten(0, plans.shape[:2])


def left_out(batch: Batch, plans: Tensor, rng: Random) -> tuple[list[dict], Tensor]:
    """Conds and plans of a batch, some texts empty and some plans zero."""
    conds, keep = list(batch.conds), torch.ones(len(plans))
    for i in range(len(conds)):
        u = rng.random()
        if u < TEXT_DROPOUT + BOTH_DROPOUT:
            conds[i] = batch.silent[i]
        if TEXT_DROPOUT <= u < TEXT_DROPOUT + BOTH_DROPOUT + PLAN_DROPOUT:
            keep[i] = 0
    return conds, plans * keep.view(-1, 1, 1, 1, 1).to(plans)


def train_plan_adapter(
    model,
    spec: PlanAdapterSpec,
    compressor: Compressor | None,
    draw: Draw,
    plan: Plan,
    export: Export,
    settings: Settings = USUAL,
) -> tuple[dict[str, Tensor], State]:
    """Trains until the plan is done or validation gets no better; returns the averaged weights, "adapter." and
    "compressor." of both. When the user interrupts, the last checkpoint stays. export(weights, state): as in
    `train_validated`. MODEL itself is left as it was. Raises ValueError as `train` does."""
    with ExitStack() as stack:
        stack.enter_context(in_training())
        model = own_copy(model)
        load_frozen(model, settings.offload)
        adapter = PlanAdapter(spec, device=model.load_device)
        initialise(adapter, plan.seed)
        parts = {"adapter": adapter}
        if compressor is not None:
            parts["compressor"] = compressor.to(model.load_device)
        blocks = family_of(model).block_modules(model.model.diffusion_model)
        stack.enter_context(copying_norms(blocks))
        if settings.checkpointing:
            stack.enter_context(checkpointed(blocks))
        patched, bar = with_adapter(model, adapter), comfy.utils.ProgressBar(plan.steps or 1000)

        def loss_of(step: int, done: float) -> dict[str, Tensor]:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update_absolute(step if plan.steps else int(1000 * done))
            return losses(patched, compressor, draw, Random(f"{plan.seed}/{step}/plan"), settings)

        kept = None
        if settings.validate is not None:

            def held_out(rng: Random) -> Tensor:
                return losses(patched, compressor, settings.validate, rng, settings, dropout=False)["loss"]

            kept = Validation(held_out, settings.every, settings.patience)
        weights, state = train_validated(plan, nn.ModuleDict(parts), loss_of, export, kept)
        bar.update_absolute(bar.total)
    return weights, state


def part(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of "adapter" or "compressor" among those of `train_plan_adapter`."""
    return {key[len(name) + 1 :]: value for key, value in weights.items() if key.startswith(f"{name}.")}
