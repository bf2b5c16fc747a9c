"""Text contrast against explicit attention."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_video.kernels.text_contrast import contrast, mean_attention


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def attention(q, k, v, mask=None):
    """Of [batch, tokens, heads, dim]: weights [batch, heads, queries, keys] and the output, written out."""
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    if mask is not None:
        logits = logits + mask
    weights = logits.softmax(-1)
    return weights, torch.einsum("bhqk,bkhd->bqhd", weights, v)


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 12), st.integers(1, 3), st.integers(0, 99))
def test_mean_attention_is_attention_of_the_mean_query(batch, queries, keys, heads, seed):
    q, k, v = (
        draw(batch, queries, heads, 4, seed=seed),
        draw(batch, keys, heads, 4, seed=seed + 1),
        draw(batch, keys, heads, 4, seed=seed + 2),
    )
    expected = attention(q.mean(1, keepdim=True), k, v)[1]
    torch.testing.assert_close(mean_attention(q, k, v), expected, rtol=1e-12, atol=1e-12)


def test_a_mask_is_averaged_as_logits_are():
    q, k, v, mask = draw(2, 5, 3, 4), draw(2, 7, 3, 4, seed=1), draw(2, 7, 3, 4, seed=2), draw(2, 1, 5, 7, seed=3)
    logits = (torch.einsum("bqhd,bkhd->bhqk", q, k) / 2 + mask).mean(2, keepdim=True)
    expected = torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v)
    torch.testing.assert_close(mean_attention(q, k, v, mask), expected, rtol=1e-12, atol=1e-12)
    keys = mask[:1, :, :1]
    torch.testing.assert_close(
        mean_attention(q, k, v, keys), attention(q.mean(1, keepdim=True), k, v, keys)[1], rtol=1e-12, atol=1e-12
    )


def test_a_boolean_mask_hides_what_no_query_sees():
    q, k, v = draw(1, 3, 2, 4), draw(1, 4, 2, 4, seed=1), draw(1, 4, 2, 4, seed=2)
    mask = torch.tensor([[True, False, False, True], [False, False, True, True], [False, False, False, True]])[
        None, None
    ]
    seen = [0, 2, 3]
    torch.testing.assert_close(
        mean_attention(q, k, v, mask),
        attention(q.mean(1, keepdim=True), k[:, seen], v[:, seen])[1],
        rtol=1e-12,
        atol=1e-12,
    )


@settings(deadline=None)
@given(st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.booleans(), st.integers(0, 99))
def test_contrast_is_the_formula_row_by_row(first, second, keep_norm, seed):
    x, base = draw(2, 6, 8, seed=seed), draw(2, 1, 8, seed=seed + 1)
    got = contrast(x, base, torch.tensor([first, second], dtype=torch.float64).view(2, 1, 1), keep_norm)
    for row, weight in enumerate((first, second)):
        for token in range(6):
            expected = x[row, token] + weight * (x[row, token] - base[row, 0])
            if keep_norm:
                expected = expected * (x[row, token].norm() / expected.norm())
            torch.testing.assert_close(got[row, token], expected, rtol=1e-9, atol=1e-12)


def test_weight_zero_is_the_same_bit_for_bit():
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        x, base = draw(2, 6, 8).to(dtype), draw(2, 1, 8, seed=1).to(dtype)
        weight = torch.tensor([0.0, 1.0], dtype=dtype).view(2, 1, 1)
        for keep_norm in (False, True):
            got = contrast(x, base, weight, keep_norm)
            assert got.dtype == dtype
            assert torch.equal(got[0], x[0])
            assert not torch.equal(got[1], x[1])


def test_a_token_equal_to_nothing_keeps_a_norm_of_zero():
    got = contrast(torch.zeros(1, 2, 4), torch.zeros(1, 1, 4), torch.ones(1, 1, 1), keep_norm=True)
    assert torch.equal(got, torch.zeros(1, 2, 4))


@settings(deadline=None)
@given(st.floats(0.0, 2.0), st.integers(0, 99))
def test_other_values_of_the_text_are_the_contrast_of_the_text_s_part_of_a_joint_softmax(weight, seed):
    text, video = 5, 12
    q, k, v = (
        draw(2, video, 2, 4, seed=seed),
        draw(2, text + video, 2, 4, seed=seed + 1),
        draw(2, text + video, 2, 4, seed=seed + 2),
    )
    weights, out = attention(q, k, v)
    mass = weights[..., :text].sum(-1).transpose(1, 2)[..., None]
    base = attention(q.mean(1, keepdim=True), k[:, :text], v[:, :text])[1]
    expected = out + weight * mass * (attention(q, k[:, :text], v[:, :text])[1] - base)

    strength = torch.full((2, 1, 1), weight, dtype=torch.float64)
    values = contrast(
        v[:, :text].flatten(2), mean_attention(q, k[:, :text], v[:, :text]).flatten(2), strength
    ).unflatten(2, (2, 4))
    torch.testing.assert_close(attention(q, k, torch.cat([values, v[:, text:]], 1))[1], expected, rtol=1e-9, atol=1e-12)


def test_half_precision_is_averaged_in_full():
    """bf16 keeps 8 bits: means, logits and an additive mask of several units must not be rounded to them."""
    q, k, v, mask = (
        x.to(torch.bfloat16)
        for x in (draw(2, 40, 3, 8), draw(2, 7, 3, 8, seed=1), draw(2, 7, 3, 8, seed=2), 9 * draw(2, 1, 40, 7, seed=3))
    )
    logits = (torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) / 8**0.5 + mask.double()).mean(2, keepdim=True)
    expected = torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v.double())
    got = mean_attention(q, k, v, mask)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, expected.to(torch.bfloat16))


def test_a_boolean_mask_of_each_row_and_head():
    q, k, v = draw(2, 5, 3, 4), draw(2, 7, 3, 4, seed=1), draw(2, 7, 3, 4, seed=2)
    for shape in ((2, 1, 5, 7), (2, 3, 5, 7), (1, 3, 1, 7)):
        mask = draw(*shape, seed=3) > 0.7
        mask[..., 0] = True
        hidden = torch.zeros(mask.shape, dtype=torch.float64).amax(2, keepdim=True)
        hidden[~mask.any(2, keepdim=True)] = -torch.inf
        assert hidden.isinf().any()
        expected = attention(q.mean(1, keepdim=True), k, v, hidden)[1]
        torch.testing.assert_close(mean_attention(q, k, v, mask), expected, rtol=1e-12, atol=1e-12)


def test_the_weight_may_be_finer_than_what_it_weighs():
    x, base = draw(2, 6, 8).to(torch.bfloat16), draw(2, 1, 8, seed=1).to(torch.bfloat16)
    got = contrast(x, base, torch.tensor([0.5, 1.0]).view(2, 1, 1))
    expected = x.double() + torch.tensor([0.5, 1.0]).view(2, 1, 1) * (x.double() - base.double())
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), expected, rtol=2**-7, atol=2**-7)
