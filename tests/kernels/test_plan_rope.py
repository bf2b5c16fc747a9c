"""Where a plan's tokens stand, against rules written out."""

import pytest
import torch

from semantic_video.kernels.plan_rope import grid_positions, latent_times, middles, rope_at, seen_from

FIRSTS = [0, 1, 5, 9, 13]  # 4 latent frames, 13 video frames


def test_rope_turns_each_pair_by_position_times_frequency():
    axes, theta = (6, 4, 2), 50.0
    positions = torch.tensor([[0.5, 2.0, -1.0], [3.0, 0.0, 7.5]])
    got = rope_at(positions, axes, theta)
    for row, place in enumerate(positions.tolist()):
        angles = [place[i] * theta ** (-2 * pair / n) for i, n in enumerate(axes) for pair in range(n // 2)]
        want = torch.tensor([complex(torch.tensor(a).cos(), torch.tensor(a).sin()) for a in angles])
        torch.testing.assert_close(got[row].to(torch.complex64), want.to(torch.complex64))


def test_a_grid_runs_through_time_last():
    got = grid_positions(torch.tensor([5.0, 6.0]), torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.25, 0.75]))
    want = [[t, y, x] for t in (5, 6) for y in (0, 1, 2) for x in (0.25, 0.75)]
    assert got.tolist() == want


def test_latent_frames_stand_in_the_middle_of_their_video_frames():
    assert middles(FIRSTS).tolist() == [0.5, 3.0, 7.0, 11.0]


def test_token_frames_stand_between_latent_frames():
    # two token frames: middles at 3.25 and 9.75 video frames; latent middles at 0.5, 3, 7, 11
    assert latent_times(2, FIRSTS).tolist() == pytest.approx([1 + 0.25 / 4, 2 + 2.75 / 4])
    # thirteen: the first at 0.5, and the last half a video frame behind what is four to the next
    many = latent_times(13, FIRSTS)
    assert many[0] == 0 and float(many[-1]) == pytest.approx(3 + 1.5 / 4)
    assert float(many[1]) == pytest.approx(1 / 2.5)  # from 0.5 to 3 is one latent frame


def test_as_many_tokens_as_even_latent_frames_stand_on_them():
    assert latent_times(5, [0, 4, 8, 12, 16, 20]).tolist() == [0, 1, 2, 3, 4]
    assert latent_times(3, [0, 4]).tolist() == pytest.approx([-1 / 3, 0, 1 / 3])


@pytest.mark.parametrize(("count", "seen"), [(6, 3), (6, 2), (12, 5), (3, 5), (1, 1)])
def test_a_frame_sees_the_nearest_tokens(count, seen):
    first_frames = [0, *range(1, 30, 4)]
    middle = [(a + b) / 2 * count / first_frames[-1] for a, b in zip(first_frames, first_frames[1:])]
    for at, start in zip(middle, seen_from(count, first_frames, seen)):
        chosen = range(start, min(start + seen, count))
        assert len(chosen) == min(seen, count)
        far = max(abs(j + 0.5 - at) for j in chosen)
        assert all(abs(j + 0.5 - at) >= far - 1e-9 for j in range(count) if j not in chosen)
