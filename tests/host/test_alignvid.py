"""AlignVid on the real host against the published function, written out in fp64."""

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import TOYS
from semantic_video.host.editing import edit_attention
from semantic_video.host.families import hunyuan, wan
from semantic_video.host.schedule import Interval
from semantic_video.patches.alignvid import AlignVid, apply, blocks_of
from semantic_video.tests.host import naive


def published(kind, q, k, v, gamma, image_branch):
    """q_image_scale = k_text_scale = gamma: the text branch gets the queries that the image branch has scaled."""
    if kind == "image":
        return naive.attention(q * gamma, k, v)
    if kind == "text":
        return naive.attention(q * gamma if image_branch else q, k * gamma, v)
    return naive.attention(q, k, v)


@pytest.mark.parametrize("toy", ["wan-t2v", "wan-i2v", "wan-i2v-clip"])
def test_it_is_the_published_function_on_wan(toys, toy, monkeypatch):
    """With and without an image branch: in both passes, in blocks 0 and 2, above sigma 0.9."""
    model, shot = toys(toy), Shot(toy, steps=4)
    got = sample(apply(model, AlignVid(blocks="0,2")), shot)
    acted, idle = set(), set()

    def formula(kind, q, k, v, options):
        block, sigma = options["block_index"], float(options["sigmas"][0])
        if block not in (0, 2) or sigma <= 0.9:
            idle.add((block, sigma > 0.9))
            return naive.attention(q, k, v)
        acted.add((block, tuple(options["cond_or_uncond"])))
        return published(kind, q, k, v, 1.35, toy == "wan-i2v-clip")

    plain = sample(model, shot)
    naive.in_wan(monkeypatch, formula)
    expected = sample(model, shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert {block for block, _ in acted} == {0, 2}
    assert {(0, False), (1, True)} <= idle
    assert (expected - plain).norm() > 100 * (expected - got).norm()


def test_the_trap_of_the_shared_query_matters(toys, monkeypatch):
    """With gamma instead of gamma squared on the text, the video is another."""
    model, shot = toys("wan-i2v-clip"), Shot("wan-i2v-clip", steps=4)
    got = sample(apply(model, AlignVid(gamma=2.0, interval=Interval())), shot)
    naive.in_wan(monkeypatch, lambda kind, q, k, v, options: published(kind, q, k, v, 2.0, image_branch=True))
    right = sample(model, shot)
    naive.in_wan(
        monkeypatch,
        lambda kind, q, k, v, options: naive.attention(q, k * (2.0 if kind != "self" else 1.0), v),
    )
    wrong = sample(model, shot)
    assert (got - right).norm() < 0.02 * (got - wrong).norm()


@pytest.mark.parametrize("toy", [name for name in TOYS if name.startswith("hunyuan")])
def test_joint_attention_has_all_its_keys_scaled(toys, toy):
    model, shot = toys(toy), Shot(toy)

    def edit(call, proceed):
        return naive.attention(1.5 * call.q, call.k, call.v, call.mask).flatten(2).to(call.q.dtype)

    expected = sample(edit_attention(model, "reference", edit, sites=("joint",)), shot)
    got = sample(apply(model, AlignVid(1.5, interval=Interval())), shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_strength_moves_gamma(toys):
    model, shot = toys("wan-i2v-clip"), Shot("wan-i2v-clip")
    half = sample(apply(model, AlignVid(1.5, strength=0.5)), shot)
    assert torch.equal(half, sample(apply(model, AlignVid(1.25)), shot))
    assert apply(model, AlignVid(1.0)) is model


def test_automatic_blocks():
    """The published lists where there are some: Wan of 40 blocks, and of HunyuanVideo's single blocks FramePack's."""
    published = {0, *range(2, 8), *range(10, 21), *range(25, 33), 37, 38}
    assert blocks_of(wan, 40, "auto") == published
    assert blocks_of(wan, 30, "auto") == set(range(30))
    framepack = {0, 2, 4, 5, 6, 7, *range(10, 22), 23, 25, 26, 27, 31, 33}
    assert blocks_of(hunyuan, 60, "auto") == {20 + block for block in framepack}
    assert blocks_of(hunyuan, 54, " auto ") == blocks_of(hunyuan, 54, "") == set(range(54))
    assert blocks_of(wan, 40, "1,3-4") == {1, 3, 4}
