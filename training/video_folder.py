"""A folder of clips as training data for an SSG Adapter: latents, text and the features of the prompted first frame,
encoded once and kept on disk."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import comfy.clip_vision
import comfy.model_management
import comfy.utils
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..host.clip import SemVidCLIP
from ..host.frozen_model import conds_of
from ..host.weights import save_weights
from ..kernels.visual_prompt import Style, paint
from ..patches.clip_mask import SpatialMask, encode, find
from .ssg_adapter import Batch
from .video_files import CaptionedVideo, captioned_videos, read_frames

SMALL = 4096  # numbers in a tensor that counts towards a fingerprint
TEXT, SILENT = "text.", "silent.safetensors"


@dataclass(frozen=True)
class Encoders:
    """The host's. clip_vision, mask_clip: either may be None. Of both, mask_clip finds the caption and clip_vision
    looks at the prompted image."""

    vae: object
    clip: object
    clip_vision: object = None
    mask_clip: SemVidCLIP | None = None

    def __post_init__(self):
        if self.clip_vision is None and self.mask_clip is None:
            raise ValueError(
                "clip_vision: missing, and mask_clip too. Connect CLIP Loader (both towers) to mask_clip, or Load "
                "CLIP Vision to clip_vision."
            )


@dataclass(frozen=True)
class Shape:
    """Of the frames to train on. fps: frames per second taken from the files, 0 as they are; style: of the prompted
    image."""

    width: int = 832
    height: int = 480
    length: int = 49
    fps: float = 16.0
    style: Style = "grey"
    feather: float = 4.0

    def __post_init__(self):
        for name, step in (("width", 16), ("height", 16)):
            if getattr(self, name) < step or getattr(self, name) % step:
                raise ValueError(f"{name} {getattr(self, name)}: must be a multiple of {step}.")
        if self.length < 1 or self.length % 4 != 1:
            raise ValueError(f"length {self.length}: must be 4 n + 1, such as 49.")


def fingerprint(module: nn.Module) -> str:
    """Of a model's names and shapes, and of its small tensors: the large ones may be on disk, or quantised."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        if value.numel() <= SMALL and not value.is_meta:
            digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def first_frame(frames: Tensor, caption: str, encoders: Encoders, style: Style, feather: float) -> Tensor:
    """CLIP features [tokens, width] of the first of frames [n, height, width, 3], prompted with its caption where a
    mask_clip is given."""
    image = frames[:1]
    if encoders.mask_clip is not None:
        image = paint(image, find(encoders.mask_clip, image, [caption], SpatialMask())[0][0], style, 1.0, feather)
    if encoders.clip_vision is None:
        return encode(encoders.mask_clip, image).penultimate_hidden_states[0]
    return encoders.clip_vision.encode_image(image, crop=False).penultimate_hidden_states[0]


def encode_text(clip, caption: str) -> dict[str, Tensor]:
    """The conditioning that the host's CLIP Text Encode makes: "text.cross_attn" and the tensors that come with it."""
    ((cond, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(caption))[:1]
    return {f"{TEXT}cross_attn": cond} | {
        f"{TEXT}{name}": value for name, value in extra.items() if isinstance(value, Tensor)
    }


def takes_image(model) -> bool:
    """Whether a MODEL is one of Wan's image-to-video models: image latents and their mask beside the noise."""
    embed = getattr(model.model.diffusion_model, "patch_embedding", None)
    return embed is not None and embed.weight.shape[1] == 2 * model.model.latent_format.latent_channels + 4


class VideoFolder:
    """The encoded clips of a folder; what is not in `cache` yet is made by `fill`. Nothing but the clips of a batch is
    in memory."""

    def __init__(self, folder: str | Path, shape: Shape, encoders: Encoders, model, cache: Path):
        self.clips, self.shape, self.encoders, self.model, self.cache = (
            captioned_videos(folder),
            shape,
            encoders,
            model,
            cache,
        )
        self.folder = Path(folder)
        self.image, self.branch = takes_image(model), getattr(model.model.diffusion_model, "img_emb", None) is not None
        if self.branch and encoders.clip_vision is None:
            raise ValueError(
                "clip_vision: missing. This model looks at its start image with CLIP; connect Load CLIP Vision "
                "(clip_vision_h)."
            )
        modules = [
            encoders.vae.first_stage_model,
            encoders.clip.cond_stage_model,
            getattr(encoders.clip_vision, "model", None),
            getattr(encoders.mask_clip, "vision", None),
        ]
        self.key = (
            "".join(fingerprint(module) for module in modules if module is not None)
            + f"{shape}{self.image}{self.branch}"
        )

    def path_of(self, clip: CaptionedVideo | None) -> Path:
        name = f"{clip.digest} {clip.caption}" if clip else "silent"
        digest = hashlib.sha256(f"{name} {self.key}".encode()).hexdigest()[:24]
        return self.cache / f"{clip.path.stem if clip else 'silent'}-{digest}.safetensors"

    def fill(self) -> None:
        """Encodes what is missing, clip by clip; what is done stays when interrupted. Raises ValueError, naming the
        file, for clips that cannot be used."""
        missing = [clip for clip in (None, *self.clips) if not self.path_of(clip).exists()]
        progress = comfy.utils.ProgressBar(max(len(missing), 1))
        for clip in missing:
            comfy.model_management.throw_exception_if_processing_interrupted()
            tensors = encode_text(self.encoders.clip, clip.caption if clip else "") | (
                self.encode(clip) if clip else {}
            )
            save_weights(
                {name: value.detach().cpu() for name, value in tensors.items()},
                self.path_of(clip),
                {"clip": clip.path.name if clip else ""},
            )
            progress.update(1)
        logging.info(
            "[semantic-video] %d clips, %d of them encoded now, in %s", len(self.clips), len(missing), self.cache
        )

    def encode(self, clip: CaptionedVideo) -> dict[str, Tensor]:
        shape, vae = self.shape, self.encoders.vae
        frames = read_frames(clip.path, shape.length, shape.width, shape.height, shape.fps)
        tensors = {
            "latents": vae.encode(frames),
            "features": first_frame(frames, clip.caption, self.encoders, shape.style, shape.feather),
        }
        if self.image:
            padded = torch.full_like(frames, 0.5)
            padded[:1] = frames[:1]
            tensors["image"] = vae.encode(padded)
        if self.branch:
            tensors["start"] = self.encoders.clip_vision.encode_image(frames[:1], crop=True).penultimate_hidden_states
        channels = self.model.model.latent_format.latent_channels
        if tensors["latents"].ndim != 5 or tensors["latents"].shape[1] != channels:
            raise ValueError(
                f"vae: gives latents of shape {tuple(tensors['latents'].shape)}, this model takes [1, {channels}, "
                "frames, height, width]. Load "
                "the model's own VAE."
            )
        for name, value in tensors.items():
            if not torch.isfinite(value).all():
                raise ValueError(
                    f"{clip.path.name}: its {name} are NaN or infinite. Use a VAE and a CLIP in fp32 or bf16, or "
                    "remove the clip."
                )
        return tensors

    def features_of(self, clip: CaptionedVideo) -> Tensor:
        """[tokens, width]"""
        return load_file(self.path_of(clip))["features"]

    def split(self, share: float, seed: int) -> tuple[list[CaptionedVideo], list[CaptionedVideo]]:
        """Clips to learn from, and a share of them, at least one of several, to validate on."""
        clips = list(self.clips)
        Random(f"{seed}/validation").shuffle(clips)
        count = min(max(round(share * len(clips)), 1), len(clips) - 1) if share > 0 else 0
        return clips[count:], clips[:count]

    def draw(self, clips: list[CaptionedVideo], count: int) -> Callable[[Random], Batch]:
        """`Draw` of `losses`, of `count` clips."""

        def draw(rng: Random) -> Batch:
            picks = [clip for _ in range(-(-count // len(clips))) for clip in rng.sample(clips, len(clips))][:count]
            entries, silent = [load_file(self.path_of(clip)) for clip in picks], load_file(self.path_of(None))
            device = self.model.load_device
            latents = self.model.model.process_latent_in(
                torch.cat([entry["latents"] for entry in entries]).to(device, torch.float32)
            )
            conds = [self.conds(latents[:1], entry, entry) for entry in entries]
            return Batch(
                latents,
                conds,
                [self.conds(latents[:1], silent, entry) for entry in entries],
                torch.stack([entry["features"] for entry in entries]).to(device, torch.float32),
            )

        return draw

    def conds(self, latent: Tensor, text: dict[str, Tensor], entry: dict[str, Tensor]) -> dict:
        """Conds of one clip: the text of `text`, the start image of `entry`."""
        extra = {name[len(TEXT) :]: value for name, value in text.items() if name.startswith(TEXT)}
        if self.image:
            mask = torch.ones(1, 1, *entry["image"].shape[2:])
            mask[:, :, 0] = 0
            extra |= {"concat_latent_image": entry["image"].clone(), "concat_mask": mask}
        if self.branch:
            seen = comfy.clip_vision.Output()
            seen["penultimate_hidden_states"] = entry["start"]
            extra["clip_vision_output"] = seen
        return conds_of(self.model, latent, extra.pop("cross_attn"), extra)
