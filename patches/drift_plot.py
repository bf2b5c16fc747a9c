"""How a video changes over time as a picture, with nothing but Pillow, which every ComfyUI has."""

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..kernels.drift import ends
from .drift import QUALITIES, Drift, Lines

WIDTH, PANEL, MARGIN, GAP = 900, 210, (70, 40, 20, 10), 50
ENDS = "#eeeeee"
BORDER = "#d62728"
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd")


def drift_plot(drift: Drift, lines: Lines) -> Image.Image:
    """Panels over time, first and last part grey: the qualities over their first part; jumps from frame to frame, with
    window borders red; CLIP's cosines where there are any."""
    qualities = [getattr(lines.curves, name) / max(drift.first[name], 1e-6) for name in QUALITIES]
    panels = [
        ("1: as in the first part", dict(zip(QUALITIES, qualities)), range(drift.frames)),
        ("jump from the frame before (RGB)", {"jump": lines.jumps}, range(1, drift.frames)),
    ]
    seen = {"subject (to the first part)": lines.subject, "text": lines.text}
    seen = {name: values for name, values in seen.items() if values is not None}
    if seen:
        panels.append(("CLIP cosine", seen, lines.picks))
    picture = Image.new("RGB", (WIDTH, MARGIN[1] + PANEL * len(panels) + MARGIN[3]), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    title = f"{drift.frames} frames, quality drift {100 * drift.drift:.1f} %, loop {drift.loop:.2f}"
    pen.text((MARGIN[0], 8), title, font=font, fill="black")
    for row, (what, series, frames) in enumerate(panels):
        top = MARGIN[1] + row * PANEL
        panel(pen, font, what, series, list(frames), drift, top, top + PANEL - GAP)
    return picture


def panel(
    pen, font, what: str, series: dict[str, Tensor], frames: list[int], drift: Drift, top: int, bottom: int
) -> None:
    pen.text((MARGIN[0], top), what, font=font, fill="black")
    x = MARGIN[0] + 190
    for name, colour in zip(series, COLOURS):
        pen.text((x, top), name, font=font, fill=colour)
        x += 20 + round(font.getlength(name))
    top += 18
    for part in ends(drift.frames):
        pen.rectangle((across(part.start, drift), top, across(part.stop - 1, drift), bottom), fill=ENDS)
    for border in drift.borders:
        pen.line((across(border, drift), top, across(border, drift), bottom), fill=BORDER)
    low = min(0.0, *(float(values.min()) for values in series.values()))
    high = max(low + 1e-6, *(float(values.max()) for values in series.values()))
    for values, colour in zip(series.values(), COLOURS):
        heights = ((values - low) / (high - low)).tolist()
        points = [(across(frame, drift), bottom - (bottom - top) * h) for frame, h in zip(frames, heights)]
        pen.line(points, fill=colour, width=2)
    pen.line((MARGIN[0], bottom, WIDTH - MARGIN[2], bottom), fill="black")
    pen.text((4, top - 4), f"{high:.3g}", font=font, fill="black")
    pen.text((4, bottom - 8), f"{low:.3g}", font=font, fill="black")
    pen.text((MARGIN[0], bottom + 2), "0", font=font, fill="black")
    pen.text((WIDTH - MARGIN[2] - 30, bottom + 2), str(drift.frames - 1), font=font, fill="black")


def across(frame: int, drift: Drift) -> float:
    return MARGIN[0] + (WIDTH - MARGIN[0] - MARGIN[2]) * frame / (drift.frames - 1)
