"""Semantic Planner: a text-conditioned DiT that draws the plan of a whole video, by rectified flow.

    z_s = (1 - s) z0 + s eps        it predicts v = eps - z0
    z <- z + (s' - s) v             Euler, from s = 1 to 0
    v = v_negative + cfg (v_positive - v_negative)

z: [time, rows, columns, dims], few tokens a second, so that each attends to all, however long the video.
Each token frame attends to the text of its own span of time.

After SemanticGen (arXiv 2512.20619, section 3.1): full attention over all semantic tokens, rectified flow, Euler. What
it does not publish is our choice: the blocks are Wan's (self-attention with 3D RoPE and RMS norms, cross-attention,
GELU, six modulations of the timestep), which end with zeros at first; plans are normalised per dimension; noise levels
are shifted as in kernels/flow_matching.py.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .flow_matching import shifted
from .plan_rope import grid_positions, rope_at
from .plan_spec import THETA, PlannerSpec
from .rope import apply_rope

# q, k, v [batch, tokens, heads, dim], mask or None -> [batch, queries, heads * dim]
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
Velocity = Callable[[Tensor, float], Tensor]  # noisy plans [batch, time, rows, columns, dims] at a noise level


def dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def additive(sees: Tensor, like: Tensor) -> Tensor:
    """A boolean mask as what is added to the logits, with the dtype and device of `like`: several of the host's
    attentions add a boolean one as 1 and 0. Not -inf, which makes NaN where they see a part of the keys that is hidden
    altogether."""
    hidden = ~sees.to(like.device)
    return torch.zeros_like(hidden, dtype=like.dtype).masked_fill_(hidden, torch.finfo(like.dtype).min)


def timestep_features(s: Tensor, width: int) -> Tensor:
    """[batch] noise levels -> [batch, width] cosines and sines of 1000 s, as Wan's."""
    freqs = torch.exp(
        -math.log(10000.0) * torch.arange(width // 2, device=s.device, dtype=torch.float32) / (width // 2)
    )
    angles = 1000.0 * s.float()[:, None] * freqs
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Block(nn.Module):
    """One block of `Planner`."""

    def __init__(self, spec: PlannerSpec, operations, device, dtype):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        width = spec.width
        self.heads = spec.heads
        self.norm1 = operations.LayerNorm(width, elementwise_affine=False, **place)
        self.qkv = operations.Linear(width, 3 * width, **place)
        self.norm_q = operations.RMSNorm(spec.dim, eps=1e-6, **place)
        self.norm_k = operations.RMSNorm(spec.dim, eps=1e-6, **place)
        self.out = operations.Linear(width, width, **place)
        self.norm2 = operations.LayerNorm(width, **place)
        self.text_q = operations.Linear(width, width, **place)
        self.text_kv = operations.Linear(width, 2 * width, **place)
        self.text_norm_q = operations.RMSNorm(spec.dim, eps=1e-6, **place)
        self.text_norm_k = operations.RMSNorm(spec.dim, eps=1e-6, **place)
        self.text_out = operations.Linear(width, width, **place)
        self.norm3 = operations.LayerNorm(width, elementwise_affine=False, **place)
        self.up = operations.Linear(width, spec.ffn, **place)
        self.down = operations.Linear(spec.ffn, width, **place)
        self.modulation = nn.Parameter(torch.zeros(6, width, **place))

    def forward(
        self, x: Tensor, time: Tensor, text: Tensor, freqs: Tensor, mask: Tensor | None, attend: Attend
    ) -> Tensor:
        """x: [batch, tokens, width]; time: [batch, 6, width]; text: [batch, n, width]; mask: additive, [1 or
        batch, 1, tokens, n], or None."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (time + self.modulation.to(time)).unsqueeze(2).unbind(1)
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)) for y in self.qkv(self.norm1(x) * (1 + scale1) + shift1).chunk(3, -1)
        )
        q, k = apply_rope(self.norm_q(q), freqs), apply_rope(self.norm_k(k), freqs)
        x = x + gate1 * self.out(attend(q, k, v, None))
        q = self.text_norm_q(self.text_q(self.norm2(x)).unflatten(-1, (self.heads, -1)))
        k, v = (y.unflatten(-1, (self.heads, -1)) for y in self.text_kv(text).chunk(2, -1))
        x = x + self.text_out(attend(q, self.text_norm_k(k), v, mask))
        hidden = nn.functional.gelu(self.up(self.norm3(x) * (1 + scale2) + shift2), approximate="tanh")
        return x + gate2 * self.down(hidden)


class Planner(nn.Module):
    """operations: torch.nn, or the host's layers, which cast and offload. Call `initialise` on a new one, and
    `normalise` with plans before it is trained."""

    def __init__(self, spec: PlannerSpec, operations=torch.nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.spec = spec
        width = spec.width
        self.register_buffer("plan_mean", torch.zeros(spec.dims, **place))
        self.register_buffer("plan_std", torch.ones(spec.dims, **place))
        self.embed = operations.Linear(spec.dims, width, **place)
        self.text = nn.Sequential(
            operations.Linear(spec.text_width, width, **place),
            nn.GELU(approximate="tanh"),
            operations.Linear(width, width, **place),
        )
        self.time = nn.Sequential(
            operations.Linear(width, width, **place), nn.SiLU(), operations.Linear(width, width, **place)
        )
        self.time_projection = operations.Linear(width, 6 * width, **place)
        self.blocks = nn.ModuleList(Block(spec, operations, device, dtype) for _ in range(spec.blocks))
        self.norm = operations.LayerNorm(width, elementwise_affine=False, **place)
        self.modulation = nn.Parameter(torch.zeros(2, width, **place))
        self.head = operations.Linear(width, spec.dims, **place)

    def forward(self, z: Tensor, s: Tensor, text: Tensor, sees: Tensor | None = None, attend: Attend = dense) -> Tensor:
        """Velocity of noisy normalised plans z [batch, time, rows, columns, dims] at noise levels s [batch].

        text: [batch, n, text_width]; sees: which text tokens a token frame attends to, bool [time, n] or [batch, time,
        n], or None for all.
        """
        _, times, rows, columns, _ = z.shape
        positions = grid_positions(*(torch.arange(n) for n in (times, rows, columns)))
        kind = torch.complex128 if z.dtype == torch.float64 else torch.complex64
        freqs = rope_at(positions, self.spec.axes, THETA["wan"]).to(z.device, kind)
        mask = None
        if sees is not None:
            sees = sees.view(-1, *sees.shape[-2:]).repeat_interleave(rows * columns, dim=1)
            mask = additive(sees[:, None], z)
        time = self.time(timestep_features(s, self.spec.width).to(z))
        six = self.time_projection(nn.functional.silu(time)).unflatten(-1, (6, -1))
        x, text = self.embed(z.flatten(1, 3)), self.text(text.to(z))
        for block in self.blocks:
            x = block(x, six, text, freqs, mask, attend)
        shift, scale = (time[:, None] + self.modulation.to(time)).unsqueeze(2).unbind(1)
        return self.head(self.norm(x) * (1 + scale) + shift).view(z.shape)

    @torch.no_grad()
    def normalise(self, plans: Tensor) -> None:
        """Sets the normalisation to the mean and standard deviation of plans [..., dims]; a dimension that does not
        vary keeps a deviation of 1."""
        tokens = plans.reshape(-1, plans.shape[-1]).double()
        deviation = tokens.std(0, correction=0)
        self.plan_mean.copy_(tokens.mean(0))
        self.plan_std.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def normal(self, plans: Tensor) -> Tensor:
        return (plans - self.plan_mean.to(plans)) / self.plan_std.to(plans)

    def real(self, normal: Tensor) -> Tensor:
        """The inverse of `normal`."""
        return normal * self.plan_std.to(normal) + self.plan_mean.to(normal)


def sigmas_of(steps: int, shift: float) -> list[float]:
    """`steps` + 1 noise levels from 1 to 0."""
    return shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift).tolist()


def guided(positive: Velocity, negative: Velocity | None, cfg: float) -> Velocity:
    """Classifier-free guidance; cfg 1, or no negative, asks `positive` alone."""
    if negative is None or cfg == 1.0:
        return positive

    def velocity(z: Tensor, s: float) -> Tensor:
        against = negative(z, s)
        return against + cfg * (positive(z, s) - against)

    return velocity


def euler(velocity: Velocity, noise: Tensor, sigmas: list[float], after: Callable[[int], None] = lambda step: None):
    """The clean plans that `velocity` leads to from `noise`. after(step) is called behind each step."""
    z = noise
    for step, (now, then) in enumerate(zip(sigmas, sigmas[1:])):
        z = z + (then - now) * velocity(z, now)
        after(step)
    return z


def text_spans(borders: list[float], tokens: list[int], count: int, fps: float) -> Tensor:
    """`sees` of `Planner`: bool [count, sum(tokens)]. borders: seconds at which each span but the first begins, rising;
    tokens: text tokens of each span, in order. A token frame belongs to the span in which its middle lies."""
    middle = (torch.arange(count, dtype=torch.float64) + 0.5) / fps
    span_of = torch.bucketize(middle, torch.tensor(borders, dtype=torch.float64), right=True)
    text_of = torch.repeat_interleave(torch.arange(len(tokens)), torch.tensor(tokens))
    return span_of[:, None] == text_of[None]


@torch.no_grad()
def initialise(planner: Planner, seed: int = 0) -> None:
    """Matrices 1 / sqrt(fan in), norms 1, biases and modulations 0; the time projection starts at zero, gates at 1, the
    head at zero, so that a new planner predicts 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in planner.named_parameters():
        if name.endswith(("bias", "modulation")) or name.startswith(("head.", "time_projection.")):
            parameter.zero_()
        elif parameter.ndim > 1:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter.shape[1] ** -0.5)
        else:
            parameter.fill_(1.0)
    for block in planner.blocks:
        block.modulation[2] = 1.0
        block.modulation[5] = 1.0


def parameter_count(spec: PlannerSpec) -> int:
    return sum(parameter.numel() for parameter in Planner(spec, device="meta").parameters())
