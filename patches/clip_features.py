"""Pictures as a CLIP sees them, in the form of CLIP Vision Encode, from any CLIP whose insides are open."""
import comfy.utils
import torch
from torch import Tensor

from ..host.clip import SemVidCLIP, vision_output
from ..kernels.clip_mask import Geometry
from .spatial_mask import BATCH


def encode(clip: SemVidCLIP, frames: Tensor):
    """CLIP_VISION_OUTPUT of frames [n, height, width, 3], 0..1, squashed to CLIP's square, so that its patches divide the whole picture."""
    clip.load()
    geometry = Geometry(*frames.shape[1:3], clip.size)
    progress = comfy.utils.ProgressBar(len(frames))
    parts = []
    for some in frames.split(BATCH):
        parts.append(clip.see(geometry.square(some)))
        progress.update(len(some))
    return vision_output({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, clip.size)
