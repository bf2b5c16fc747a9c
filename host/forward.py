"""One `Forward` per call of the diffusion model: its token layout, noise level and batch rows. Made in a wrapper that
ComfyUI calls around it (DIFFUSION_MODEL), and gone with it, so that nothing leaks between steps or conditionings.
"""

import inspect
import logging
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any
from uuid import UUID

import torch
from torch import nn

from .families import Family, known_family
from .layout import Crop, Layout, Site, video_of
from .memory import outlives_block
from .run import RUN, Run
from .schedule import ALWAYS, EPSILON, Interval


@dataclass(eq=False)
class Forward:
    """One call of the diffusion model.

    arguments: the call's, by name; options among them as they were before any editor.
    state: what a technique keeps from block to block of this call; see `once`.
    """

    module: nn.Module
    family: Family
    layout: Layout
    arguments: dict
    options: dict
    run: Run
    state: dict = field(default_factory=dict)
    previous: Site | None = None  # the attention seen last
    parts: dict[tuple[str, bool], set[int]] = field(default_factory=dict)

    def note(self, name: str, blocks: Iterable[int] = (), changed: bool = True) -> None:
        """That a technique was asked in these blocks, and whether it changed anything there."""
        self.parts.setdefault((name, changed), set()).update(blocks)

    @torch.compiler.disable
    def close(self) -> None:
        """Once the call is over, for the run's `Feedback`."""
        if self.run.sigmas and self.parts:
            known = [self._known_crop(uuid) for uuid in self.options.get("uuids") or [None]]
            shown = [crop.frames if crop else range(self.layout.frames) for crop in known]
            self.run.feedback.note(self.parts, self.step, {frame for frames in shown for frame in frames})

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returns, made once in this call of the model and kept under `key`, which starts with the
        technique's name."""
        if key not in self.state:
            with outlives_block():
                self.state[key] = make()
        return self.state[key]

    @property
    def latent(self) -> torch.Tensor:
        """What the model sees of the video, [batch, channels, frames, height, width], image latents and guide frames
        included."""
        return video_of(self.arguments)

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """For each batch row 0 (conditional) or 1 (negative), whatever order and grouping the host chose.

        A row is negative if its conditioning is one that the guider calls so ("negative", Perp-Neg's
        "empty_negative_prompt"); "middle" of the Dual CFG Guider is conditional (our choice). Without a guider, what
        the host numbers 0 is conditional.
        """
        chunks = self.options.get("cond_or_uncond") or [0]
        uuids = self.options.get("uuids") or [None] * len(chunks)
        kinds = [self._kind(uuid, chunk) for uuid, chunk in zip(uuids, chunks)]
        each = self.latent.shape[0] // len(chunks)
        return tuple(kind for kind in kinds for _ in range(each))

    @cached_property
    def timelines(self) -> tuple[tuple | None, ...]:
        """For each batch row the spans of text of its conditioning; None where it has no timeline."""
        chunks = self.options.get("cond_or_uncond") or [0]
        uuids = self.options.get("uuids") or [None] * len(chunks)
        each = self.latent.shape[0] // len(chunks)
        return tuple(self.run.timelines.get(uuid) for uuid in uuids for _ in range(each))

    @cached_property
    def crops(self) -> tuple[Crop, ...]:
        """For each batch row the part of the video that it shows."""
        chunks = self.options.get("cond_or_uncond") or [0]
        uuids = self.options.get("uuids") or [None] * len(chunks)
        each = self.latent.shape[0] // len(chunks)
        return tuple(crop for crop in map(self._crop, uuids) for _ in range(each))

    def _crop(self, uuid: UUID | None) -> Crop:
        if crop := self._known_crop(uuid):
            return crop
        seen = (self.layout.frames, *self.latent.shape[-2:])
        self.run.say_once(
            f"another patch shows the model {seen} of the latent's {self.run.size} (frames, height, width); which "
            "part is not known, so masks, places and frame numbers are those of a video of that size.",
            logging.WARNING,
        )
        return Crop(tuple(range(seen[0])), 0, 0, *seen[1:], seen[1:])

    def _known_crop(self, uuid: UUID | None) -> Crop | None:
        """None where it is not known which part a row shows."""
        seen = (self.layout.frames, *self.latent.shape[-2:])
        axes = [range(length) for length in self.run.size or seen]
        window = self.options.get("context_window")
        if window is not None and window.dim in (2, 3, 4):
            anchor = getattr(window, "causal_anchor_index", None)
            front = (anchor,) if anchor is not None and anchor >= 0 else ()
            axes[window.dim - 2] = (*front, *window.index_list)
        if area := self.run.areas.get(uuid):  # the host takes it of the window
            axes = [axis[start : start + length] for axis, length, start in zip(axes, area, area[len(area) // 2 :])]
        if tuple(map(len, axes)) != seen:
            return None
        frames, rows, columns = axes
        return Crop(tuple(frames), rows[0], columns[0], *seen[1:], (self.run.size or seen)[1:])

    def weights(self, patcher) -> nn.Module:
        """The module of `patcher`, extra weights attached to the MODEL; on another device the copy that came along with
        the MODEL that runs there."""
        owner = next((p for p in self.run.patchers if p.model.diffusion_model is self.module), None)
        copies = owner.get_additional_models() if owner else ()
        return next((c.model for c in copies if c.clone_base_uuid == patcher.clone_base_uuid), patcher.model)

    def _kind(self, uuid: UUID | None, chunk: int) -> int:
        name = self.run.names.get(uuid) if uuid else None
        return int(chunk != 0) if name is None else int("negative" in name)

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
        """Index in the whole video of each latent frame of the grid. A context window may carry one earlier frame in
        front. Rows of different frames have no common answer: see `Call.crop`."""
        frames = {crop.frames for crop in self.crops}
        if len(frames) > 1:
            raise RuntimeError(f"the batch's rows show different frames of the video, {sorted(frames)}; use Call.crop.")
        return frames.pop()

    def site(self, options: dict, queries: int, keys: int, dim: int) -> Site | None:
        """The attention with so many queries and keys, in heads of `dim` channels; None where it is none that the
        family knows."""
        site = self.family.site(self.module, options, self.layout, queries, keys, dim, self.previous)
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
    family = known_family(module)
    if family is None:
        return None
    arguments = {**bound.arguments, **bound.arguments.get("kwargs", {})}
    options = arguments["transformer_options"]
    layout = family.layout(module, arguments)
    return Forward(module, family, layout, arguments, options, options.get(RUN) or Run())
