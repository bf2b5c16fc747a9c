"""The start image of image-to-video models: frame by frame against what it should be."""

import torch

from semantic_video.host.start_image import given_mask, padded_start


def test_the_first_frame_stays_and_the_rest_is_grey():
    frames = torch.rand(3, 2, 4, 3, generator=torch.Generator().manual_seed(0))
    before, padded = frames.clone(), padded_start(frames)
    assert torch.equal(padded[0], frames[0]) and torch.equal(padded[1:], torch.full((2, 2, 4, 3), 0.5))
    assert torch.equal(frames, before)


def test_any_axis_may_be_time_and_any_value_grey():
    video = torch.rand(2, 3, 5, 2, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    padded = padded_start(video, 0.0, time=2)
    assert torch.equal(padded[:, :, 0], video[:, :, 0]) and not padded[:, :, 1:].any()


def test_what_is_given_is_the_first_latent_frame():
    mask = given_mask(torch.randn(2, 16, 3, 2, 5))
    assert mask.shape == (2, 4, 3, 2, 5)
    assert torch.equal(mask[:, :, 0], torch.ones(2, 4, 2, 5)) and not mask[:, :, 1:].any()
    assert given_mask(torch.randn(1, 16, 3, 2, 5), 1).shape == (1, 1, 3, 2, 5)
