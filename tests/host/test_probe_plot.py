"""The bars of the Layer Probe's picture: where each stands, how high, in which colour."""

import pytest
from PIL import ImageColor

from semantic_video.patches.layer_probe import Report
from semantic_video.patches.probe_plot import COLOURS, probe_plot

LEFT, RIGHT, TOP, EACH = 70, 880, 40, 183  # pixels; of a panel, 18 above and 46 below the bars are for words
TALL = EACH - 18 - 46
VALUES = {"change": [0.0, 1.0, 2.0, 4.0], "moran": [0.5, -0.5, 0.25, 0.0], "std": [3.0, 3.0, 1.5, 0.75]}


def coloured(picture, row, block, colour, share):
    """Rows of pixels in that colour, of a panel at `share` of a block's width."""
    x = round(LEFT + (block + share) * (RIGHT - LEFT) / 4)
    top = TOP + row * EACH + 16  # below the title, whose edges are grey
    wanted = ImageColor.getrgb(colour)
    return [y for y in range(top, top + TALL + 4) if picture.getpixel((x, y)) == wanted]


@pytest.mark.parametrize("row, name", enumerate(VALUES))
def test_bars(row, name):
    report = Report(model="toy", blocks=4, sigmas=[0.9], **VALUES)
    picture = probe_plot(report, weak="1", responsive="2-3")
    values = VALUES[name]
    low, high = min(*values, 0.0), max(values)
    bottom = TOP + row * EACH + 18 + TALL
    for block, value in enumerate(values):
        colour = COLOURS[{0: "", 1: "weak", 2: "responsive", 3: "responsive"}[block]]
        pixel = TALL / (high - low)
        for share in (0.2, 0.5, 0.8):
            found = coloured(picture, row, block, colour, share)
            assert len(found) == pytest.approx(abs(value) * pixel, abs=2)
            if value:
                ends = sorted((bottom + low * pixel, bottom + (low - value) * pixel))
                assert (found[0], found[-1]) == pytest.approx(ends, abs=2)
        assert not coloured(picture, row, block, colour, 0.1) and not coloured(picture, row, block, colour, 0.9)
