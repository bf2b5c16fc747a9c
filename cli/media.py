"""Tensors to video files, and back by the reader of the trainings."""

from fractions import Fraction
from pathlib import Path

import av
from torch import Tensor

from ..training.video_files import read_video

__all__ = ["read_video", "write_video"]


def write_video(path: Path, frames: Tensor, fps: int = 16) -> None:
    """frames: [time, height, width, 3], 0..1; lossless H.264."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264rgb", rate=Fraction(fps), options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "rgb24"
        for frame in (frames * 255).round().clamp(0, 255).byte().numpy():
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
