"""The fast convolution of the servers of tests and reports is torch's, rounded in another order."""

import pytest
import torch
from torch.nn import functional

from semantic_video.harness import conv3d

CASES = {
    "causal": ((1, 16, 4, 8, 8), (16, 16, 3, 3, 3), {}),
    "strided": ((1, 16, 4, 8, 8), (8, 16, 1, 3, 3), {"stride": (1, 2, 2), "padding": (0, 1, 1)}),
    "padded by a number": ((1, 4, 3, 8, 8), (6, 4, 3, 3, 3), {"padding": 1, "dilation": 1}),
    "groups": ((1, 8, 3, 8, 8), (8, 2, 3, 3, 3), {"groups": 4}),
    "a batch": ((2, 4, 3, 8, 8), (6, 4, 3, 3, 3), {}),
    "no batch": ((4, 3, 8, 8), (6, 4, 3, 3, 3), {}),
    "padded by name": ((1, 4, 3, 8, 8), (6, 4, 3, 3, 3), {"padding": "same"}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_same_convolution(case, bias):
    shape, kernel, options = CASES[case]
    x, weight = torch.randn(shape), torch.randn(kernel)
    b = torch.randn(kernel[0]) if bias else None
    with torch.no_grad():
        got = conv3d.convolve(x, weight, b, **options)
    torch.testing.assert_close(got, functional.conv3d(x, weight, b, **options), rtol=1e-4, atol=1e-4)


def test_gradients_and_half_precision_take_torch_s_own():
    x, weight = torch.randn(1, 4, 3, 8, 8), torch.randn(6, 4, 3, 3, 3, requires_grad=True)
    conv3d.convolve(x, weight).sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        half = conv3d.convolve(x.bfloat16(), weight.bfloat16())
        assert half.dtype == torch.bfloat16
