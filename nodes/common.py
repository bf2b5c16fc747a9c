"""What nodes share: socket types, folders, categories, checks of pictures, and the inputs that every patch node ends
with."""

import torch
from comfy_api.latest import io

GUIDANCE = "semantic video/guidance"
SPATIAL_PROMPT = "semantic video/spatial prompt"
MODEL_PATCHES = "model_patches"  # ComfyUI's folder of adapters and experts
DTYPES = {"default": None, "fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
Clip = io.Custom("SEMVID_CLIP")
Adapter = io.Custom("SEMVID_SSG_ADAPTER")


def strength_start_end(strength: str, maximum: float = 1.0) -> list:
    """`strength` says what a higher value does."""
    return [
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.0,
            max=maximum,
            step=0.05,
            tooltip=f"{strength} 0 leaves the model exactly as it is.",
        ),
        io.Float.Input(
            "start",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="Where in the denoising schedule this begins to act: 0 is the first, noisiest step. Higher starts "
            "later.",
        ),
        io.Float.Input(
            "end",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="Where in the denoising schedule this stops acting: 1 is the last step. Lower stops earlier.",
        ),
    ]


def rgb(name: str, image: torch.Tensor) -> torch.Tensor:
    """[n, height, width, 3] of an IMAGE: alpha is dropped, grey repeated. Raises ValueError for what is no picture."""
    if image.ndim != 4 or 0 in image.shape or image.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{name}: shape {tuple(image.shape)}; an image is [frames, height, width, 1, 3 or 4 channels], with at "
            "least one frame and pixel."
        )
    if not torch.isfinite(image).all():
        raise ValueError(f"{name}: contains NaN or infinite values. Check the node that made it.")
    return image[..., :3].expand(-1, -1, -1, 3).float().clamp(0, 1)
