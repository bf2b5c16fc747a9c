"""What a plot draws, call by call, in place of the pixels."""

from PIL import ImageDraw, ImageFont

FONT = ImageFont.load_default(12)


class Pen:
    """As Pillow's ImageDraw; `calls` holds (what, where, ...) of each call."""

    def __init__(self):
        self.calls = []

    def text(self, place, text, *, font, fill):
        self.calls.append(("text", place, text, font.size, fill))

    def rectangle(self, box, *, fill):
        self.calls.append(("box", box, fill))

    def line(self, points, *, fill, width=1):
        flat = tuple(x for point in points for x in point) if isinstance(points[0], tuple) else points
        self.calls.append(("line", flat, fill, width))


def drawn(monkeypatch, plot, *inputs):
    """(the picture, which stays empty, what was to be drawn on it)"""
    pen, on = Pen(), []
    monkeypatch.setattr(ImageDraw, "Draw", lambda picture: on.append(picture) or pen)
    picture = plot(*inputs)
    assert on == [picture]
    return picture, pen.calls


def black(x, y, text):
    return ("text", (x, y), text, 12, "black")
