"""Contact sheets: any clips, any lengths, one caption each."""

import pytest
import torch

from semantic_video.miniworld.contact_sheet import grid, world_sheet


def test_a_grid_shows_first_and_last_frame():
    clip = torch.linspace(0, 1, 9)[:, None, None, None].expand(9, 10, 10, 3)
    sheet = grid([clip, clip[:2]], ["one\ntwo lines", "a short clip"], columns=3, zoom=2)
    assert sheet.mode == "RGB"
    row = [sheet.getpixel((x, 20)) for x in range(8, 8 + 3 * 24, 24)]
    assert row == [(0, 0, 0), (128, 128, 128), (255, 255, 255)]


def test_captions_widen_the_sheet():
    clip = torch.zeros(2, 8, 8, 3)
    assert (
        grid([clip], ["a caption that is wider than two frames of eight pixels"]).width > grid([clip], ["short"]).width
    )


def test_the_world_sheet_is_seeded(tmp_path):
    sheet = world_sheet(0, 12)
    assert sheet.tobytes() == world_sheet(0, 12).tobytes() != world_sheet(1, 12).tobytes()
    sheet.save(tmp_path / "world.png")


def test_a_caption_for_each_clip():
    for clips, captions in (([], []), ([torch.zeros(2, 8, 8, 3)], [])):
        with pytest.raises(ValueError, match="one caption per clip"):
            grid(clips, captions)
