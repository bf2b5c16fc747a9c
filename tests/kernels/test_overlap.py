"""Windows that overlap, against a reference that goes frame by frame."""

import pytest
import torch

from semantic_video.kernels.overlap import lead_level, overlapping, renoised


def naive(spans, lead_in, blend):
    """For each window {frame: weight}; frames in order."""
    found = []
    for number, (start, end) in enumerate(spans):
        weights = {}
        for frame in range(spans[-1][1]):
            weight, seen = (1.0, True) if start <= frame < end else (0.0, False)
            for border, rising in ((number, True), (number + 1, False)):
                if not 0 < border < len(spans):
                    continue
                cut = spans[border][0]
                share = min(blend, (cut - spans[border - 1][0]) // 2, (spans[border][1] - cut) // 2)
                if cut - share <= frame < cut + share:
                    later = (frame - (cut - share) + 1) / (2 * share + 1)
                    weight, seen = (later if rising else 1 - later), True
                if rising and cut - share - lead_in <= frame < cut - share:
                    weight, seen = 0.0, True
            if seen:
                weights[frame] = weight
        found.append(weights)
    return found


@pytest.mark.parametrize("spans", [[(0, 7)], [(0, 6), (6, 12)], [(0, 3), (3, 4), (4, 9), (9, 15)]])
@pytest.mark.parametrize("lead_in", [0, 1, 5])
@pytest.mark.parametrize("blend", [0, 1, 2, 9])
def test_frames_and_weights(spans, lead_in, blend):
    windows = overlapping(spans, lead_in, blend)
    assert [(one.first, one.last) for one in windows] == spans
    for one, expected in zip(windows, naive(spans, lead_in, blend), strict=True):
        assert one.frames == tuple(expected)
        assert one.weights == pytest.approx(list(expected.values()))
    for frame in range(spans[-1][1]):
        assert sum(w for one in windows for f, w in zip(one.frames, one.weights) if f == frame) == pytest.approx(1)


def test_an_example():
    first, second = overlapping([(0, 6), (6, 12)], lead_in=2, blend=1)
    assert first.frames == tuple(range(7))
    assert first.weights == pytest.approx([1, 1, 1, 1, 1, 2 / 3, 1 / 3])
    assert second.frames == tuple(range(3, 12))
    assert second.weights == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("level", [0.0, 0.4, 0.8, 1.0])
def test_a_frame_at_another_level_keeps_its_noise(level):
    x0, noise = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    x = 0.2 * x0 + 0.8 * noise
    torch.testing.assert_close(renoised(x, x0, 0.8, level), (1 - level) * x0 + level * noise)
    assert torch.equal(renoised(x, x0, 0.0, level), x0)


def test_how_noisy_a_lead_in_is():
    assert [lead_level(0.8, share) for share in (0.0, 0.25, 1.0)] == pytest.approx([0.0, 0.2, 0.8])
    assert [lead_level(0.8, 0.25, hidden) for hidden in (0.5, 1.0)] == pytest.approx([0.6, 1.0])
    assert lead_level(0.3, 0.0, 1.0) == lead_level(0.9, 1.0, 1.0) == 1.0
