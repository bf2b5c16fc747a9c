"""Visual prompt: a picture in which a mask says what matters.

    I' = m I + (1 - m) g

m: 0..1 per pixel. g: what stands where nothing matters: black, a grey level or the blurred picture.

Attention Prompting on Image (arXiv 2409.17143) paints with black and grey; blur, outline, crop, feather and strength
are our choice.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Style = Literal["darken", "grey", "blur", "outline", "crop"]


def stretched(mask: Tensor, height: int, width: int) -> Tensor:
    """Masks [n, any height, any width] as [n, height, width]."""
    if mask.shape[1:] == (height, width):
        return mask
    return F.interpolate(mask[:, None], size=(height, width), mode="bilinear", antialias=True)[:, 0]


def gaussian_blur(x: Tensor, deviation: float) -> Tensor:
    """Gaussian mean of [n, channels, height, width] with `deviation` in pixels, edges repeated. 0 returns `x` itself.

    Wide ones are taken on a smaller picture, on which they differ by less than eyes and CLIP see: a cost that does not
    grow with the deviation.
    """
    height, width = x.shape[-2:]
    shrink = int(deviation // 6)
    if shrink > 1 and min(height, width) > 2 * shrink:
        small = F.interpolate(x, size=(round(height / shrink), round(width / shrink)), mode="area")
        return F.interpolate(gaussian_blur(small, deviation / shrink), size=(height, width), mode="bilinear")
    radius = min(int(3 * deviation + 0.5), 4 * max(x.shape[-2:]))
    if radius < 1:
        return x
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device) / deviation) ** 2)
    weights = (weights / weights.sum()).view(1, 1, -1, 1)

    def along(y: Tensor, kernel: Tensor, padding: tuple[int, ...]) -> Tensor:
        return F.conv2d(F.pad(y.flatten(0, 1)[:, None], padding, mode="replicate"), kernel).view_as(y)

    return along(along(x, weights, (0, 0, radius, radius)), weights.transpose(-1, -2), (radius, radius, 0, 0))


def region(mask: Tensor, threshold: float, margin: float = 0.0) -> tuple[int, int, int, int] | None:
    """top, left, bottom, right of what lies above `threshold` in any frame of mask [n, height, width], grown by
    `margin` of its size; None if nothing does."""
    inside = (mask > threshold).any(0)
    if not inside.any():
        return None
    box = []
    for line in (inside.any(1), inside.any(0)):
        where = line.nonzero().flatten()
        start, end = int(where[0]), int(where[-1]) + 1
        grow = round(margin * (end - start))
        box.append((max(start - grow, 0), min(end + grow, len(line))))
    (top, bottom), (left, right) = box
    return top, left, bottom, right


def outline(mask: Tensor, threshold: float, width: int) -> Tensor:
    """1 on a line of about `width` pixels around what lies above `threshold`, [n, height, width]. The picture's own
    border is no contour."""
    inside = (mask > threshold).to(mask.dtype)[:, None]
    outer, inner = width // 2, (width + 1) // 2
    grown = F.max_pool2d(inside, 2 * outer + 1, stride=1, padding=outer)
    shrunk = -F.max_pool2d(-inside, 2 * inner + 1, stride=1, padding=inner)
    return (grown - shrunk)[:, 0]


def paint(
    image: Tensor,
    mask: Tensor,
    style: Style,
    strength: float = 1.0,
    feather: float = 0.0,
    grey: float = 0.5,
    blur: float = 16.0,
    colour: tuple[float, float, float] = (1.0, 0.0, 0.0),
    width: int = 4,
    threshold: float = 0.5,
) -> Tensor:
    """The prompted image of `image` [n, height, width, 3], 0..1, under `mask` [n, height, width], 0..1; strength 0
    returns `image` itself.

    feather, blur: deviations in pixels. colour, width, threshold: of the outline. "crop" is `crop`'s.
    """
    if strength == 0:
        return image
    if style == "outline":
        line = gaussian_blur(outline(mask, threshold, width)[:, None], feather).movedim(1, -1)
        return image + strength * line * (torch.tensor(colour, dtype=image.dtype, device=image.device) - image)
    keep = gaussian_blur(mask[:, None], feather).movedim(1, -1)
    other = {
        "darken": lambda: 0.0,
        "grey": lambda: grey,
        "blur": lambda: gaussian_blur(image.movedim(-1, 1), blur).movedim(1, -1),
    }[style]()
    return image + strength * (1 - keep) * (other - image)


def crop(image: Tensor, box: tuple[int, int, int, int], strength: float = 1.0) -> Tensor:
    """The part of image [n, height, width, channels] in `box`; a lower strength moves its sides towards the picture's,
    0 returns `image` itself."""
    height, width = image.shape[1:3]
    top, left, bottom, right = (round(a + strength * (b - a)) for a, b in zip((0, 0, height, width), box))
    return image[:, top:bottom, left:right]
