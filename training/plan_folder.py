"""A folder of captioned videos as training data for a Plan Adapter and a Semantic Planner: features of a vision tower,
texts and, for an adapter, latents; encoded once, kept on disk, and drawn as batches."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import comfy.model_management
import comfy.utils
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..host.feedback import say
from ..host.frozen_model import model_conds
from ..host.vision import VisionTower
from ..host.weights import save_weights, weights_digest
from ..patches.semantic_plan import encode_video
from . import plan_adapter, planner
from .video_encoding import SMALL, TEXT, encode_text, require_latents
from .video_files import READ, CaptionedVideo, captioned_videos, read_start
from .video_folder import LONGEST_STEM, split


@dataclass(frozen=True)
class Shape:
    """Of the frames to train on. fps: of the frames taken from the files, above 0; plan_fps: token frames a second."""

    width: int
    height: int
    length: int
    fps: float
    plan_fps: float
    longest_side: int = 0

    def __post_init__(self):
        for name in ("width", "height"):
            value = getattr(self, name)
            if value < 16 or value % 16:
                raise ValueError(f"{name} {value}: must be a multiple of 16.")
        if self.length < 5 or self.length % 4 != 1:
            raise ValueError(f"length {self.length}: must be 4 n + 1, such as 81.")
        if not 0 < self.fps <= 1000:
            raise ValueError(f"fps {self.fps}: must be above 0, the video's frames per second.")

    @property
    def seconds(self) -> float:
        return self.length / self.fps


class PlanFolder:
    """The encoded videos of a folder; what is not in `cache` yet is made by `fill`. vae, model: None where no adapter
    is trained. Raises ValueError for a folder without captioned videos."""

    def __init__(
        self,
        folder: str | Path,
        shape: Shape,
        clip,
        tower: VisionTower,
        cache: Path,
        vae=None,
        compressor=None,
        model=None,
    ):
        self.shape, self.clip, self.tower, self.cache, self.vae = shape, clip, tower, cache, vae
        self.compressor = compressor  # (patcher, encoder name), or None for the tower's features
        self.videos = captioned_videos(folder)
        modules = [clip.cond_stage_model, vae.first_stage_model if vae else None]
        modules.append(compressor[0].model if compressor else None)
        prints = "".join(weights_digest(m.state_dict(), SMALL) for m in modules if m is not None)
        self.channels = model.model.latent_format.latent_channels if model else None
        self.key = f"plan {READ} {prints}{shape}{tower.name}{self.channels}"

    def __len__(self) -> int:
        return len(self.videos)

    def split(self, share: float, seed: int) -> tuple[list[CaptionedVideo], list[CaptionedVideo]]:
        return split(self.videos, share, seed)

    def path_of(self, video: CaptionedVideo | None) -> Path:
        """Of the encoded file, named after everything that it depends on; None: of the empty text."""
        contents = f"{video.digest} {video.caption}" if video else "silent"
        stem = (video.path.stem if video else "silent").encode()[:LONGEST_STEM].decode(errors="ignore")
        return self.cache / f"{stem}-{hashlib.sha256(f'{contents} {self.key}'.encode()).hexdigest()[:24]}.safetensors"

    def fill(self) -> None:
        """Encodes what is missing, video by video; what is done stays when interrupted. Raises ValueError, naming the
        file, for videos that cannot be used, and for another model's VAE."""
        missing = [video for video in (None, *self.videos) if not self.path_of(video).exists()]
        progress = comfy.utils.ProgressBar(max(len(missing), 1))
        for video in missing:
            comfy.model_management.throw_exception_if_processing_interrupted()
            tensors = encode_text(self.clip, video.caption if video else "")
            if video:
                tensors |= self.encoded(video)
            on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
            save_weights(on_cpu, self.path_of(video), {"clip": video.path.name if video else ""})
            progress.update(1)
        say(f"{len(self)} videos, {len(missing)} of them encoded now, in {self.cache}")

    def encoded(self, video: CaptionedVideo) -> dict[str, Tensor]:
        shape = self.shape
        frames = read_start(video.path, shape.length, shape.width, shape.height, shape.fps)
        plan = encode_video(self.tower, frames, shape.fps, shape.plan_fps, shape.longest_side, self.compressor)
        tensors = {"features": plan.tokens}
        if self.vae is not None:
            tensors["latents"] = self.vae.encode(frames)
            require_latents(tensors["latents"], self.channels)
        for name, value in tensors.items():
            if not torch.isfinite(value).all():
                raise ValueError(f"{video.path.name}: its {name} are NaN or infinite. Remove it, or encode in fp32.")
        return tensors

    def entry(self, video: CaptionedVideo | None) -> dict[str, Tensor]:
        return load_file(self.path_of(video))

    def drawn(self, rng: Random, count: int, videos: Sequence[CaptionedVideo] | None = None) -> list[dict[str, Tensor]]:
        """`count` of `videos`, of all for None, each once before any comes twice."""
        videos = list(videos or self.videos)
        rounds = -(-count // len(videos))
        chosen = [video for _ in range(rounds) for video in rng.sample(videos, len(videos))][:count]
        return [self.entry(video) for video in chosen]

    def for_adapter(self, model, count: int, videos: Sequence[CaptionedVideo] | None = None) -> plan_adapter.Draw:
        """Batches of `training/plan_adapter.py` beside MODEL."""

        def draw(rng: Random) -> plan_adapter.Batch:
            entries, silent = self.drawn(rng, count, videos), self.entry(None)
            device = model.load_device
            raw = torch.cat([entry["latents"] for entry in entries]).to(device, torch.float32)
            latents = model.model.process_latent_in(raw)
            features = torch.stack([entry["features"] for entry in entries]).to(device, torch.float32)
            conds = [conds_of(model, latents[:1], entry) for entry in entries]
            return plan_adapter.Batch(latents, conds, [conds_of(model, latents[:1], silent)] * count, features)

        return draw

    @property
    def encoder(self) -> str:
        """Of the plans that `entry` holds."""
        return self.compressor[1] if self.compressor else self.tower.name

    @property
    def text_width(self) -> int:
        return self.entry(None)[f"{TEXT}cross_attn"].shape[-1]

    def for_planner(
        self,
        count: int,
        device,
        videos: Sequence[CaptionedVideo] | None = None,
        grid: tuple[int, int] | None = None,
    ) -> planner.Draw:
        """Batches of `training/planner.py`, of plans that the compressor made, made smaller to `grid` by means."""

        def draw(rng: Random) -> planner.Batch:
            entries = self.drawn(rng, count, videos)
            texts, said = padded([entry[f"{TEXT}cross_attn"][0] for entry in (*entries, self.entry(None))])
            plans = torch.stack([entry["features"] for entry in entries]).to(device, torch.float32)
            plans = plan_adapter.pooled(plans, grid) if grid else plans
            texts = texts.to(device)
            masks = (None, None) if said is None else (said[:-1], said[-1:])
            return planner.Batch(plans, texts[:-1], texts[-1:], *masks)

        return draw


def conds_of(model, latent: Tensor, entry: dict[str, Tensor]) -> dict:
    extra = {name[len(TEXT) :]: value for name, value in entry.items() if name.startswith(TEXT)}
    return model_conds(model, latent, extra.pop("cross_attn"), extra)


def padded(texts: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Texts [tokens, width] of different length as one batch [n, tokens, width], with zeros behind the shorter ones;
    and which of its tokens are the texts' own, bool [n, tokens], or None for all, as where the host itself pads (T5).
    A planner at work reads a text without padding."""
    batch = torch.nn.utils.rnn.pad_sequence([text.float() for text in texts], batch_first=True)
    own = torch.arange(batch.shape[1]) < torch.tensor([[len(text)] for text in texts])
    return batch, None if own.all() else own
