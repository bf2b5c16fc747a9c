"""A video and its caption as an SSG Adapter's training takes them: latents, text, start image, and the CLIP features of
the prompted first frame."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..host.clip import SemVidCLIP
from ..host.start_image import padded_start
from ..host.weights import weights_digest
from ..kernels.visual_prompt import Style, paint
from ..patches.clip_mask import SpatialMask, encode, find
from .video_files import CaptionedVideo, read_start

SMALL = 4096  # numbers in a tensor that counts towards a fingerprint
TEXT = "text."  # what keys of a caption's tensors begin with


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
                "clip_vision: missing, and mask_clip too. Connect CLIP Loader (both towers) to mask_clip, or Load CLIP "
                "Vision to clip_vision."
            )

    @property
    def fingerprint(self) -> str:
        """Of all their weights; values of the small tensors alone, since large ones may be on disk, or quantised."""
        modules = [
            self.vae.first_stage_model,
            self.clip.cond_stage_model,
            getattr(self.clip_vision, "model", None),
            getattr(self.mask_clip, "vision", None),
        ]
        return "".join(weights_digest(module.state_dict(), SMALL) for module in modules if module is not None)


@dataclass(frozen=True)
class Shape:
    """Of the frames to train on. fps: frames per second taken from the files, 0 as they are; style, feather: of the
    prompted image."""

    width: int = 832
    height: int = 480
    length: int = 49
    fps: float = 16.0
    style: Style = "grey"
    feather: float = 4.0

    def __post_init__(self):
        for name in ("width", "height"):
            value = getattr(self, name)
            if value < 16 or value % 16:
                raise ValueError(f"{name} {value}: must be a multiple of 16.")


@dataclass(frozen=True)
class Inputs:
    """What a MODEL takes. channels: of its latents; image: latents of a start image and their mask beside the noise;
    branch: CLIP features of the start image."""

    channels: int
    image: bool
    branch: bool

    @classmethod
    def of(cls, model) -> "Inputs":
        module, channels = model.model.diffusion_model, model.model.latent_format.latent_channels
        embed = getattr(module, "patch_embedding", None)
        image = embed is not None and embed.weight.shape[1] == 2 * channels + 4
        return cls(channels, image, getattr(module, "img_emb", None) is not None)


def encode_text(clip, caption: str) -> dict[str, Tensor]:
    """The conditioning that the host's CLIP Text Encode makes: "text.cross_attn", and the tensors and switches that
    come with it."""
    ((cond, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(caption))[:1]
    tensors = {name: torch.as_tensor(value) for name, value in extra.items() if isinstance(value, (Tensor, bool))}
    return {f"{TEXT}{name}": value for name, value in ({"cross_attn": cond} | tensors).items()}


def encode_video(video: CaptionedVideo, shape: Shape, encoders: Encoders, inputs: Inputs) -> dict[str, Tensor]:
    """latents, features (of the prompted first frame) and what the model takes of a start image: image, start. Raises
    ValueError, naming the file, for videos that cannot be used, and for another model's VAE."""
    frames = read_start(video.path, shape.length, shape.width, shape.height, shape.fps)
    tensors = {
        "latents": encoders.vae.encode(frames),
        "features": prompted_features(frames[:1], video.caption, encoders, shape),
    }
    if inputs.image:
        tensors["image"] = encoders.vae.encode(padded_start(frames))
    if inputs.branch:
        tensors["start"] = encoders.clip_vision.encode_image(frames[:1], crop=True).penultimate_hidden_states
    require_latents(tensors["latents"], inputs.channels)
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ValueError(
                f"{video.path.name}: its {name} are NaN or infinite. Use a VAE and a CLIP in fp32 or bf16, or remove "
                "the video."
            )
    return tensors


def require_latents(latents: Tensor, channels: int) -> None:
    """Raises ValueError for latents that a model of so many channels does not take."""
    if latents.ndim != 5 or latents.shape[1] != channels:
        raise ValueError(
            f"vae: gives latents of shape {tuple(latents.shape)}, this model takes [1, {channels}, frames, height, "
            "width]. Load the model's own VAE."
        )


def prompted_features(image: Tensor, caption: str, encoders: Encoders, shape: Shape) -> Tensor:
    """CLIP features [tokens, width] of an image [1, height, width, 3], prompted with its caption where a mask_clip is
    given."""
    if encoders.mask_clip is not None:
        mask = find(encoders.mask_clip, image, [caption], SpatialMask())[0][0]
        image = paint(image, mask, shape.style, 1.0, shape.feather)
    return features_of(image, encoders)[0]


def features_of(image: Tensor, encoders: Encoders) -> Tensor:
    """CLIP features [1, tokens, width] of an image [1, height, width, 3]; of any image as many."""
    if encoders.clip_vision is None:
        return encode(encoders.mask_clip, image).penultimate_hidden_states
    return encoders.clip_vision.encode_image(image, crop=False).penultimate_hidden_states
