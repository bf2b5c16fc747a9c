"""Semantic Planner at work: from a prompt, or a timeline of prompts, to a plan of a whole video."""

from dataclasses import dataclass

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ..host.editing import attend
from ..host.timeline import SPANS
from ..kernels.plan_spec import PlannerSpec
from ..kernels.planner import Planner, Velocity, euler, guided, sigmas_of, text_spans
from ..kernels.semantic_plan import SemanticPlan, check, whole

MOST_TOKENS = 2**20  # of a plan: far above any that fits into memory


@dataclass(frozen=True)
class PlanRequest:
    """seconds: of the video. fps: token frames a second, rows, columns: of a token frame; 0 is what the planner was
    trained on. shift: of the noise levels, 0 as trained. seed: of the first noise."""

    seconds: float
    fps: float = 0.0
    rows: int = 0
    columns: int = 0
    steps: int = 30
    cfg: float = 4.0
    seed: int = 0
    shift: float = 0.0

    def __post_init__(self):
        for name, least in (("seconds", 1e-3), ("fps", 0), ("rows", 0), ("columns", 0), ("steps", 1), ("shift", 0)):
            if not least <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} {getattr(self, name)}: must be {least:g} or more.")

    def shape(self, spec: PlannerSpec) -> tuple[int, int, int]:
        """Token frames, rows and columns. Raises ValueError for a plan of too many tokens, or shorter than half a
        token frame."""
        fps = self.fps or spec.fps
        count, rows, columns = whole(self.seconds * fps), self.rows or spec.rows, self.columns or spec.columns
        if count < 1:
            raise ValueError(
                f"seconds {self.seconds:g}: shorter than a token frame of {1 / fps:g} seconds. Raise it, or fps."
            )
        if count * rows * columns > MOST_TOKENS:
            raise ValueError(
                f"seconds {self.seconds:g}, fps {fps:g}: a plan of {count} x {rows} x {columns} tokens, more than "
                f"{MOST_TOKENS}. Lower one of them."
            )
        return count, rows, columns


def text_of(name: str, conditioning: list, spec: PlannerSpec) -> tuple[Tensor, list[float], list[int]]:
    """(text features [1, n, text_width], seconds at which each span but the first begins, text tokens of each span) of
    a CONDITIONING: one prompt, or a timeline of them. Raises ValueError for what is neither, and for another text
    encoder's."""
    if len(conditioning) != 1:
        raise ValueError(
            f"{name}: holds {len(conditioning)} prompts (Conditioning Combine, or a schedule of hooks). Give one, or "
            "a timeline of prompts (Prompt Timeline)."
        )
    [[text, extras]] = conditioning
    if not isinstance(text, Tensor) or text.ndim != 3 or text.shape[-1] != spec.text_width:
        shape = tuple(text.shape) if isinstance(text, Tensor) else text
        raise ValueError(
            f"{name}: text features of shape {shape}; this planner was trained with those of width {spec.text_width}. "
            "Encode the prompt with the text encoder it was trained with."
        )
    if not torch.isfinite(text).all():
        raise ValueError(f"{name}: contains NaN or infinite values. Check the node that made it.")
    spoken = extras.get(SPANS)
    if not spoken:
        return text[:1], [], [text.shape[1]]
    tokens = [one.tokens for one in spoken]
    if sum(tokens) != text.shape[1]:
        raise ValueError(
            f"{name}: {text.shape[1]} text tokens, but the timeline's spans have {sum(tokens)}. A node behind the "
            "timeline has cut or replaced its text; remove it."
        )
    return text[:1], [one.span.start for one in spoken[1:]], tokens


def sample(planner, positive: list, negative: list | None, request: PlanRequest) -> SemanticPlan:
    """The plan that the planner, a model patcher around a `Planner`, draws for a prompt. Raises ValueError for inputs
    that do not fit."""
    module: Planner = planner.model
    spec = module.spec
    count, rows, columns = request.shape(spec)
    fps = request.fps or spec.fps
    device = planner.load_device

    def velocity_of(name: str, conditioning: list) -> Velocity:
        text, borders, tokens = text_of(name, conditioning, spec)
        sees = text_spans(borders, tokens, count, fps) if len(tokens) > 1 else None

        def velocity(z: Tensor, s: float) -> Tensor:
            return module(z, torch.tensor([s], device=device), text, sees, attend)

        return velocity

    needed = 64 * count * rows * columns * spec.width  # hidden activations of a block, in bytes
    against = None if negative is None or request.cfg == 1.0 else velocity_of("negative", negative)
    velocity = guided(velocity_of("positive", positive), against, request.cfg)
    comfy.model_management.load_models_gpu([planner], memory_required=needed)
    bar = comfy.utils.ProgressBar(request.steps)

    def after(step: int) -> None:
        bar.update(1)
        comfy.model_management.throw_exception_if_processing_interrupted()

    shape = (1, count, rows, columns, spec.dims)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed)).to(device)
    z = euler(velocity, noise, sigmas_of(request.steps, request.shift or spec.shift), after)
    plan = SemanticPlan(module.real(z)[0].float().cpu(), fps, spec.encoder)
    check(plan, "planner")
    return plan
