"""Which candidate goes on best: by hand, and on videos that jump or go on."""

import pytest
import torch

from semantic_video.kernels.candidates import LEVEL, chosen_at, unevenness


def moving(*places: float) -> torch.Tensor:
    """Frames [1, 2, time, 3, 3], each of one value."""
    return torch.tensor(places).view(1, 1, -1, 1, 1).expand(1, 2, -1, 3, 3)


def test_by_hand():
    assert unevenness(moving(7.0, 2.0, 0.0), moving(3.0, 4.0, 6.0, 7.0)).tolist() == [1.0]
    assert unevenness(moving(0.0), moving(3.0, 4.0, 6.0, 7.0)).tolist() == [3.0], "nothing before the frame before"
    assert unevenness(moving(2.0, 1.0), moving(3.0)).tolist() == [2.0], "a window of one frame"
    both = torch.cat([moving(1.0, 2.0, 3.0), moving(5.0, 4.0, 2.0)])
    torch.testing.assert_close(unevenness(torch.zeros(2, 2, 2, 3, 3), both), torch.tensor([1.0, 5.0]))
    assert unevenness(moving(0.0), moving(0.0, 0.0)).isfinite().all(), "nothing moves"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_video_that_goes_on_is_better_than_one_that_jumps(dtype):
    generator = torch.Generator().manual_seed(0)
    first, way = (torch.randn(4, 16, 1, 8, 8, generator=generator) for _ in range(2))
    whole = first + 0.1 * torch.arange(9).view(1, 1, -1, 1, 1) * way
    before, own = whole[:, :, :3].to(dtype), whole[:, :, 3:]
    jumped = own + torch.randn(4, 16, 1, 8, 8, generator=generator)
    goes_on, jumps = unevenness(before, own.to(dtype)), unevenness(before, jumped.to(dtype))
    torch.testing.assert_close(goes_on, torch.full((4,), 0.5), rtol=0.05, atol=0)
    assert (jumps > 2.5).all() and jumps.dtype == torch.float32


def test_the_level_at_which_it_is_judged():
    assert chosen_at([1.0, 0.9, 0.8, 0.5, 0.0]) == 2 and LEVEL == 0.8
    assert chosen_at([1.0, 0.9, 0.85]) == 2, "a run that ends in noise: at its end"
    assert chosen_at([0.7, 0.4, 0.0]) == 0, "begins below"
