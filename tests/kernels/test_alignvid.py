"""Scaled keys against the published function, written out."""

import pytest
import torch

from semantic_video.kernels.alignvid import FRAMEPACK_BLOCKS, GAMMA, WAN_BLOCKS, key_scale, sharpened
from semantic_video.patches.blocks import parse_blocks


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def attention(q, k, v):
    return torch.einsum("bhqk,bkhd->bqhd", (torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5).softmax(-1), v)


def published(q, k, v, k_img, v_img, q_image=1.0, k_image=1.0, q_text=1.0, k_text=1.0):
    """In the order of the published code: the text branch gets the queries that the image branch has scaled."""
    image = 0.0
    if k_img is not None:
        k_img = k_img * k_image
        q = q * q_image
        image = attention(q, k_img, v_img)
    k = k * k_text
    q = q * q_text
    return attention(q, k, v) + image


@pytest.mark.parametrize("image_branch", [True, False])
def test_scaled_keys_are_the_published_cross_attention(image_branch):
    q, k, v = draw(2, 6, 2, 4), draw(2, 5, 2, 4, seed=1), draw(2, 5, 2, 4, seed=2)
    k_img, v_img = (draw(2, 3, 2, 4, seed=3), draw(2, 3, 2, 4, seed=4)) if image_branch else (None, None)
    got = attention(q, sharpened(k, key_scale("text", GAMMA, image_branch)), v)
    if image_branch:
        got = got + attention(q, sharpened(k_img, key_scale("image", GAMMA, image_branch)), v_img)
    torch.testing.assert_close(got, published(q, k, v, k_img, v_img, q_image=1.35, k_text=1.35), rtol=1e-12, atol=1e-12)


def test_scales():
    assert [key_scale(site, 1.5, image_branch=True) for site in ("self", "text", "image", "joint")] == [
        1.0,
        2.25,
        1.5,
        1.5,
    ]
    assert key_scale("text", 1.5, image_branch=False) == 1.5


def test_scale_one_hands_back_the_keys():
    k = draw(1, 2, 1, 4)
    assert sharpened(k, 1.0) is k
    assert key_scale("text", 1.0, image_branch=True) == 1.0


def test_published_blocks():
    wan = [0, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 25, 26, 27, 28, 29, 30, 31, 32, 37, 38]
    assert sorted(parse_blocks(WAN_BLOCKS, 40)) == wan
    framepack = [0, 2, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 25, 26, 27, 31, 33]
    assert sorted(parse_blocks(FRAMEPACK_BLOCKS, 40)) == framepack
