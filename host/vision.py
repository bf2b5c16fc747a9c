"""Vision towers that turn frames into features: a Qwen2.5-VL tower (from a folder, or inside a text encoder of
ComfyUI), ComfyUI's CLIP Vision, or the CLIP of this pack; placed and offloaded by ComfyUI."""

from collections.abc import Callable
from dataclasses import dataclass

import comfy.model_management
import torch
import torch.nn.functional as F
from comfy.text_encoders.qwen_vl import Qwen2VLVisionTransformer
from torch import Tensor

from .clip import DEVIATION, MEAN, SemVidCLIP

BATCH = 8  # pictures that CLIP looks at together
PATCHES = 2**14  # patches that Qwen looks at together; its token frames do not see each other
FINGERPRINT = 64  # weights whose signs tell a tower from another
MOST_EXTRA = 8  # class and register tokens in front of a picture's patches


@dataclass(frozen=True)
class VisionTower:
    """What SEMVID_VISION_TOWER carries. name: as plans of its features have it. frames: video frames that become one
    token frame. patchers: ComfyUI's, that own it.

    encode: (frames [n * self.frames, height, width, 3] 0..1, longest side in pixels or 0 for their own) -> [n, rows,
    columns, channels] float32 on the CPU. batch: (height, width, longest side) -> token frames to encode at once.
    """

    name: str
    frames: int
    patchers: tuple
    encode: Callable[[Tensor, int], Tensor]
    batch: Callable[[int, int, int], int]


def tower_of(source) -> VisionTower:
    """The tower of a SEMVID_VISION_TOWER, SEMVID_CLIP, CLIP_VISION or CLIP; loads it. Raises ValueError where it has
    none."""
    if isinstance(source, VisionTower):
        return source
    if isinstance(source, SemVidCLIP):
        return whole_clip_tower(source)
    if hasattr(source, "cond_stage_model"):
        return text_encoder_tower(source)
    if hasattr(source, "encode_image"):
        return clip_vision_tower(source)
    raise ValueError(f"encoder: a {type(source).__name__} has no vision tower. Connect a CLIP Vision or Vision Tower.")


# ---- Qwen2.5-VL


def text_encoder_tower(clip) -> VisionTower:
    """The tower inside a text encoder, such as Qwen-Image's or HunyuanVideo 1.5's."""
    towers = [part for part in clip.cond_stage_model.modules() if isinstance(part, Qwen2VLVisionTransformer)]
    if not towers:
        raise ValueError(
            f"encoder: the text encoder {type(clip.cond_stage_model).__name__} has no Qwen2.5-VL vision tower. Load "
            "qwen_2.5_vl_7b.safetensors with Load CLIP, type qwen_image, or connect a CLIP Vision."
        )
    comfy.model_management.load_models_gpu([clip.patcher])
    return qwen_tower(towers[0], clip.patcher, "encoder")


def qwen_tower(visual: Qwen2VLVisionTransformer, patcher, source: str) -> VisionTower:
    """Raises ValueError, naming `source`, where the tower has no weights, as in text encoders saved without it."""
    weight = visual.patch_embed.proj.weight.detach()
    if not (torch.isfinite(weight.float()).all() and 1e-5 < float(weight.float().std()) < 10):
        raise ValueError(
            f"{source}: its vision tower has no weights; the file holds the text part only. Use the whole model, such "
            "as qwen_2.5_vl_7b.safetensors."
        )
    merger = visual.merger.mlp[2]
    name = f"qwen2.5-vl {getattr(merger, 'out_features', 0) or merger.weight.shape[0]} {fingerprint(weight)}"
    pair = visual.patch_embed.temporal_patch_size

    def encode(frames: Tensor, longest: int) -> Tensor:
        rows, columns = grid_of(visual, *frames.shape[1:3], longest)
        patches, grid = qwen_patches(visual, frames.to(patcher.load_device, torch.float32), rows, columns)
        features = visual(patches, grid)
        return features.float().cpu().view(len(frames) // pair, rows, columns, -1)

    def batch(height: int, width: int, longest: int) -> int:
        rows, columns = grid_of(visual, height, width, longest)
        return max(PATCHES // (rows * columns * visual.spatial_merge_size**2), 1)

    return VisionTower(name, pair, (patcher,), encode, batch)


def grid_of(visual: Qwen2VLVisionTransformer, height: int, width: int, longest: int) -> tuple[int, int]:
    """Rows and columns of features: one for 28 x 28 pixels of the picture, whose longer side is at most `longest` (0:
    its own), rounded to whole ones."""
    side = visual.patch_size * visual.spatial_merge_size
    scale = min(longest / max(height, width), 1) if longest else 1
    return max(round(height * scale / side), 1), max(round(width * scale / side), 1)


def qwen_patches(visual: Qwen2VLVisionTransformer, frames: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Frames [n, height, width, 3], 0..1, as the tower reads them: the normalised pixels of each patch, those that will
    be merged together, [patches, 3 * frames * side * side]; and the grid [[time, height, width]] in patches."""
    side, merge, pair = visual.patch_size, visual.spatial_merge_size, visual.patch_embed.temporal_patch_size
    size = rows * merge * side, columns * merge * side
    x = F.interpolate(frames.movedim(-1, 1), size=size, mode="bicubic", antialias=True).clamp(0, 1)
    x = (x - x.new_tensor(MEAN).view(3, 1, 1)) / x.new_tensor(DEVIATION).view(3, 1, 1)
    time = len(frames) // pair
    x = x.reshape(time, pair, 3, rows, merge, side, columns, merge, side)
    x = x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    grid = torch.tensor([[time, rows * merge, columns * merge]], device=frames.device)
    return x.reshape(-1, 3 * pair * side * side), grid


# ---- CLIP


def clip_vision_tower(clip_vision) -> VisionTower:
    """ComfyUI's CLIP_VISION: its patch tokens before the last layer, of the whole picture squashed to its square."""
    config = clip_vision.config
    comfy.model_management.load_model_gpu(clip_vision.patcher)

    def states(frames: Tensor) -> Tensor:
        return clip_vision.encode_image(frames, crop=False)["penultimate_hidden_states"]

    return patch_tower(
        f"{clip_vision.model_type} {config['num_hidden_layers']} layers",
        patch_weight(clip_vision.model),
        clip_vision.image_size,
        (clip_vision.patcher,),
        states,
    )


def whole_clip_tower(clip: SemVidCLIP) -> VisionTower:
    """The image tower of a SEMVID_CLIP, as `clip_vision_tower`."""
    clip.load()

    def states(frames: Tensor) -> Tensor:
        x = frames.movedim(-1, 1)
        if x.shape[2:] != (clip.size, clip.size):
            x = F.interpolate(x, size=(clip.size, clip.size), mode="bicubic", antialias=True)
        x = (255.0 * x).clamp(0, 255).round() / 255.0  # as ComfyUI does
        return clip.encode_image(x)["penultimate_hidden_states"]

    weight = clip.vision.embeddings.patch_embedding.weight
    return patch_tower(f"clip_vision_model {clip.blocks} layers", weight, clip.size, clip.patchers[:1], states)


def patch_weight(model: torch.nn.Module) -> Tensor:
    """Of the convolution that makes patches of a picture, [channels, 3, side, side]."""
    for part in model.modules():
        if isinstance(part, torch.nn.Conv2d) and part.weight.shape[1] == 3:
            return part.weight
    raise ValueError(
        f"encoder: {type(model).__name__} does not read pictures in square patches. Use a ViT, such as clip_vision_h."
    )


def patch_tower(
    kind: str, weight: Tensor, size: int, patchers: tuple, states: Callable[[Tensor], Tensor]
) -> VisionTower:
    """A tower that looks at single pictures of size x size pixels; states: their tokens [n, tokens, channels]."""
    channels, side = weight.shape[0], weight.shape[-1]
    grid = size // side

    def encode(frames: Tensor, longest: int) -> Tensor:
        tokens = states(frames).float().cpu()
        extra = tokens.shape[1] - grid * grid
        if not 0 <= extra <= MOST_EXTRA:
            raise ValueError(
                f"encoder: gives {tokens.shape[1]} tokens, expected {grid} x {grid} patches of its {size} pixels. Use "
                "a ViT with a square picture, such as clip_vision_h."
            )
        return tokens[:, extra:].reshape(len(frames), grid, grid, -1)

    name = f"{kind} {channels} patch {side} of {size} {fingerprint(weight.detach())}"
    return VisionTower(name, 1, patchers, encode, lambda height, width, longest: BATCH)


def fingerprint(weight: Tensor) -> str:
    """16 letters of the signs of 64 weights: the same in every dtype, other for another tower."""
    flat = weight.flatten()
    chosen = flat[torch.linspace(0, flat.numel() - 1, FINGERPRINT).long().to(flat.device)].cpu()
    bits = "".join("1" if value < 0 else "0" for value in chosen.float().tolist())
    return f"{int(bits, 2):016x}"
