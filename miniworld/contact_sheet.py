"""Contact sheets: a picture of clips, one row each, frames from left to right, captions underneath."""

from collections.abc import Sequence
from random import Random

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .caption import caption
from .render import render
from .scene import NOMINAL_FRAMES, sample_pair, sample_scene, sample_scenes

PAGE, INK, LINE, PAD = (250, 250, 250), (20, 20, 20), 16, 4


def grid(
    clips: Sequence[Tensor], captions: Sequence[str], columns: int = 7, zoom: float = 1.5, abreast: int = 1
) -> Image.Image:
    """A sheet with one row per clip: `columns` frames evenly from first to last, and its caption below ("\\n" starts a
    new line).

    clips: frames [time, height, width, 3], 0..1, of any lengths and sizes; zoom: enlargement of pixels; abreast: clips
    side by side. ValueError if there are not as many captions as clips.
    """
    if not len(clips) == len(captions) > 0:
        raise ValueError(
            f"got {len(clips)} clips and {len(captions)} captions; give one caption per clip and at least one clip"
        )
    cells = [_row(clip, text, columns, zoom) for clip, text in zip(clips, captions)]
    width = max(c.width for c in cells) + 4 * PAD
    rows = [cells[i : i + abreast] for i in range(0, len(cells), abreast)]
    sheet = Image.new("RGB", (width * abreast, sum(max(c.height for c in r) + 2 * PAD for r in rows) + 2 * PAD), PAGE)
    top = 2 * PAD
    for row in rows:
        for i, cell in enumerate(row):
            sheet.paste(cell, (i * width + 2 * PAD, top))
        top += max(c.height for c in row) + 2 * PAD
    return sheet


def world_sheet(seed: int = 0, scenes: int = 24) -> Image.Image:
    """The world at a glance, seeded: the motions with one object, then two-object and held-out scenes, then
    reference/target pairs. `scenes`, at least 6, is about how many."""
    rng = Random(seed)
    motions = ("left", "down", "diagonal", "circle", "grow", "shrink", "blink", "change")
    shown = [(sample_scene(rng, motion=m), "") for m in motions][: scenes // 3]
    shown += [(s, "") for s in sample_scenes(scenes // 3, seed, "train", (2,))]
    shown += [(s, "held out: ") for s in sample_scenes(max(scenes // 6, 1), seed, "heldout")]
    for m in motions[2::2][: max(scenes // 12, 1)]:
        first, second = sample_pair(rng, motion=m)
        shown += [(first, "reference: "), (second, "target: ")]
    frames = render([s for s, _ in shown], NOMINAL_FRAMES).frames
    return grid(list(frames), [label + caption(s, rng) for s, label in shown], abreast=2)


def _row(clip: Tensor, text: str, columns: int, zoom: float) -> Image.Image:
    """Sampled frames of one clip side by side over its caption."""
    picks = torch.linspace(0, len(clip) - 1, min(columns, len(clip))).round().long().tolist()
    pictures = [Image.fromarray((clip[i].clamp(0, 1) * 255).round().byte().cpu().numpy()) for i in picks]
    pictures = [p.resize((round(p.width * zoom), round(p.height * zoom)), Image.Resampling.NEAREST) for p in pictures]
    step, lines = pictures[0].width + PAD, text.split("\n")
    font = ImageFont.load_default(13)
    width = max(step * len(pictures) - PAD, *(round(font.getlength(line)) for line in lines))
    row = Image.new("RGB", (width, pictures[0].height + PAD + LINE * len(lines)), PAGE)
    for i, picture in enumerate(pictures):
        row.paste(picture, (i * step, 0))
    draw = ImageDraw.Draw(row)
    for i, line in enumerate(lines):
        draw.text((0, pictures[0].height + PAD // 2 + LINE * i), line, INK, font=font)
    return row
