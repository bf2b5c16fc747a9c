"""One `Run` per sampling run: made in a wrapper that ComfyUI calls around it (OUTER_SAMPLE), and gone with it, so that
nothing leaks between prompts or requests.
"""

import logging
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import comfy.samplers
import torch

from .families import Family, known_family, wan
from .feedback import Feedback
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
    transformer_options. windows: the host's handler of context windows, or None. timelines: the spans of text of those
    conditionings that have such. blocks: those of which an attention came by.
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
    windows: object = None
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
        if hasattr(windows, "frames_at_once"):  # our own
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
            windows=windows,
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
