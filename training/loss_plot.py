"""Loss curves as a picture, with nothing but Pillow, which every ComfyUI has."""

import math

from PIL import Image, ImageDraw, ImageFont

SIZE, MARGIN = (700, 400), (64, 36, 16, 40)  # left, top, right, bottom
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")


def loss_plot(curves: dict[str, list[tuple[int, float]]], title: str) -> Image.Image:
    """curves: for each loss, (step, value). Values on a logarithmic axis; those that are not positive and finite are
    left out."""
    left, top, right, bottom = MARGIN[0], MARGIN[1], SIZE[0] - MARGIN[2], SIZE[1] - MARGIN[3]
    picture = Image.new("RGB", SIZE, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    kept = {
        name: [(step, math.log10(value)) for step, value in curve if value > 0 and math.isfinite(value)]
        for name, curve in curves.items()
    }
    points = [point for curve in kept.values() for point in curve]
    pen.text((left, 10), title, font=ImageFont.load_default(14), fill="black")
    if not points:
        return picture
    last = max(step for step, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    low, high = (low, high) if high - low > 1e-3 else (low - 0.05, high + 0.05)

    def place(step: float, y: float) -> tuple[float, float]:
        return left + (right - left) * step / max(last, 1), bottom - (bottom - top) * (y - low) / (high - low)

    for i in range(6):
        y = low + (high - low) * i / 5
        pen.line((left, place(0, y)[1], right, place(0, y)[1]), fill="#e0e0e0")
        pen.text((4, place(0, y)[1] - 7), f"{10**y:.4g}", font=font, fill="black")
        step = last * i / 5
        pen.text((place(step, low)[0] - 10, bottom + 6), f"{step:.0f}", font=font, fill="black")
    pen.text(((left + right) / 2, bottom + 22), "step", font=font, fill="black")
    for i, (name, curve) in enumerate(kept.items()):
        colour = COLOURS[i % len(COLOURS)]
        placed = [place(*point) for point in curve]
        if len(placed) > 1:
            pen.line(placed, fill=colour, width=2)
        elif placed:
            pen.ellipse((placed[0][0] - 2, placed[0][1] - 2, placed[0][0] + 2, placed[0][1] + 2), fill=colour)
        pen.text((right - 150, top + 4 + 16 * i), name, font=font, fill=colour)
    return picture
