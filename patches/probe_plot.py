"""What the Layer Probe found as a picture, with nothing but Pillow, which every ComfyUI has."""

from PIL import Image, ImageDraw, ImageFont

from ..kernels.layer_probe import scaled
from .blocks import parse_blocks
from .layer_probe import Report

SIZE, MARGIN, GAP = (900, 620), (70, 40, 20, 30), 46
PANELS = (
    ("change of the predicted velocity when this block alone hears the empty prompt", "change"),
    ("Moran's I of the text response (1: coherent, 0: noise)", "moran"),
    ("standard deviation of the text response", "std"),
)
COLOURS = {"weak": "#d62728", "responsive": "#2ca02c", "": "#8a8a8a"}


def probe_plot(report: Report, weak: str, responsive: str) -> Image.Image:
    """Three bar charts over the blocks; recommended weak blocks are red, responsive ones green."""
    picture = Image.new("RGB", SIZE, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    levels = ", ".join(f"{sigma:.2f}" for sigma in report.sigmas)
    pen.text((MARGIN[0], 8), f"{report.model}, {report.blocks} blocks, sigma {levels}", font=font, fill="black")
    kinds = dict.fromkeys(parse_blocks(weak, report.blocks), "weak")
    kinds |= dict.fromkeys(parse_blocks(responsive, report.blocks), "responsive")
    height = (SIZE[1] - MARGIN[1] - MARGIN[3]) // len(PANELS)
    for row, (title, name) in enumerate(PANELS):
        top = MARGIN[1] + row * height
        panel(pen, font, title, getattr(report, name), kinds, top, top + height - GAP)
    pen.text((MARGIN[0], SIZE[1] - 22), f"weak: {weak or '-'}", font=font, fill=COLOURS["weak"])
    pen.text((SIZE[0] // 2, SIZE[1] - 22), f"responsive: {responsive or '-'}", font=font, fill=COLOURS["responsive"])
    return picture


def panel(pen, font, title: str, values: list[float], kinds: dict[int, str], top: int, bottom: int) -> None:
    left, right = MARGIN[0], SIZE[0] - MARGIN[2]
    zero, heights = scaled(values)
    pen.text((left, top), title, font=font, fill="black")
    top += 18
    base = bottom - (bottom - top) * zero
    width = (right - left) / len(values)
    every = max(len(values) // 20, 1)
    for block, height in enumerate(heights):
        x = left + block * width
        y = bottom - (bottom - top) * height
        box = (x + width * 0.15, min(y, base), x + width * 0.85, max(y, base))
        pen.rectangle(box, fill=COLOURS[kinds.get(block, "")])
        if block % every == 0:
            pen.text((x + width * 0.3, bottom + 2), str(block), font=font, fill="black")
    pen.line((left, base, right, base), fill="black")
    pen.text((4, top - 4), f"{max(values):.3g}", font=font, fill="black")
    pen.text((4, bottom - 8), f"{min(min(values), 0.0):.3g}", font=font, fill="black")
