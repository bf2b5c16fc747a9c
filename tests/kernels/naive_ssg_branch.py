"""The SSG Adapter's branch token by token and head by head, in fp64."""

import torch

from semantic_video.kernels.ssg_spec import THETA


def angle(position, channels, theta):
    return [position * theta ** (-2 * i / channels) for i in range(channels // 2)]


def naive_turn(x, row, column, spec):
    """One head's vector [dim], turned pair by pair."""
    time, height, width = spec.axes
    angles = [0.0] * (time // 2) + angle(row, height, THETA[spec.family]) + angle(column, width, THETA[spec.family])
    out = x.clone()
    for i, a in enumerate(torch.tensor(angles, dtype=torch.float64)):
        out[2 * i], out[2 * i + 1] = (
            x[2 * i] * a.cos() - x[2 * i + 1] * a.sin(),
            x[2 * i] * a.sin() + x[2 * i + 1] * a.cos(),
        )
    return out


def naive_branch(adapter, block, q, features, height, width):
    """Token by token, head by head. q [queries, heads, dim], features [n, clip_width]."""
    spec, weights = adapter.spec, dict(adapter.named_parameters())
    norm, first, _, second, last = adapter.projector
    e = last(second(torch.nn.functional.gelu(first(norm(features)))))
    part = {
        name: weights[f"branches.{block}.{name}"]
        for name in (
            "key_down.weight",
            "key_up.weight",
            "key_norm.weight",
            "value_down.weight",
            "value_up.weight",
            "gate",
        )
    }
    rows, columns = spec.grid
    out = torch.zeros(len(q), spec.heads, spec.dim, dtype=torch.float64)
    for h in range(spec.heads):
        channels = slice(h * spec.dim, (h + 1) * spec.dim)
        keys, values = [], []
        for i, token in enumerate(e):
            k = (part["key_up.weight"] @ part["key_down.weight"] @ token)[channels]
            k = k / (k.square().mean() + 1e-6).sqrt() * part["key_norm.weight"]
            patch = i - (len(e) - rows * columns)
            if patch >= 0 and spec.spatial == "rope":
                row, column = patch // columns, patch % columns
                if spec.family == "hunyuan":
                    row, column = (row + 0.5) * height / rows - 0.5, (column + 0.5) * width / columns - 0.5
                k = naive_turn(k, row, column, spec)
            keys.append(k)
            values.append((part["value_up.weight"] @ part["value_down.weight"] @ token)[channels])
        keys, values = torch.stack(keys), torch.stack(values)
        for n, query in enumerate(q[:, h]):
            if spec.spatial == "rope" and spec.family in ("wan", "ltx"):
                row, column = n % (height * width) // width, n % width
                query = naive_turn(
                    query, (row + 0.5) * rows / height - 0.5, (column + 0.5) * columns / width - 0.5, spec
                )
            out[n, h] = (keys @ query / spec.dim**0.5).softmax(0) @ values
    return part["gate"] * out.flatten(1)
