"""One `Forward` per call of the diffusion model: its token layout, noise level and batch rows. One `Run` per sampling
run.

Both are made in wrappers that ComfyUI calls (OUTER_SAMPLE around a run, DIFFUSION_MODEL around each call) and die with
it, so nothing leaks between steps, conditionings, prompts or requests.
"""

import inspect
import logging
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import ModuleType

import torch
from torch import nn

from .families import FAMILIES, host_class
from .layout import Layout, Site
from .schedule import ALWAYS, EPSILON, Interval

RUN = "semantic_video_run"


@dataclass
class Run:
    """One sampling run: what is known before its first step, and which editors have come to act since.

    total_frames: latent frames of the whole video; frames: those that one model call sees (a context window, where the
    host cuts the video into such). conds: names of what conditionings carry beside their text, for the model or for the
    host to make its inputs of; texts: the raw text features of all but the negative one. size: of the latent, height
    and width. A model called outside a sampler has a Run that knows nothing: editors of the whole schedule act, others
    do not.
    """

    model_sampling: object = None
    sigmas: list[float] = field(default_factory=list)
    total_frames: int = 0
    frames: int = 0
    conds: set[str] = field(default_factory=set)
    texts: list[torch.Tensor] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    fired: set[str] = field(default_factory=set)
    said: set[str] = field(default_factory=set)

    def say_once(self, message: str) -> None:
        if message not in self.said:
            self.said.add(message)
            logging.info("[semantic-video] %s", message)

    @classmethod
    def of(cls, guider, noise: torch.Tensor, sigmas: torch.Tensor) -> "Run":
        if noise.ndim != 5:
            raise ValueError(
                f"latent_image: shape {tuple(noise.shape)} is not a video latent. Connect one of shape [batch, "
                "channels, frames, height, width]."
            )
        total = frames = noise.shape[2]
        windows = guider.model_options.get("context_handler")
        if windows is not None and getattr(windows, "dim", None) == 2:
            frames = min(frames, windows.context_length + int(getattr(windows, "causal_window_fix", False)))
        conds = {
            name
            for entries in guider.conds.values()
            for entry in entries or ()
            for name in (*entry, *entry.get("model_conds", {}))
        }
        texts = [
            entry["cross_attn"]
            for name, entries in guider.conds.items()
            if name != "negative"
            for entry in entries or ()
            if entry.get("cross_attn") is not None
        ]
        return cls(
            model_sampling=guider.model_patcher.get_model_object("model_sampling"),
            sigmas=sigmas.tolist(),
            total_frames=total,
            frames=frames,
            conds=conds,
            texts=texts,
            size=tuple(noise.shape[-2:]),
        )


@dataclass(eq=False)
class Forward:
    """One call of the diffusion model.

    arguments: the call's, by name; options among them as they were before any editor.
    rows: for each batch row 0 (positive) or 1 (negative), whatever order and grouping the host chose.
    state: what a technique keeps from block to block of this call, under its name.
    """

    module: nn.Module
    family: ModuleType
    layout: Layout
    arguments: dict
    options: dict
    run: Run
    rows: tuple[int, ...]
    state: dict = field(default_factory=dict)
    previous: Site | None = None  # the attention seen last

    @cached_property
    def sigma(self) -> float:
        return float(self.options["sigmas"][0])

    def within(self, interval: Interval) -> bool:
        return interval == ALWAYS or (
            self.run.model_sampling is not None and interval.contains(self.sigma, self.run.model_sampling)
        )

    @cached_property
    def step(self) -> int:
        """Index of this noise level in the run's schedule; levels between two steps (second-order samplers) belong to
        the former."""
        return sum(s > self.sigma + EPSILON for s in self.run.sigmas)

    @cached_property
    def frames(self) -> tuple[int, ...]:
        """Index in the whole clip of each latent frame of the grid. A context window may carry one earlier frame in
        front."""
        window = self.options.get("context_window")
        if window is None or window.dim != 2:
            return tuple(range(self.layout.frames))
        anchor = getattr(window, "causal_anchor_index", None)
        front = (anchor,) if anchor is not None and anchor >= 0 else ()
        return (*front, *window.index_list)

    def site(self, options: dict, queries: int, keys: int) -> Site | None:
        """The attention with so many queries and keys; None where it is none that the family knows."""
        site = self.family.site(self.module, options, self.layout, queries, keys, self.previous)
        self.previous = site or self.previous
        return site


@lru_cache(maxsize=64)
def _parameters(function) -> inspect.Signature:
    return inspect.signature(function)


@torch.compiler.disable
def bind(executor, args: tuple, kwargs: dict) -> inspect.BoundArguments:
    """A diffusion model's call by the names of its parameters: names survive host updates, positions do not."""
    forward = executor.class_obj._forward
    bound = _parameters(getattr(forward, "__func__", forward)).bind(executor.class_obj, *args, **kwargs)
    bound.apply_defaults()
    return bound


def read(executor, bound: inspect.BoundArguments) -> Forward | None:
    """None where the model is no longer one that is known: another pack has put its own in place."""
    module = executor.class_obj
    family = next((family for family in FAMILIES if family.accepts(module, host_class(module))), None)
    if family is None:
        return None
    arguments = {**bound.arguments, **bound.arguments.get("kwargs", {})}
    options = arguments["transformer_options"]
    chunks = options.get("cond_or_uncond") or [0]
    each = arguments["x"].shape[0] // len(chunks)
    rows = tuple(chunk for chunk in chunks for _ in range(each))
    return Forward(
        module, family, family.layout(module, arguments), arguments, options, options.get(RUN) or Run(), rows
    )
