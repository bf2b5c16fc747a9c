"""Moving pictures of the README and the Templates browser: clips side by side, what each is underneath."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

PAGE, INK, QUIET = (250, 250, 250), (20, 20, 20), (110, 110, 110)
SIDE, PAD, LINE, FRAMES = 224, 8, 20, 18  # px, and pictures of a loop at most


def picks(frames: Tensor, count: int = FRAMES) -> Tensor:
    """At most so many frames, evenly from first to last."""
    return frames[torch.linspace(0, len(frames) - 1, min(count, len(frames))).round().long()]


def tile(frame: Tensor, side: int = SIDE) -> Image.Image:
    """[height, width, 3], 0..1, into a square, with hard pixel edges where enlarged."""
    picture = Image.fromarray((frame.clamp(0, 1) * 255).round().byte().numpy())
    scale = side / max(picture.size)
    filters = Image.Resampling
    picture = picture.resize(
        [round(n * scale) for n in picture.size], filters.NEAREST if scale > 1 else filters.LANCZOS
    )
    square = Image.new("RGB", (side, side), PAGE)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def wrapped(text: str, font, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def sheet(tiles: Sequence[Image.Image], labels: Sequence[str], head: str) -> Image.Image:
    """`head` over the tiles, a label of at most two lines under each."""
    font, small = ImageFont.load_default(16), ImageFont.load_default(14)
    width = len(tiles) * (SIDE + PAD) + PAD
    heads = wrapped(head, font, width - 2 * PAD)
    below = [wrapped(label, small, SIDE) for label in labels]
    top = PAD + LINE * len(heads) + PAD // 2
    picture = Image.new("RGB", (width, top + SIDE + PAD + LINE * max(map(len, below)) + PAD // 2), PAGE)
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(heads):
        pen.text((PAD, PAD + LINE * number), line, INK, font=font)
    for number, (one, lines) in enumerate(zip(tiles, below)):
        left = PAD + number * (SIDE + PAD)
        picture.paste(one, (left, top))
        pen.rectangle((left - 1, top - 1, left + SIDE, top + SIDE), outline=(210, 210, 210))
        for row, line in enumerate(lines):
            pen.text((left, top + SIDE + PAD // 2 + LINE * row), line, INK if number else QUIET, font=small)
    return picture


def write_moving(path: Path, clips: Sequence[Tensor], labels: Sequence[str], head: str, seconds: float = 2.0) -> None:
    """clips: [time, height, width, 3], 0..1. Loops in `seconds`; a shorter clip waits at its end for the longest. The
    file is a WebP, whatever its name ends in: browsers go by content, and the Templates browser asks for .jpg."""
    clips = [picks(clip) for clip in clips]
    count = max(map(len, clips))
    pictures = [sheet([tile(clip[min(i, len(clip) - 1)]) for clip in clips], labels, head) for i in range(count)]
    step = round(1000 * seconds / count)
    times = [step] * (count - 1) + [step + 600 * (count > 1)]
    pictures[0].save(
        path,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=times if count > 1 else step,
        loop=0,
        quality=45,
        method=6,
    )


def drawn(lines: Sequence[str]) -> Tensor:
    """Text as a still clip [1, SIDE, SIDE, 3], for what has nothing to show."""
    picture = Image.new("RGB", (SIDE, SIDE), PAGE)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(30)
    for number, line in enumerate(lines):
        pen.text((SIDE // 2, SIDE // 2 + 40 * (number - (len(lines) - 1) / 2)), line, INK, font=font, anchor="mm")
    return torch.tensor(list(picture.getdata()), dtype=torch.float32).view(1, SIDE, SIDE, 3) / 255
