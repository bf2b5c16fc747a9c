"""Joining, blending and swapping plans against loops."""

import pytest
import torch

from semantic_video.kernels.plan_mixing import blend, join, place_weights, span_weights
from semantic_video.tests.kernels.test_semantic_plan import plan


def test_join_puts_one_after_the_other():
    a, b = plan(), plan(4, seed=1)
    assert torch.equal(join(a, b).tokens, torch.cat([a.tokens, b.tokens]))
    assert (join(a, b).fps, join(a, b).encoder) == (a.fps, a.encoder)


@pytest.mark.parametrize(("fade", "shared"), [(0.2, 0), (0.5, 1), (1.5, 3), (2.0, 4)])
def test_join_with_a_fade(fade, shared):
    a, b = plan(), plan(4, seed=1)
    expected = [*a.tokens[: 6 - shared]]
    for i in range(shared):
        w = (i + 1) / (shared + 1)
        expected.append((1 - w) * a.tokens[6 - shared + i] + w * b.tokens[i])
    expected += [*b.tokens[shared:]]
    torch.testing.assert_close(join(a, b, fade).tokens, torch.stack(expected))


def test_a_fade_longer_than_a_plan():
    with pytest.raises(ValueError, match=r"^fade 2\.5: longer than the shorter plan's 2 seconds\. Lower it, or hold"):
        join(plan(), plan(4), 2.5)


def test_span_weights():
    p = plan(8)
    assert span_weights(p, 1.0, 2.0).tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert span_weights(p, 0.0, 0.0).tolist() == [1] * 8
    third = torch.tensor([1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3, 0, 0])
    torch.testing.assert_close(span_weights(p, 1.0, 2.0, fade=1.0), third)


def test_blend_is_the_formula_and_swaps_bit_for_bit():
    a, b = plan(), plan(seed=1)
    torch.testing.assert_close(blend(a, b, 0.25).tokens, 0.75 * a.tokens + 0.25 * b.tokens)
    assert blend(a, b, 0.0) is a
    assert torch.equal(blend(a, b, 1.0).tokens, b.tokens)
    swapped = blend(a, b, 1.0, start=0.5, end=1.5).tokens
    assert torch.equal(swapped, torch.stack([a.tokens[0], b.tokens[1], b.tokens[2], *a.tokens[3:]]))
    soft = blend(a, b, 0.5, 0.5, 1.5, fade=0.5).tokens
    for i, w in enumerate([0.25, 0.5, 0.5, 0.25, 0, 0]):
        torch.testing.assert_close(soft[i], (1 - w) * a.tokens[i] + w * b.tokens[i])


def test_the_other_plan_may_be_longer_or_end_after_the_span():
    a, b = plan(), plan(4, seed=1)
    got = blend(a, b, 1.0, 1.0, 2.0).tokens
    assert torch.equal(got, torch.stack([*a.tokens[:2], *b.tokens[2:4], *a.tokens[4:]]))
    assert torch.equal(blend(b, a, 1.0).tokens, a.tokens[:4])
    with pytest.raises(ValueError, match=r"^other: 2 seconds, but its first 2\.5 are asked for"):
        blend(a, b, 1.0, 1.0, 2.5)
    with pytest.raises(ValueError, match=r"^other: 2 seconds, but its first 2\.5 are asked for"):
        blend(a, b, 1.0, 1.0, 2.0, fade=0.5)


def test_errors_name_the_other_plan():
    for mix in (join, blend):
        with pytest.raises(ValueError, match="^other: made by 'b'"):
            mix(plan(), plan(encoder="b"))


def test_place_weights_are_means_over_tokens():
    mask = torch.zeros(1, 4, 6)
    mask[0, :2, 2:5] = 1
    assert place_weights(mask, 9, 2, 3).tolist() == [[[0, 1, 0.5], [0, 0, 0]]]
    assert torch.equal(place_weights(mask * 9 - (1 - mask) * 3, 9, 2, 3), place_weights(mask, 9, 2, 3)), "0 to 1"
    several = torch.arange(3.0).view(3, 1, 1).expand(3, 4, 6) / 4
    got = place_weights(several, 6, 1, 1).flatten().tolist()
    assert got == [0, 0, 0.25, 0.25, 0.5, 0.5]
    assert place_weights(several, 2, 1, 1).flatten().tolist() == [0, 0.5]


def test_blend_inside_a_mask():
    a, b = plan(), plan(seed=1)
    mask = torch.zeros(1, 2, 3)
    mask[0, 0, 1] = 1
    got = blend(a, b, 1.0, mask=mask).tokens
    expected = a.tokens.clone()
    expected[:, 0, 1] = b.tokens[:, 0, 1]
    assert torch.equal(got, expected)
    moving = torch.zeros(6, 2, 3)
    for i in range(6):
        moving[i, 0, i % 3] = 1
    got = blend(a, b, 1.0, start=1.0, end=2.0, mask=moving).tokens
    expected = a.tokens.clone()
    for i in (2, 3):
        expected[i, 0, i % 3] = b.tokens[i, 0, i % 3]
    assert torch.equal(got, expected)
