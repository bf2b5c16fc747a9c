"""Drift against plain loops, and on videos whose answer is known."""

import math

import pytest
import torch

from semantic_video.kernels.drift import (
    change,
    colour_drift,
    curves,
    dynamic_degree,
    ends,
    features_over_time,
    first_and_last,
    jumps,
    loop_score,
    seams,
    similarity,
    spread,
    window_borders,
)


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_measures_of_a_frame_are_what_they_say():
    frames = noise(40, 6, 8, 3)  # more than one chunk
    found = curves(frames)
    for t in (0, 31, 32, 39):
        luma = [
            [0.2126 * float(r) + 0.7152 * float(g) + 0.0722 * float(b) for r, g, b in row] for row in frames[t].double()
        ]
        flat = [value for row in luma for value in row]
        middle = sum(flat) / 48
        laplacian = [
            abs(luma[y - 1][x] + luma[y + 1][x] + luma[y][x - 1] + luma[y][x + 1] - 4 * luma[y][x])
            for y in range(1, 5)
            for x in range(1, 7)
        ]
        assert float(found.luma[t]) == pytest.approx(middle, abs=1e-6)
        assert float(found.contrast[t]) == pytest.approx(math.sqrt(sum((v - middle) ** 2 for v in flat) / 48), abs=1e-6)
        assert float(found.sharpness[t]) == pytest.approx(sum(laplacian) / 24, abs=1e-6)
        spans = [float(max(pixel) - min(pixel)) for row in frames[t].tolist() for pixel in row]
        assert float(found.saturation[t]) == pytest.approx(sum(spans) / 48, abs=1e-6)
        assert found.rgb[t].tolist() == pytest.approx(frames[t].double().mean((0, 1)).tolist(), abs=1e-6)


def test_first_and_last_part():
    assert ends(93) == (slice(0, 13), slice(80, 93))
    assert ends(3) == (slice(0, 1), slice(2, 3))
    values = torch.arange(20.0) + 1
    assert first_and_last(values) == (2.0, 19.0)
    assert change(values) == pytest.approx(17 / 2)
    assert change(values.flip(0)) == pytest.approx(-17 / 19)
    assert change(torch.zeros(20)) == 0.0
    rgb = torch.zeros(20, 3)
    rgb[17:, 1] = 0.5
    assert colour_drift(rgb) == pytest.approx(0.5)


def test_what_happens_to_a_video_is_what_is_measured():
    """Fading halves the contrast and the saturation, darkening the luma, a blur the sharpness; colours turn."""
    clip = noise(1, 16, 16, 3).expand(40, -1, -1, -1)
    fade = torch.linspace(0, 1, 40)[:, None, None, None]

    def changes(video):
        found = curves(video)
        return {name: change(getattr(found, name)) for name in ("sharpness", "luma", "contrast", "saturation")}

    assert all(abs(value) < 1e-5 for value in changes(clip).values())
    last = float(fade[-6:].mean() - fade[:6].mean())
    dark = changes(clip * (1 - 0.5 * fade))
    first = 1 - 0.5 * float(fade[:6].mean())
    assert list(dark.values()) == pytest.approx([-0.5 * last / first] * 4, abs=1e-4)
    grey = changes(torch.lerp(clip, torch.full_like(clip, 0.5), 0.5 * fade))
    assert grey["saturation"] == pytest.approx(-0.5 * last / first, abs=1e-4)
    assert grey["contrast"] == pytest.approx(-0.5 * last / first, abs=1e-4)
    assert abs(grey["luma"]) < 0.05


def test_similarity_is_the_cosine_of_both_parts():
    features = torch.zeros(20, 3)
    features[:, 0] = 1
    assert similarity(features) == pytest.approx(1.0)
    features[17:] = torch.tensor([0.6, 0.8, 0.0])
    assert similarity(features) == pytest.approx(0.6)


def test_features_are_those_of_frames_spread_over_the_video():
    assert spread(5, 9) == [0, 1, 2, 3, 4]
    assert spread(93, 4) == [0, 31, 61, 92]
    frames = noise(100, 3, 3, 3)
    asked = []

    def encode(some):
        asked.append(len(some))
        return some.flatten(1)

    picks, features = features_over_time(frames, encode, 50)
    assert picks[0] == 0 and picks[-1] == 99 and len(picks) == 50 and asked == [32, 18]
    wanted = frames[picks].flatten(1)
    torch.testing.assert_close(features, wanted / wanted.norm(dim=1, keepdim=True))


def test_jumps_and_seams():
    """A step of brightness at frame 12 of a video that gets brighter evenly."""
    level = torch.arange(20.0) / 100
    level[12:] += 0.1
    video = level[:, None, None, None].expand(-1, 32, 32, 3)
    between = jumps(video)
    wanted = math.sqrt(3) * torch.tensor([0.01] * 11 + [0.11] + [0.01] * 7)
    torch.testing.assert_close(between, wanted, atol=1e-6, rtol=0)
    assert seams(video, [12, 5]) == pytest.approx([11.0, 1.0], abs=1e-3)
    assert seams(video, [13])[0] == pytest.approx(11.0, abs=1e-3), "a decoder may spread it over two frames before"
    for wrong in ([], [0], [20]):
        with pytest.raises(ValueError, match="window borders are .* give at least one, each from 1 to 19"):
            seams(video, wrong)


def test_dynamic_degree_is_the_share_that_changes():
    video = torch.zeros(42, 32, 32, 3)
    assert dynamic_degree(video, 21) == 0.0
    video[30:, :16] = 1.0  # half of the picture, in the second window
    assert dynamic_degree(video, 21) == pytest.approx(0.25)
    assert dynamic_degree(video, 42) == pytest.approx(0.5)
    assert dynamic_degree(video[28:33], 21) == pytest.approx(0.5), "shorter than a window"
    assert dynamic_degree(video[:31], 21) == 0.0, "a rest of ten frames does not count"


def test_loops():
    drive = noise(30, 16, 16, 3).cumsum(0)
    assert loop_score(drive / drive.max()) < 0.1
    assert loop_score(noise(10, 16, 16, 3).repeat(4, 1, 1, 1)) > 0.99
    assert loop_score(noise(1, 16, 16, 3).expand(30, -1, -1, -1)) == 1.0
    assert loop_score(noise(2, 16, 16, 3)) in (0.0, 1.0), "two frames are read as well"


def test_borders_of_windows_are_their_first_video_frames():
    assert window_borders(93, 6) == [21, 45, 69]
    assert window_borders(93, 24) == [] == window_borders(93, 0)
    for window in (2, 5, 7):
        first = [0] + [4 * latent - 3 for latent in range(1, 30)]
        assert window_borders(110, window) == [first[i] for i in range(window, 29, window) if first[i] < 110]


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (5, 8, 8, 4), (8, 8, 3), (5, 2, 8, 3)])
def test_what_is_no_video_is_refused(shape):
    with pytest.raises(ValueError, match="frames: shape .* give one video"):
        curves(torch.zeros(shape))
