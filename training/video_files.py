"""Video files to frames: the one reader of this pack, and folders of videos with captions beside them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from ..kernels.video_prompt import select_frames
from ..kernels.wording import counted

ENDINGS = (".mp4", ".webm", ".mov", ".mkv", ".gif")
CHUNK = 2**20


@dataclass(frozen=True)
class CaptionedVideo:
    """A video file and what its caption file says."""

    path: Path
    caption: str

    @property
    def digest(self) -> str:
        """Of the contents of both files."""
        contents = hashlib.sha256()
        with self.path.open("rb") as file:
            while chunk := file.read(CHUNK):
                contents.update(chunk)
        return hashlib.sha256(contents.digest() + self.caption.encode()).hexdigest()[:24]


def captioned_videos(folder: str | Path) -> list[CaptionedVideo]:
    """The videos of `folder`, by name. Raises ValueError for a folder without any, and for a video without a
    caption."""
    folder, endings = Path(folder).expanduser(), ", ".join(ENDINGS)
    if not folder.is_dir():
        raise ValueError(
            f"folder '{folder}': no such folder. Give the full path of one with videos ({endings}) and a .txt beside "
            "each."
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not paths:
        raise ValueError(
            f"folder '{folder}': no videos in it. Put videos there ({endings}), each with a caption in a .txt of the "
            "same name."
        )
    return [CaptionedVideo(path, caption_of(path)) for path in paths]


def caption_of(video: Path) -> str:
    """What the .txt beside a video says, on one line. Raises ValueError where there is none, or nothing in it."""
    path = video.with_suffix(".txt")
    if not path.is_file():
        raise ValueError(f"{video.name}: no {path.name} beside it. Write what the video shows into {path}.")
    caption = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
    if not caption:
        raise ValueError(f"{path.name}: is empty. Write what {video.name} shows into it.")
    return caption


def frames_of(path: Path) -> Iterator[tuple[float | None, np.ndarray]]:
    """(seconds, picture [height, width, 3] of bytes) of each frame of a video, GIF or animated WebP, in order; seconds
    None where the file has none. Raises ValueError, naming the file, for what cannot be decoded."""
    try:
        if path.suffix.lower() == ".webp":  # which av does not read
            with Image.open(path) as file:
                for frame in ImageSequence.Iterator(file):
                    yield None, np.array(frame.convert("RGB"))
        else:
            with av.open(str(path)) as file:
                for frame in file.decode(video=0):
                    yield frame.time, frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise ValueError(
            f"{path.name}: cannot be read as a video ({error}). Convert it, for example with ffmpeg, or remove it."
        ) from None


def read_video(path: Path, length: int | None = None) -> Tensor:
    """[frames, height, width, 3], 0..1: all frames, or `length` of them evenly over the video, as VAP Reference takes
    them. Raises ValueError for what cannot be decoded, or has no frames."""
    frames = [torch.from_numpy(picture) for _, picture in frames_of(path)]
    if not frames:
        raise ValueError(f"{path.name}: has no frames. Convert it, for example with ffmpeg, or remove it.")
    video = torch.stack(frames)
    if length is not None:
        video = select_frames(video, length, "even")
    return video.float() / 255


def read_start(path: Path, length: int, width: int, height: int, fps: float = 0.0) -> Tensor:
    """The first `length` frames of a video, [length, height, width, 3], 0..1, resized to cover width x height and
    cropped in the middle; no more than these are in memory.

    fps: frames per second to take, repeating or leaving out; 0 takes the frames as they are. Raises ValueError for what
    cannot be decoded, or is shorter.
    """
    frames: list[Tensor] = []
    start = None
    for seconds, picture in frames_of(path):
        start = seconds if start is None else start
        due = len(frames) + 1  # how many frames there are once this one is in
        if fps > 0 and seconds is not None:
            due = min(int((seconds - start) * fps + 1e-3) + 1, length)
        if due > len(frames):
            frames += [covering(picture, width, height)] * (due - len(frames))  # it stands until the next one
        if len(frames) >= length:
            return torch.stack(frames)
    rate = f" at {fps:g} fps" if fps > 0 else ""
    raise ValueError(
        f"{path.name}: has {counted(len(frames), 'frame')}{rate}, length asks for {length}. "
        f"Lower length, or remove the video."
    )


def covering(picture: np.ndarray, width: int, height: int) -> Tensor:
    """A picture of bytes [any, any, 3] as [height, width, 3], 0..1: resized to cover it, the rest cut off on both
    sides."""
    from comfy.utils import common_upscale  # here: reports read videos without ComfyUI

    image = torch.from_numpy(picture).movedim(-1, 0)[None].float() / 255
    return common_upscale(image, width, height, "bicubic", "center").movedim(1, -1).clamp(0, 1)[0]
