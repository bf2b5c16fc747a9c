"""Three-dimensional convolutions of one small video on a CPU, by oneDNN.

torch takes oneDNN for them only from two videos, or 20480 values of the first four axes, on; below, its own kernel is
several times slower, and most of a mini model's time is its VAE. Same sums, rounded in another order.
"""

from torch import Tensor, float32, is_grad_enabled, mkldnn_convolution
from torch.backends import mkldnn
from torch.nn import functional

conv3d = functional.conv3d
EXPECTED = {"cpu", float32}


def use_onednn() -> None:
    if mkldnn.is_available():
        functional.conv3d = convolve


def convolve(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1, groups=1):
    """torch.nn.functional.conv3d."""
    three = [value if isinstance(value, tuple) else (value,) * 3 for value in (padding, stride, dilation)]
    small = input.ndim == 5 and len(input) == 1 and weight.shape[-1] > 1 and not isinstance(padding, str)
    if not small or is_grad_enabled() or {input.device.type, input.dtype, weight.dtype} != EXPECTED:
        return conv3d(input, weight, bias, stride, padding, dilation, groups)
    return mkldnn_convolution(input, weight, bias, *three, groups)
