"""Video files to tensors and back."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor


def write_video(path: Path, frames: Tensor, fps: int = 16) -> None:
    """frames: [time, height, width, 3], 0..1; lossless H.264."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264rgb", rate=Fraction(fps), options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "rgb24"
        for frame in (frames * 255).round().clamp(0, 255).byte().numpy():
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


def read_video(path: Path) -> Tensor:
    """[time, height, width, 3], 0..1, of a video file or an animated WebP."""
    if path.suffix == ".webp":
        with Image.open(path) as file:
            frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(file)]
    else:
        with av.open(str(path)) as file:
            frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    return torch.from_numpy(np.stack(frames)).float() / 255
