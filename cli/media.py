"""Video files to tensors and back."""
from fractions import Fraction
from pathlib import Path

import av
import torch
from torch import Tensor


def write_video(path: Path, frames: Tensor, fps: int = 16) -> None:
    """frames: [time, height, width, 3], 0..1; H.264, even sizes."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(fps), options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in (frames * 255).round().clamp(0, 255).byte().numpy():
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


def read_video(path: Path) -> Tensor:
    """[time, height, width, 3], 0..1"""
    with av.open(str(path)) as file:
        return torch.stack([torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]).float() / 255
