"""The Plan Adapter's formula against a written-out one, who sees what, and its noise."""

import pytest
import torch

from semantic_video.kernels.plan_adapter import (
    Place,
    PlanAdapter,
    branch_parts,
    groups,
    initialise,
    noisy_plan,
    parameter_count,
)
from semantic_video.kernels.plan_rope import latent_times, seen_from
from semantic_video.kernels.plan_spec import THETA, PlanAdapterSpec

WAN = PlanAdapterSpec("wan", width=48, heads=2, blocks=(0, 2), dims=3, encoder="e", rank=4, token_width=10, seen=2)
HUNYUAN = PlanAdapterSpec(
    "hunyuan", width=256, heads=2, blocks=(1,), dims=3, encoder="e", rank=4, token_width=10, seen=3
)
FIRSTS = [0, 1, 5, 9, 13, 17]  # 5 latent frames
GRID = (4, 2, 3)  # token frames, rows, columns of the plan
HEIGHT, WIDTH = 3, 4


def seeded(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(spec, seed=1):
    """An adapter in which every weight counts."""
    adapter = PlanAdapter(spec, dtype=torch.float64)
    initialise(adapter, seed)
    with torch.no_grad():
        for i, (name, parameter) in enumerate(adapter.named_parameters()):
            if name.endswith("value_up.weight"):
                parameter.copy_(seeded(*parameter.shape, seed=i))
            elif parameter.ndim == 1:
                parameter.add_(0.2 * seeded(*parameter.shape, seed=i))
    return adapter


def turned(x, place, spec):
    """One head's vector [dim], turned pair by pair to a place (time, height, width)."""
    angles = [at * THETA[spec.family] ** (-2 * i / n) for at, n in zip(place, spec.axes) for i in range(n // 2)]
    out = x.clone()
    for i, a in enumerate(torch.tensor(angles, dtype=torch.float64)):
        out[2 * i], out[2 * i + 1] = (
            x[2 * i] * a.cos() - x[2 * i + 1] * a.sin(),
            x[2 * i] * a.sin() + x[2 * i + 1] * a.cos(),
        )
    return out


def naive(adapter, block, q, plan, place):
    """Query by query, key by key: [batch, queries, width]."""
    spec, branch = adapter.spec, adapter.branches[str(block)]
    count, rows, columns = plan.shape[1:4]
    times, starts = latent_times(count, FIRSTS), seen_from(count, FIRSTS, spec.seen)
    out = torch.zeros(*q.shape[:2], spec.width, dtype=q.dtype)
    area = q.shape[1] // len(place.frames)
    for b in range(len(q)):
        for i in range(q.shape[1]):
            nth = i // area
            frame = place.frames[nth]
            keys, values = [], []
            for t in range(starts[frame], min(starts[frame] + spec.seen, count)):
                for y in range(rows):
                    for x in range(columns):
                        token = adapter.projector(plan[b, t, y, x])
                        k = branch.key_up(branch.key_down(token)).view(spec.heads, -1)
                        k = k * (k.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * branch.key_norm.weight
                        at = (
                            place.origin[0] + place.scale[0] * (float(times[t]) - frame + nth),
                            place.origin[1] + place.scale[1] * ((y + 0.5) * place.height / rows - 0.5 - place.top),
                            place.origin[2] + place.scale[2] * ((x + 0.5) * place.width / columns - 0.5 - place.left),
                        )
                        keys.append(torch.stack([turned(head, at, spec) for head in k]))
                        values.append(branch.value_up(branch.value_down(token)).view(spec.heads, -1))
            for h in range(spec.heads):
                logits = torch.stack([q[b, i, h] @ k[h] for k in keys]) * spec.dim**-0.5
                seen = (logits.softmax(0)[:, None] * torch.stack([v[h] for v in values])).sum(0)
                out[b, i, h * spec.dim : (h + 1) * spec.dim] = seen * branch.gate
    return out


def joined(adapter, block, q, plan, place):
    seen = groups(adapter.spec, tuple(plan.shape[1:4]), FIRSTS, place)
    out = torch.full((*q.shape[:2], adapter.spec.width), float("nan"), dtype=q.dtype)
    area = q.shape[1] // len(place.frames)
    for queries, part in branch_parts(adapter, block, q, adapter.tokens(plan), seen, area):
        out[:, queries] = part
    return out


@pytest.mark.parametrize(
    ("spec", "block", "place"),
    [
        (WAN, 2, Place((0, 1, 2, 3, 4), 0, 0, HEIGHT, WIDTH)),
        (HUNYUAN, 1, Place((0, 1, 2, 3, 4), 0, 0, HEIGHT, WIDTH)),
        (WAN, 0, Place((2, 3), 1.0, 2.0, 6, 8, (1.0, 0.5, -2.0), (1.5, 2.0, 1.0))),  # a window and a crop
        (WAN, 0, Place((0, 3, 4), 0, 0, HEIGHT, WIDTH)),  # with an earlier frame in front
    ],
)
def test_it_is_the_formula(spec, block, place):
    adapter = filled(spec)
    q = seeded(2, len(place.frames) * HEIGHT * WIDTH, spec.heads, spec.dim, seed=5)
    plan = seeded(2, *GRID, spec.dims, seed=6)
    with torch.no_grad():
        torch.testing.assert_close(joined(adapter, block, q, plan, place), naive(adapter, block, q, plan, place))


def test_a_frame_sees_its_own_span_alone():
    adapter, place = filled(WAN), Place((0, 1, 2, 3, 4), 0, 0, HEIGHT, WIDTH)
    q, plan = seeded(1, 5 * HEIGHT * WIDTH, 2, 24, seed=5), seeded(1, *GRID, 3, seed=6)
    changed = plan.clone()
    changed[:, 3] += 1.0
    with torch.no_grad():
        a, b = (joined(adapter, 0, q, p, place).unflatten(1, (5, -1)) for p in (plan, changed))
    sees = [3 in range(start, start + WAN.seen) for start in seen_from(4, FIRSTS, WAN.seen)]
    assert [not torch.equal(a[:, f], b[:, f]) for f in range(5)] == sees
    assert sees == [False, False, False, True, True]


def test_parts_do_not_depend_on_how_many_queries_look_at_once(monkeypatch):
    adapter, place = filled(WAN), Place((0, 1, 2, 3, 4), 0, 0, HEIGHT, WIDTH)
    q, plan = seeded(1, 5 * HEIGHT * WIDTH, 2, 24, seed=5), seeded(1, *GRID, 3, seed=6)
    with torch.no_grad():
        whole = joined(adapter, 0, q, plan, place)
        monkeypatch.setattr("semantic_video.kernels.plan_adapter.CHUNK", 7)
        torch.testing.assert_close(joined(adapter, 0, q, plan, place), whole)


def test_a_new_adapter_gives_zeros():
    adapter, place = PlanAdapter(WAN, dtype=torch.float64), Place((0, 1), 0, 0, HEIGHT, WIDTH)
    initialise(adapter)
    q, plan = seeded(1, 2 * HEIGHT * WIDTH, 2, 24, seed=5), seeded(1, *GRID, 3, seed=6)
    assert (joined(adapter, 0, q, plan, place) == 0).all()


def test_noise_is_rae_s():
    plan, eps, levels = seeded(2, 3, 1, 1, 4), seeded(2, 3, 1, 1, 4, seed=1), torch.tensor([0.0, 0.5])
    got = noisy_plan(plan, levels.double(), eps, 0.8)
    assert torch.equal(got[0], plan[0])
    torch.testing.assert_close(got[1], plan[1] + 0.4 * eps[1])


def test_parameters_are_counted():
    assert parameter_count(WAN) == sum(p.numel() for p in PlanAdapter(WAN).parameters())
