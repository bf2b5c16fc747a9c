"""Video files to frames: the one reader of this pack, and folders of videos with captions beside them."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
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
READ = 2  # version of how `read_start` chooses frames; in the names of what is encoded from them
ROUNDED = 1e-3  # seconds; Matroska rounds times to it
Frame = tuple[float | None, float | None, np.ndarray]


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


def listing(folder: str | Path) -> list[tuple[str, int, int]]:
    """(name, size in bytes, when written in nanoseconds) of the videos and captions in `folder`, by name; of no folder,
    none."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        return []
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (*ENDINGS, ".txt"))
    return [(path.name, status.st_size, status.st_mtime_ns) for path in paths for status in [path.stat()]]


def caption_of(video: Path) -> str:
    """What the .txt beside a video says, on one line. Raises ValueError where there is none, or nothing in it."""
    path = video.with_suffix(".txt")
    if not path.is_file():
        raise ValueError(f"{video.name}: no {path.name} beside it. Write what the video shows into {path}.")
    caption = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
    if not caption:
        raise ValueError(f"{path.name}: is empty. Write what {video.name} shows into it.")
    return caption


def frames_of(path: Path) -> Iterator[Frame]:
    """(at which second, for how many it stands, picture [height, width, 3] of bytes) of each frame of a video, GIF or
    animated WebP, in order; None where the file does not say. Raises ValueError, naming the file, for what cannot be
    decoded."""
    try:
        if path.suffix.lower() == ".webp":  # which av does not read
            with Image.open(path) as file:
                for frame in ImageSequence.Iterator(file):
                    yield None, None, np.array(frame.convert("RGB"))
        else:
            with av.open(str(path)) as file:
                for frame in file.decode(video=0):
                    stands = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else None
                    yield frame.time, stands, frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise ValueError(
            f"{path.name}: cannot be read as a video ({error}). Convert it, for example with ffmpeg, or remove it."
        ) from None


def at_rate(frames: Iterable[Frame], fps: float) -> Iterator[np.ndarray]:
    """The picture that stands at each 1 / fps of a second from the first frame on, until the last has stood; a frame
    whose file says no times comes behind the one before it, once."""
    start, end, count, picture = None, 0.0, 0, None
    for seconds, stands, following in frames:
        if start is None and seconds is not None:
            start = seconds - end
        begin = end if seconds is None else seconds - start
        while count < (begin - ROUNDED) * fps:
            yield picture
            count += 1
        picture, end = following, begin + (stands or 1 / fps)
    while count < (end - ROUNDED) * fps:
        yield picture
        count += 1


def read_video(path: Path, length: int | None = None) -> Tensor:
    """[frames, height, width, 3], 0..1: all frames, or `length` of them evenly over the video, as VAP Reference takes
    them. Raises ValueError for what cannot be decoded, or has no frames."""
    frames = [torch.from_numpy(picture) for *_, picture in frames_of(path)]
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
    found = frames_of(path)
    pictures = at_rate(found, fps) if fps > 0 else (picture for *_, picture in found)
    frames = [covering(picture, width, height) for picture in islice(pictures, length)]
    if len(frames) == length:
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
