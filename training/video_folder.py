"""A folder of videos as training data for an SSG Adapter: encoded once, kept on disk, and drawn as batches."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from random import Random

import comfy.model_management
import comfy.utils
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..host.feedback import say
from ..host.frozen_model import model_conds, vision_output
from ..host.start_image import given_mask
from ..host.video_vae import rhythm_of
from ..host.weights import save_weights
from . import parallel
from .ssg_loss import Batch, Draw
from .video_encoding import TEXT, Encoders, Inputs, Shape, encode_text, encode_video, features_of
from .video_files import READ, CaptionedVideo, captioned_videos

LONGEST_STEM = 100  # bytes of a video's name in those of its encoded file


def split(
    videos: Sequence[CaptionedVideo], share: float, seed: int
) -> tuple[list[CaptionedVideo], list[CaptionedVideo]]:
    """Videos to learn from, and a share of them, at least one of several, to validate on."""
    videos = list(videos)
    Random(f"{seed}/validation").shuffle(videos)
    count = min(max(round(share * len(videos)), 1), len(videos) - 1) if share > 0 else 0
    return videos[count:], videos[:count]


class VideoFolder:
    """The encoded videos of a folder; what is not in `cache` yet is made by `fill`. Nothing but the videos of a batch
    is in memory."""

    def __init__(self, folder: str | Path, shape: Shape, encoders: Encoders, model, cache: Path):
        self.folder, self.shape, self.encoders = Path(folder), shape, encoders
        self.model, self.cache = model, cache
        self.videos = captioned_videos(folder)
        rhythm = rhythm_of(encoders.vae)
        if not rhythm.accepts(shape.length):
            near = rhythm.nearest(shape.length)
            raise ValueError(f"length {shape.length}: must be {rhythm}, as this VAE makes videos. Try {near}.")
        self.inputs = Inputs.of(model)
        if self.inputs.branch and encoders.clip_vision is None:
            raise ValueError(
                "clip_vision: missing. This model looks at its start image with CLIP; connect Load CLIP Vision "
                "(clip_vision_h)."
            )
        self.key = f"{READ} {encoders.fingerprint}{shape}{self.inputs}"

    def __len__(self) -> int:
        return len(self.videos)

    def path_of(self, video: CaptionedVideo | None) -> Path:
        """Of the encoded file, named after everything that it depends on; None: of the empty text."""
        contents = f"{video.digest} {video.caption}" if video else "silent"
        stem = video.path.stem if video else "silent"
        stem = stem.encode()[:LONGEST_STEM].decode(errors="ignore")
        digest = hashlib.sha256(f"{contents} {self.key}".encode()).hexdigest()[:24]
        return self.cache / f"{stem}-{digest}.safetensors"

    def fill(self) -> None:
        """Encodes what is missing, video by video; what is done stays when interrupted. Several processes share the
        videos. Raises ValueError, naming the file, for videos that cannot be used."""
        mine = [video for i, video in enumerate((None, *self.videos)) if parallel.turn(i)]
        missing = [video for video in mine if not self.path_of(video).exists()]
        progress = comfy.utils.ProgressBar(max(len(missing), 1))
        for video in missing:
            comfy.model_management.throw_exception_if_processing_interrupted()
            tensors = encode_text(self.encoders.clip, video.caption if video else "")
            if video:
                tensors |= encode_video(video, self.shape, self.encoders, self.inputs)
            on_cpu = {name: value.detach().cpu() for name, value in tensors.items()}
            save_weights(on_cpu, self.path_of(video), {"clip": video.path.name if video else ""})
            progress.update(1)
        parallel.wait()
        say(f"{len(self)} videos, {len(missing)} of them encoded now, in {self.cache}")

    def blank_features(self) -> Tensor:
        """[1, tokens, width] of a black picture: of the size of all, before any video is encoded."""
        with torch.inference_mode():
            return features_of(torch.zeros(1, self.shape.height, self.shape.width, 3), self.encoders)

    def split(self, share: float, seed: int) -> tuple[list[CaptionedVideo], list[CaptionedVideo]]:
        return split(self.videos, share, seed)

    def draw(self, videos: list[CaptionedVideo], count: int) -> Draw:
        """Batches of `count` of `videos`, each once before any comes twice."""

        def draw(rng: Random) -> Batch:
            rounds = -(-count // len(videos))
            drawn = [video for _ in range(rounds) for video in rng.sample(videos, len(videos))][:count]
            entries, silent = [load_file(self.path_of(video)) for video in drawn], load_file(self.path_of(None))
            device = self.model.load_device
            raw = torch.cat([entry["latents"] for entry in entries]).to(device, torch.float32)
            latents = self.model.model.process_latent_in(raw)
            features = torch.stack([entry["features"] for entry in entries]).to(device, torch.float32)
            conds = [self.conds(latents[:1], entry, entry) for entry in entries]
            return Batch(latents, conds, [self.conds(latents[:1], silent, entry) for entry in entries], features)

        return draw

    def conds(self, latent: Tensor, text: dict[str, Tensor], entry: dict[str, Tensor]) -> dict:
        """Conds of one video: the text of `text`, the start image of `entry`."""
        extra = {name[len(TEXT) :]: value for name, value in text.items() if name.startswith(TEXT)}
        if self.inputs.image:
            image = entry["image"].clone()  # the host writes into it
            extra |= {"concat_latent_image": image, "concat_mask": 1 - given_mask(image, 1)}
        if self.inputs.branch:
            extra["clip_vision_output"] = vision_output(entry["start"])
        if self.shape.fps:
            extra["frame_rate"] = self.shape.fps  # LTX counts in seconds
        return model_conds(self.model, latent, extra.pop("cross_attn"), extra)
