"""What run.py bench attention_maps counts, on maps and masks made by hand."""

import torch

from semantic_video.benchmarks.attention_maps import fit, table


def test_the_hottest_cell_is_looked_up_in_the_frames_that_show_the_thing():
    """4 x 4 cells of 4 pixels; the thing stands in cell (1, 2), in two cells in the second frame, and is not seen in
    the third."""
    thing = torch.zeros(3, 16, 16)
    thing[0, 5, 9] = thing[1, 5, 9] = thing[1, 5, 12] = 1.0
    heat = torch.zeros(3, 16, 16)
    heat[0, 4:8, 8:12] = 0.5
    heat[0, 0, 0] = 1.0  # one hot pixel is no hot cell
    heat[1, 12:, 12:] = 1.0
    hits, blindly = fit(heat, thing)
    assert (hits, blindly) == (0.5, (1 + 2) / 2 / 16)


def test_the_page_says_what_was_left_out():
    rows = {name: {"mean": 0.5, "interval": (0.4, 0.6), "n": 9} for name in ("colour", "shape", "blindly")}
    page = table(rows, 2, "ComfyUI 0.33.0")
    assert "11 held-out prompts" in page and "Left out: 2" in page
    assert "| a cell picked blindly | 0.500 | 0.400 .. 0.600 | 9 |" in page
    assert "Left out" not in table(rows, 0, "ComfyUI 0.33.0")
