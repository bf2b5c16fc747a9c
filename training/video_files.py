"""A folder of video files with captions beside them, and their frames."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import av
import comfy.utils
import torch
from torch import Tensor

ENDINGS = (".mp4", ".webm", ".mov", ".mkv", ".gif")


@dataclass(frozen=True)
class CaptionedVideo:
    """A video file and what its caption file says."""

    path: Path
    caption: str

    @property
    def digest(self) -> str:
        """Of the contents of both files."""
        with self.path.open("rb") as file:
            digest = (
                hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read())
            )
        return hashlib.sha256(digest.digest() + self.caption.encode()).hexdigest()[:24]


def captioned_videos(folder: str | Path) -> list[CaptionedVideo]:
    """The videos of `folder`, by name. Raises ValueError for a folder without any, and for a video without a
    caption."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"folder '{folder}': no such folder. Give the full path of one with videos ({', '.join(ENDINGS)}) and a "
            ".txt beside each."
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not paths:
        raise ValueError(
            f"folder '{folder}': no videos in it. Put clips there ({', '.join(ENDINGS)}), each with a caption in a "
            ".txt of the same name."
        )
    videos = []
    for path in paths:
        text = path.with_suffix(".txt")
        if not text.is_file():
            raise ValueError(f"{path.name}: no {text.name} beside it. Write what the clip shows into {text}.")
        caption = " ".join(text.read_text(encoding="utf-8", errors="replace").split())
        if not caption:
            raise ValueError(f"{text.name}: is empty. Write what {path.name} shows into it.")
        videos.append(CaptionedVideo(path, caption))
    return videos


def read_frames(path: Path, length: int, width: int, height: int, fps: float = 0.0) -> Tensor:
    """The first `length` frames of a video, [length, height, width, 3], 0..1, resized to cover width x height and
    cropped in the middle.

    fps: frames per second to take, repeating or leaving out; 0 takes the frames as they are. Raises ValueError for what
    cannot be decoded, or is shorter.
    """
    frames: list[Tensor] = []
    try:
        with av.open(str(path)) as file:
            start = None
            for frame in file.decode(video=0):
                start = frame.time if start is None else start
                timed = fps > 0 and frame.time is not None
                wanted = min(int((frame.time - start) * fps + 1e-3) + 1, length) if timed else len(frames) + 1
                if wanted > len(frames):
                    picture = torch.from_numpy(frame.to_ndarray(format="rgb24")).movedim(-1, 0)[None].float() / 255
                    small = (
                        comfy.utils.common_upscale(picture, width, height, "bicubic", "center")
                        .movedim(1, -1)
                        .clamp(0, 1)[0]
                    )
                    frames += [small] * (wanted - len(frames))  # a slower clip: its frame stands until the next
                if len(frames) >= length:
                    return torch.stack(frames)
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise ValueError(
            f"{path.name}: cannot be read as a video ({error}). Convert it, for example with ffmpeg, or remove it."
        ) from None
    rate = f" at {fps:g} fps" if fps > 0 else ""
    raise ValueError(
        f"{path.name}: has {len(frames)} frames{rate}, length asks for {length}. Lower length, or remove the clip."
    )
