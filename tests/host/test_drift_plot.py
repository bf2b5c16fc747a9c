"""The drift plot: each call of its pen, with places worked out by hand, and pixels of the picture."""

import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.kernels.drift import Curves
from semantic_video.patches.drift import Drift, Lines, measure
from semantic_video.patches.drift_plot import BORDER, COLOURS, across, drift_plot
from semantic_video.tests.host.draw_calls import FONT, black, drawn

GREY = "#eeeeee"


def drift_of(frames, part, first, borders=()):
    first = dict(zip(("sharpness", "luma", "contrast", "saturation"), first))
    return Drift(
        frames,
        part,
        first,
        first,
        first,
        0.123,
        0.0,
        None,
        None,
        0.0,
        0.0,
        0.5,
        list(borders),
        [1.0] * len(borders),
        [],
    )


def ramp(*values, frames=21):
    """From value to value, at equal distances."""
    spread = torch.nn.functional.interpolate(torch.tensor([[values]]), size=frames, mode="linear", align_corners=True)
    return spread.flatten()


def panel(top, title, names, high, low, lines, borders=(353.5, 637.0)):
    """The calls of one panel of 21 frames, of which 3 make a part: 40.5 pixels a frame from 70, 142 high."""
    calls, x = [black(70, top, title)], 260
    for name, colour in zip(names, COLOURS):
        calls.append(("text", (x, top), name, 12, colour))
        x += 20 + round(FONT.getlength(name))
    bottom = top + 160
    calls += [("box", (70.0, top + 18, 151.0, bottom), GREY), ("box", (799.0, top + 18, 880.0, bottom), GREY)]
    calls += [("line", (x, top + 18, x, bottom), "#d62728", 1) for x in borders]
    calls += [("line", pytest.approx(points), colour, 2) for points, colour in zip(lines, COLOURS)]
    calls += [("line", (70, bottom, 880, bottom), "black", 1), black(4, top + 14, high), black(4, bottom - 8, low)]
    return [*calls, black(70, bottom + 2, "0"), black(850, bottom + 2, "20")]


def places(heights, bottom, frames=range(21)):
    """Points of a line, from heights 0..1."""
    return [x for frame, height in zip(frames, heights) for x in (70 + 40.5 * frame, bottom - 142 * height)]


def test_every_line_and_word(monkeypatch):
    """Qualities over their first part, the least of which counts as 1e-6; jumps that are none; cosines below 0."""
    drift = drift_of(21, 3, (2.0, 0.5, 0.25, 0.0), borders=(7, 14))
    curves = Curves(ramp(2.0, 4.0), ramp(0.5, 0.25), ramp(0.25, 0.25), ramp(0.0, 3e-6), torch.zeros(21, 3))
    cosines = torch.tensor([1.0, 0.0, -0.5]), torch.tensor([0.25, 0.25, 0.25])
    lines = Lines(curves, torch.zeros(20), [0, 10, 20], *cosines)
    picture, calls = drawn(monkeypatch, drift_plot, drift, lines)
    assert (picture.mode, picture.size, picture.getpixel((5, 5))) == ("RGB", (900, 680), (255, 255, 255))

    def third(*ends):
        return (ramp(*ends) / 3).tolist()

    qualities = [places(third(*ends), 200) for ends in ((1.0, 2.0), (1.0, 0.5), (1.0, 1.0), (0.0, 3.0))]
    names = ("sharpness", "luma", "contrast", "saturation")
    assert calls[0] == black(70, 8, "21 frames, quality drift 12.3 %, loop 0.50")
    wanted = panel(40, "1: as in the first part", names, "3", "0", qualities)
    still = [places([0.0] * 20, 410, range(1, 21))]
    wanted += panel(250, "jump from the frame before (RGB)", ["jump"], "1e-06", "0", still)
    clip = [places(heights, 620, (0, 10, 20)) for heights in ((1.0, 1 / 3, 0.0), (0.5, 0.5, 0.5))]
    wanted += panel(460, "CLIP cosine", ("subject (to the first part)", "text"), "1", "-0.5", clip)
    assert calls[1:] == wanted


def test_only_what_was_measured_is_drawn(monkeypatch):
    drift = drift_of(21, 3, (1.0, 1.0, 1.0, 1.0))
    curves = Curves(*[ramp(1.0, 1.0)] * 4, torch.zeros(21, 3))
    _, calls = drawn(monkeypatch, drift_plot, drift, Lines(curves, ramp(0.5, 0.5, frames=20), [], None, None))
    jumps = [places([1.0] * 20, 410, range(1, 21))]
    assert calls[17:] == panel(250, "jump from the frame before (RGB)", ["jump"], "0.5", "0", jumps, ())
    cosines = torch.tensor([0.5, 0.5])
    picture, calls = drawn(monkeypatch, drift_plot, drift, Lines(curves, torch.ones(20), [0, 20], cosines, None))
    assert picture.height == 680 and ("text", (260, 460), "subject (to the first part)", 12, COLOURS[0]) in calls
    assert "text" not in [call[2] for call in calls if call[0] == "text"]


def test_pixels_are_where_the_pen_was():
    drift, lines = measure(seeded(40, 8, 8, 3).abs().clamp(0, 1), [17])
    picture = drift_plot(drift, lines)
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(picture.height, picture.width, 3)

    def columns(colour, top, bottom):
        wanted = torch.tensor([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=torch.uint8)
        return ((pixels[top:bottom] == wanted).all(-1).any(0).nonzero().squeeze(-1)).tolist()

    assert set(columns(BORDER, 270, 400)) <= {round(across(17, drift)) + i for i in (-1, 0, 1)}
    saturation = columns(COLOURS[3], 60, 200)  # drawn last, over all of the video
    assert saturation[0] <= across(0, drift) + 2 and saturation[-1] >= across(39, drift) - 2
