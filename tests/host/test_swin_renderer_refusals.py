"""What Swin Renderer refuses, by name, and what it says where there is nothing to cut."""

import logging

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.host.schedule import Interval
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.masked_windows import WINDOWS


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"window": -4}, "window -4: must not be negative; 0 chooses for you"),
        ({"window": 5}, "window 5: must be even.*Use 6, or turn shift off"),
        ({"anchors": "some"}, "anchors 'some': choose one of none, first frame, rotating"),
        ({"anchor_interval": -1}, "must not be negative"),
        ({"strength": 1.5}, "strength 1.5: must be from 0"),
        ({"strength": float("nan")}, "strength nan: must be from 0"),
        ({"dense_blocks": "0-9"}, "dense_blocks: '0-9' is out of range: this model has blocks 0 to 3"),
        ({"dense_blocks": "first"}, "dense_blocks: 'first' is not a block"),
        ({"dense_blocks": "3-1"}, "dense_blocks: '3-1' is out of range"),
    ],
)
def test_bad_settings_are_refused_by_the_node(toys, config, message):
    with pytest.raises(ValueError, match=message):
        apply(toys("wan-t2v"), SwinRenderer(**config))


@pytest.mark.parametrize(("start", "end"), [(0.6, 0.4), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_bad_intervals_are_refused(start, end):
    with pytest.raises(ValueError, match="must satisfy 0 <= start <= end <= 1"):
        Interval(start, end)


def test_a_latent_that_is_no_video_is_refused(toys):
    import comfy.sample

    from semantic_video.harness.sampling import conditioning

    shot = Shot("wan-t2v")
    with pytest.raises(ValueError, match=r"latent_image: shape \(1, 16, 4, 4\) is not a video latent"):
        comfy.sample.sample(
            apply(toys("wan-t2v"), WINDOWS),
            torch.zeros(1, 16, 4, 4),
            2,
            1.0,
            "euler",
            "simple",
            conditioning(shot, 5, 1),
            conditioning(shot, 5, 2),
            torch.zeros(1, 16, 4, 4),
            disable_pbar=True,
        )


def test_it_says_when_there_is_nothing_to_cut(toys, caplog):
    with caplog.at_level(logging.INFO):
        sample(apply(toys("wan-t2v"), SwinRenderer(window=22)), Shot("wan-t2v"))
    first, last = [m for m in caplog.messages if "semantic-video" in m]
    assert (
        first
        == "[semantic-video] Swin Renderer: the video's 9 latent frames fit into one window of 22; nothing to cut."
    )
    assert last.startswith("[semantic-video] Swin Renderer: changed nothing; it looked on in all 3 steps")
