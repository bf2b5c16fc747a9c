"""One `Forward` per call of the diffusion model: its token layout, noise level and batch rows. One `Run` per sampling
run.

Both are made in wrappers that ComfyUI calls (OUTER_SAMPLE around a run, DIFFUSION_MODEL around each call) and die with
it, so nothing leaks between steps, conditionings, prompts or requests.
"""

import inspect
import logging
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any
from uuid import UUID, uuid4

import comfy.samplers
import torch
from torch import nn

from .families import Family, known_family, wan
from .feedback import Feedback
from .layout import Crop, Layout, Site, video_of
from .own_windows import OwnWindows
from .schedule import ALWAYS, EPSILON, Interval
from .text_features import text_features
from .timeline import SPANS

RUN = "semantic_video_run"


@dataclass
class Run:
    """One sampling run: what is known before its first step, and what its editors have done and said since.

    total_frames: latent frames of the whole video; frames: those that one model call sees (a context window, where
    the host cuts the video into such); neither counts guide frames that the latent carries behind the video. conds:
    names of what conditionings carry beside their text, for the model or for the host to make its inputs of. names:
    which of the guider's conditionings ("positive", "negative", "middle", ...) a uuid belongs to; areas: the part of
    the latent it is restricted to, lengths and then offsets of (frames, height, width). size: (frames, height, width)
    of the whole video's latent. patchers: the MODELs that run, one a device. texts: the raw text features of all
    conditionings but the negative ones. family: of the model, where it is known. frame_rate: video frames a second
    that a conditioning names (LTX), or None. cfg: of the guider, 1 where it has another kind. options: the MODEL's
    transformer_options. timelines: the spans of text of those conditionings that have such. blocks: those of which an
    attention came by.
    A model called outside a sampler knows nothing: editors of the whole schedule act, others do not.
    """

    model_sampling: object = None
    sigmas: list[float] = field(default_factory=list)
    total_frames: int = 0
    frames: int = 0
    conds: set[str] = field(default_factory=set)
    names: dict[UUID, str] = field(default_factory=dict)
    size: tuple[int, int, int] | None = None
    areas: dict[UUID, list[int]] = field(default_factory=dict)
    patchers: list = field(default_factory=list)
    texts: list[torch.Tensor] = field(default_factory=list)
    family: Family | None = None
    frame_rate: float | None = None
    cfg: float = 1.0
    options: dict = field(default_factory=dict)
    timelines: dict[UUID, tuple] = field(default_factory=dict)
    blocks: set[int] = field(default_factory=set)
    feedback: Feedback = field(default_factory=Feedback)

    def first_frames(self, latents: int) -> list[int]:
        """As of the model's family; Wan's where it is not known."""
        return (self.family or wan).first_frames(latents)

    def say_once(self, message: str, level: int = logging.INFO) -> None:
        """A message for users, which begins with the technique's name: see `Feedback`."""
        self.feedback.say_once(message, level)

    @classmethod
    def of(cls, guider, noise: torch.Tensor, sigmas: torch.Tensor, latent_shapes=()) -> "Run":
        """latent_shapes: of the streams that the host has packed into `noise`, the video's first."""
        shape = tuple(noise.shape if noise.ndim == 5 or not latent_shapes else latent_shapes[0])
        if len(shape) != 5:
            raise ValueError(
                f"latent_image: shape {shape} is not a video latent. Connect one of shape [batch, channels, frames, "
                "height, width]."
            )
        module = guider.model_patcher.model.diffusion_model
        family = known_family(module)
        every = [(name, entry) for name, entries in guider.conds.items() for entry in entries or ()]
        heard = [entry for name, entry in every if "negative" not in name]
        total = frames = family.clip_frames(shape, heard) if family else shape[2]
        windows = guider.model_options.get("context_handler")
        options = guider.model_options.get("transformer_options", {})
        if isinstance(windows, OwnWindows):
            frames = windows.frames_at_once(frames, options)
        elif windows is not None and getattr(windows, "dim", None) == 2:
            frames = min(frames, windows.context_length + int(getattr(windows, "causal_window_fix", False)))
        conds = {key for _, entry in every for key in (*entry, *entry.get("model_conds", {}))}
        texts = [text_features(entry) for entry in heard if "cross_attn" in entry]
        return cls(
            model_sampling=guider.model_patcher.get_model_object("model_sampling"),
            sigmas=sigmas.tolist(),
            total_frames=total,
            frames=frames,
            conds=conds,
            names={entry.get("uuid"): name for name, entry in every},
            size=(total, *shape[3:]),
            texts=texts,
            family=family,
            frame_rate=next((float(entry["frame_rate"]) for entry in heard if "frame_rate" in entry), None),
            cfg=float(getattr(guider, "cfg", None) or 1.0),
            options=options,
            timelines={entry["uuid"]: entry[SPANS] for _, entry in every if SPANS in entry},
        )

    def prepared(self, guider) -> None:
        """Called once the host has made its model inputs. For every area in one conditioning it adds a copy to the
        others, under the uuid of the original: each such copy gets a uuid of its own, so that a uuid has one name."""
        main = guider.model_patcher
        self.patchers = [main, *main.get_additional_models_with_key("multigpu")]
        each = [(name, entry) for name, entries in guider.conds.items() for entry in entries or ()]
        copies = [(name, entry) for name, entry in each if self.names.get(entry.get("uuid")) != name]
        spans = {
            id(entry["model_conds"].get("c_crossattn")): self.timelines.get(entry["uuid"])
            for name, entry in each
            if self.names.get(entry["uuid"]) == name
        }
        for name, entry in copies:  # the text is that of the conditioning beside it, not that of the original
            entry["uuid"] = uuid4()
            self.names[entry["uuid"]] = name
            if own := spans.get(id(entry["model_conds"].get("c_crossattn"))):
                self.timelines[entry["uuid"]] = own
        for _, entry in each:
            if "area" in entry:
                self.areas[entry["uuid"]] = comfy.samplers.add_area_dims(list(entry["area"]), 3)


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
