"""The Semantic Planner's parts against the formulas."""

import pytest
import torch
import torch.nn.functional as F

from semantic_video.kernels.plan_spec import PlannerSpec
from semantic_video.kernels.planner import (
    Planner,
    euler,
    guided,
    initialise,
    parameter_count,
    sigmas_of,
    text_spans,
    timestep_features,
)
from semantic_video.tests.kernels.test_plan_adapter import turned

SPEC = PlannerSpec(3, "e", 10, width=24, heads=2, blocks=2, ffn=20, rows=2, columns=3, fps=1.5, shift=3.0)


def seeded(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def planner():
    """One in which every weight counts."""
    made = Planner(SPEC, dtype=torch.float64)
    initialise(made, seed=1)
    with torch.no_grad():
        for i, parameter in enumerate(made.parameters()):
            parameter.add_(0.3 * seeded(*parameter.shape, seed=i))
    return made.requires_grad_(False)


def norm(x, affine=None):
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    return x if affine is None else x * affine.weight + affine.bias


def rms(x, layer):
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * layer.weight


def naive_attention(q, k, v, sees):
    """q, k, v: [tokens, heads, dim]; sees: [queries, keys] or None."""
    out = torch.zeros_like(q)
    for i in range(len(q)):
        for h in range(q.shape[1]):
            logits = (k[:, h] @ q[i, h]) * q.shape[-1] ** -0.5
            if sees is not None:
                logits = logits.masked_fill(~sees[i], -torch.inf)
            out[i, h] = logits.softmax(0) @ v[:, h]
    return out.flatten(1)


def naive(planner, z, s, text, sees=None):
    """One plan [time, rows, columns, dims]."""
    spec, (times, rows, columns, _) = planner.spec, z.shape
    places = [(t, y, x) for t in range(times) for y in range(rows) for x in range(columns)]
    heads = lambda y: y.unflatten(-1, (spec.heads, -1))  # noqa: E731
    time = planner.time[2](F.silu(planner.time[0](timestep_features(torch.tensor([s]), spec.width).double())))[0]
    six = planner.time_projection(F.silu(time)).view(6, -1)
    text = planner.text[2](F.gelu(planner.text[0](text), approximate="tanh"))
    x = planner.embed(z.flatten(0, 2))
    for block in planner.blocks:
        shift1, scale1, gate1, shift2, scale2, gate2 = six + block.modulation
        q, k, v = map(heads, block.qkv(norm(x) * (1 + scale1) + shift1).chunk(3, -1))
        q, k = rms(q, block.norm_q), rms(k, block.norm_k)
        q, k = (
            torch.stack([torch.stack([turned_wan(h, at) for h in row]) for row, at in zip(y, places)]) for y in (q, k)
        )
        x = x + gate1 * block.out(naive_attention(q, k, v, None))
        q = rms(heads(block.text_q(norm(x, block.norm2))), block.text_norm_q)
        k, v = map(heads, block.text_kv(text).chunk(2, -1))
        mask = None if sees is None else torch.stack([sees[t] for t, _, _ in places])
        x = x + block.text_out(naive_attention(q, rms(k, block.text_norm_k), v, mask))
        hidden = F.gelu(block.up(norm(x) * (1 + scale2) + shift2), approximate="tanh")
        x = x + gate2 * block.down(hidden)
    shift, scale = time + planner.modulation
    return planner.head(norm(x) * (1 + scale) + shift).view(z.shape)


class WanHead:
    family, axes = "wan", SPEC.axes


def turned_wan(x, at):
    return turned(x, at, WanHead)


def test_it_is_the_formula(planner):
    z, text, s = seeded(2, 3, 2, 2, 3, seed=1), seeded(2, 5, 10, seed=2), torch.tensor([0.3, 0.8])
    sees = torch.tensor([[True] * 2 + [False] * 3, [True, False] * 2 + [True], [False] * 4 + [True]])
    for mask in (None, sees, torch.stack([sees, ~sees])):
        got = planner(z, s, text, mask)
        for row, own in enumerate(mask if mask is not None and mask.ndim == 3 else (mask, mask)):
            torch.testing.assert_close(
                got[row], naive(planner, z[row], float(s[row]), text[row], own), rtol=1e-5, atol=1e-5
            )


def test_a_new_planner_predicts_zeros():
    made = Planner(SPEC)
    initialise(made)
    assert (made(torch.randn(1, 2, 2, 2, 3), torch.tensor([0.5]), torch.randn(1, 4, 10)) == 0).all()


def test_normalisation_and_its_inverse():
    made, plans = Planner(SPEC, dtype=torch.float64), 3 * seeded(9, 2, 2, 2, 3) + 5
    plans[..., 2] = 4.0  # does not vary
    made.normalise(plans)
    flat = made.normal(plans).flatten(0, -2)
    torch.testing.assert_close(flat[:, :2].mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(flat[:, :2].std(0, correction=0), torch.ones(2, dtype=torch.float64))
    assert (flat[:, 2] == 0).all()
    torch.testing.assert_close(made.real(made.normal(plans)), plans)


def test_sigmas_run_from_one_to_zero():
    assert sigmas_of(4, 1.0) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert sigmas_of(2, 3.0) == [1.0, pytest.approx(0.75), 0.0]


def test_euler_of_the_true_velocity_lands_on_the_plan():
    clean, noise = seeded(1, 2, 2, 2, 3), seeded(1, 2, 2, 2, 3, seed=1)
    steps = []
    got = euler(lambda z, s: noise - clean, noise, sigmas_of(5, 3.0), steps.append)
    torch.testing.assert_close(got, clean)
    assert steps == [0, 1, 2, 3, 4]


def test_euler_steps_from_level_to_level():
    asked = []

    def velocity(z, s):
        asked.append(s)
        return z

    got = euler(velocity, torch.ones(1), [1.0, 0.5, 0.0])
    assert asked == [1.0, 0.5] and float(got) == 0.5 * 0.5


def test_guidance():
    positive, negative = (lambda z, s: z * 3 + s), (lambda z, s: z - s)
    z = torch.tensor([2.0])
    assert float(guided(positive, negative, 4.0)(z, 0.5)) == 1.5 + 4 * (6.5 - 1.5)
    assert guided(positive, negative, 1.0) is positive and guided(positive, None, 4.0) is positive


def test_spans_of_text():
    # token frames of half a second: middles at 0.25, 0.75, 1.25; the second span begins at 0.75
    sees = text_spans([0.75], [2, 3], 3, 2.0)
    assert sees.tolist() == [[True] * 2 + [False] * 3, [False] * 2 + [True] * 3, [False] * 2 + [True] * 3]
    assert text_spans([], [4], 2, 2.0).all()


def test_parameters_are_counted():
    assert parameter_count(SPEC) == sum(p.numel() for p in Planner(SPEC).parameters())
