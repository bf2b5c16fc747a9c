"""Plan Adapter on a MODEL: its branch beside the self-attention (Wan) or joint attention (HunyuanVideo) of the blocks
it was trained for.

It acts on whole calls, outside of what cuts them into windows, so each latent frame sees the same part of the plan
whatever window it is rendered in; context windows see their own part.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..host.call import Call, by_crop
from ..host.editing import attend, edit_attention, left_alone
from ..host.families import family_of, hunyuan, wan
from ..host.forward import Forward
from ..host.layout import Crop
from ..host.run import Run
from ..host.schedule import ALWAYS, Interval
from ..host.weights import attach_weights
from ..kernels.plan_adapter import Group, Place, PlanAdapter, branch_parts, groups
from ..kernels.plan_spec import PlanAdapterSpec
from ..kernels.semantic_plan import SemanticPlan, check, require_covers, require_encoder
from ..kernels.ssg_adapter import Attend

NAME = "Plan Adapter"
FAMILIES = {"wan": wan, "hunyuan": hunyuan}
SITES = ("self", "joint")
Passes = Literal["both", "conditional"]


@dataclass(frozen=True, eq=False)
class PlanGuide:
    """strength: 1 = as trained, 0 = the unpatched model. fps: of the video, whose seconds the plan must cover; 0
    spreads the plan over the whole video, whatever its length. passes: which of the sampler's passes see the plan;
    "conditional" is then strengthened by CFG."""

    plan: SemanticPlan
    strength: float = 1.0
    fps: float = 0.0
    passes: Passes = "both"
    interval: Interval = ALWAYS

    def __post_init__(self):
        check(self.plan)
        if not 0.0 <= self.strength <= 2.0:
            raise ValueError(f"strength {self.strength}: must be from 0 (the model as it is) to 2 (twice as trained).")
        if not 0.0 <= self.fps <= 1000.0:
            raise ValueError(f"fps {self.fps}: must be the video's frames per second, or 0 to spread the plan over it.")
        if self.passes not in Passes.__args__:
            raise ValueError(f"passes '{self.passes}': choose one of {', '.join(Passes.__args__)}.")

    def rows(self, call: Call) -> list[int]:
        """The rows of an attention call that see the plan."""
        return list(range(len(call.q))) if self.passes == "both" else call.positive_rows


def apply(model, adapter, guide: PlanGuide):
    """A clone of `model` that follows the plan; strength 0 returns the model unchanged. adapter: of
    plan_weights.py's `load_plan_adapter`. Raises ValueError where the parts do not fit."""
    spec = adapter.model.spec
    family = require_compatible(model, spec)
    require_encoder(guide.plan, spec.encoder, spec.dims)

    def edit(call: Call, proceed) -> Tensor:
        out, forward = proceed(call), call.forward
        rows = guide.rows(call) if acts(call, spec) else []
        if not rows:
            return out
        module: PlanAdapter = forward.weights(adapter)
        tokens = forward.once((NAME, "tokens"), lambda: module.tokens(guide.plan.tokens[None].to(call.q)))
        seen = forward.once((NAME, call.crop), lambda: groups_of(spec, guide.plan.tokens.shape[:3], forward, call.crop))
        return added(out, call, rows, module, tokens, seen, guide.strength)

    def check_run(run: Run) -> None:
        if guide.fps:
            frames = family.first_frames(run.total_frames)[-1]
            require_covers(guide.plan, frames / guide.fps)

    if guide.strength == 0:
        return left_alone(model)
    patched = edit_attention(model, NAME, by_crop(edit), sites=SITES, interval=guide.interval, check=check_run)
    return attach_weights(patched, "plan_adapter", adapter)


def acts(call: Call, spec: PlanAdapterSpec) -> bool:
    """VACE's own blocks carry no video; another patch may ask with queries that are none of the video's."""
    video = call.q.shape[1] > call.before + call.after
    return call.site.block in spec.blocks and call.site.stream != "side" and video


def groups_of(spec: PlanAdapterSpec, grid: tuple[int, int, int], forward: Forward, crop: Crop) -> list[Group]:
    """Which part of a plan [time, rows, columns] each latent frame of a call sees."""
    layout, family = forward.layout, forward.family
    total_frames = forward.run.total_frames or layout.frames
    origin, scale = family.rope_axis(layout, forward.options)
    top, left, height, width = 0.0, 0.0, layout.height, layout.width
    if not crop.whole_picture:
        rows, columns = layout.patch
        top, left = crop.top / rows, crop.left / columns
        height, width = crop.video[0] / rows, crop.video[1] / columns
    place = Place(crop.frames, top, left, height, width, origin, scale)
    return groups(spec, tuple(grid), family.first_frames(total_frames), place)


def added(
    out: Tensor,
    call: Call,
    rows: list[int],
    module: PlanAdapter,
    tokens: Tensor,
    seen: list[Group],
    strength: float,
    attend: Attend = attend,
) -> Tensor:
    """`out` with the branch on the video's queries of some rows; the result of the attention itself stays as it is."""
    layout = call.forward.layout
    area = layout.height * layout.width
    video = slice(call.before, call.before + layout.frames * area)
    chosen = slice(None) if len(rows) == len(out) else rows
    out = out.clone()
    for queries, part in branch_parts(module, call.site.block, call.q[chosen, video], tokens, seen, area, attend):
        here = slice(call.before + queries.start, call.before + queries.stop)
        out[chosen, here] += strength * part
    return out


def require_compatible(model, spec: PlanAdapterSpec):
    """The model's family. Raises ValueError for a model that the adapter was not made for."""
    family = family_of(model)
    if family is not FAMILIES[spec.family]:
        raise ValueError(
            f"adapter: made for {FAMILIES[spec.family].NAME}, this model is {family.NAME}. Load the model it was made "
            "for."
        )
    module = model.model.diffusion_model
    width, heads = family.width_heads(module)
    if (width, heads) != (spec.width, spec.heads):
        raise ValueError(
            f"adapter: made for a {family.NAME} of width {spec.width} with {spec.heads} heads, this model has {width} "
            f"with {heads}. Load the model it was made for."
        )
    if spec.blocks[-1] >= (count := family.blocks(module)):
        raise ValueError(
            f"adapter: made for a model with a block {spec.blocks[-1]}, this one has {count}. Load the model it was "
            "made for."
        )
    return family
