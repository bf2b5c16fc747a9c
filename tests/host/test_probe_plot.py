"""The Layer Probe's picture: each call of its pen, with places worked out by hand, and the bars as pixels."""

import pytest
from PIL import ImageColor

from semantic_video.patches.layer_probe import Report
from semantic_video.patches.probe_plot import COLOURS, probe_plot
from semantic_video.tests.host.draw_calls import black, drawn

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


GREY, RED, GREEN = "#8a8a8a", "#d62728", "#2ca02c"


def test_every_bar_and_word(monkeypatch):
    """Bars over 70 % of their block's 202.5 pixels, from 0 up or down; a block that is both is responsive."""
    report = Report(model="toy", blocks=4, sigmas=[0.9, 0.456], **VALUES)
    picture, calls = drawn(monkeypatch, probe_plot, report, "0-1", "1-2")
    assert (picture.mode, picture.size, picture.getpixel((5, 5))) == ("RGB", (900, 620), (255, 255, 255))
    titles = (
        "change of the predicted velocity when this block alone hears the empty prompt",
        "Moran's I of the text response (1: coherent, 0: noise)",
        "standard deviation of the text response",
    )
    heights = {"change": (0, 0.25, 0.5, 1), "moran": (1, 0, 0.75, 0.5), "std": (1, 1, 0.5, 0.25)}
    labels = {"change": ("4", "0"), "moran": ("0.5", "-0.5"), "std": ("3", "0")}
    wanted = [black(70, 8, "toy, 4 blocks, sigma 0.90, 0.46")]
    for row, name in enumerate(VALUES):
        top = 40 + 183 * row
        bottom = top + 137
        base = bottom - 119 / 2 if name == "moran" else bottom
        wanted.append(black(70, top, titles[row]))
        for block, (height, colour) in enumerate(zip(heights[name], (RED, GREEN, GREEN, GREY))):
            left, y = 70 + 202.5 * block, bottom - 119 * height
            box = (left + 30.375, min(y, base), left + 172.125, max(y, base))
            wanted.append(("box", pytest.approx(box), colour))
            wanted.append(("text", pytest.approx((left + 60.75, bottom + 2)), str(block), 12, "black"))
        wanted.append(("line", pytest.approx((70, base, 880, base)), "black", 1))
        wanted += [black(4, top + 14, labels[name][0]), black(4, bottom - 8, labels[name][1])]
    wanted.append(("text", (70, 598), "weak: 0-1", 12, RED))
    wanted.append(("text", (450, 598), "responsive: 1-2", 12, GREEN))
    assert calls == wanted


def test_of_many_blocks_every_second_is_numbered_and_empty_lists_are_a_dash(monkeypatch):
    report = Report(model="toy", blocks=41, sigmas=[0.5], moran=[0.0] * 41, std=[1.0] * 41, change=[1.0] * 41)
    _, calls = drawn(monkeypatch, probe_plot, report, "", "")
    words = [call[2] for call in calls if call[0] == "text"]
    numbers = [str(block) for block in range(0, 41, 2)]
    assert words[2:23] == numbers and words.count("40") == 3
    assert words[-2:] == ["weak: -", "responsive: -"]
    assert {call[2] for call in calls if call[0] == "box"} == {GREY}
