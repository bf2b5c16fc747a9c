"""Plan Adapter: a second, trained attention branch through which each latent frame of a frozen video DiT attends to the
part of a semantic plan around it.

    e = projector(plan)
    y = Attn(q, K, V) + strength * gate_l * Attn(q, K'_l(e), V'_l(e))        K', V': token frames around q's

K' and V' are low-rank; V' starts at zero, so a new adapter is the frozen model bit for bit. K' carries the model's own
RoPE: a token stands at its time among the latent frames and at its place in the picture.

After SemanticGen (arXiv 2512.20619, section 3.2): plan tokens in the context of the generator, those of a window's own
span alone, and noise on them in training as in RAE (arXiv 2510.11690): sigma = tau * U(0, 1); its tau is unpublished,
0.8 is RAE's. Our choice: the branch has a softmax of its own (as in IP-Adapter, arXiv 2308.06721). In one softmax with
the video's tokens a new adapter would change the model, since even empty keys take weight; and the keys a frame sees
would depend on which window the renderer puts it in. With a branch, `seen` token frames around each frame are exact
in windows of any kind, in both orders of the nodes, and the frozen attention keeps its backend.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from .plan_rope import grid_positions, latent_times, rope_at, seen_from
from .plan_spec import THETA, PlanAdapterSpec
from .rope import apply_rope, patch_centres
from .ssg_adapter import Attend, Branch, dense
from .ssg_adapter import initialise as initialise  # its branches are of the same kind

TAU = 0.8  # RAE's; unpublished for SemanticGen
# queries that look at once, so that the branch takes less memory than the FFN, for which the host has made room
CHUNK = 2**13


class PlanAdapter(nn.Module):
    """The projector and a branch per block of `spec`. operations: torch.nn, or the host's layers, which cast and
    offload. Call `initialise` on a new one."""

    def __init__(self, spec: PlanAdapterSpec, operations=torch.nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.spec = spec
        self.projector = nn.Sequential(
            operations.Linear(spec.dims, spec.token_width, **place),
            nn.GELU(),
            operations.Linear(spec.token_width, spec.token_width, **place),
            operations.LayerNorm(spec.token_width, **place),
        )
        self.branches = nn.ModuleDict({str(block): Branch(spec, operations, device, dtype) for block in spec.blocks})

    def tokens(self, plan: Tensor) -> Tensor:
        """e: [batch, time, rows, columns, dims] -> [batch, time, rows * columns, token_width]."""
        return self.projector(plan).flatten(2, 3)

    def keys_values(self, block: int, tokens: Tensor, freqs: Tensor) -> tuple[Tensor, Tensor]:
        """K' (norm and RoPE applied) and V' of `block`, [batch, n, heads, dim] each, of tokens [batch, n,
        token_width] with RoPE `freqs` [n, dim / 2]."""
        k, v = self.branches[str(block)](tokens)
        return apply_rope(k, freqs), v

    def branch(self, block: int, q: Tensor, k: Tensor, v: Tensor, attend: Attend = dense) -> Tensor:
        """gate_l * Attn(q, K', V'), [batch, queries, width], without strength. q: video queries as the model attends
        with them, [batch, queries, heads, dim]; k, v: of `keys_values`."""
        return self.branches[str(block)].gate.to(q) * attend(q, k.to(q), v.to(q))


@dataclass(frozen=True)
class Group:
    """Neighbouring latent frames of a call that see the same token frames: frames first to last - 1 of the call, token
    frames start to end - 1, [tokens, dim / 2] RoPE."""

    first: int
    last: int
    start: int
    end: int
    freqs: Tensor


@dataclass(frozen=True)
class Place:
    """What a call shows, in tokens. frames: index in the whole video of each latent frame; top, left: of the part;
    height, width: of the whole picture; origin, scale: of the model's RoPE positions in time, height, width."""

    frames: tuple[int, ...]
    top: float
    left: float
    height: float
    width: float
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)


def groups(spec: PlanAdapterSpec, grid: tuple[int, int, int], first_frames: Sequence[int], place: Place) -> list[Group]:
    """Who sees what. grid: token frames, rows and columns of the plan; first_frames: the first video frame of each
    latent frame of the whole video, then their total. Frame i of the call stands at i on the model's axis, so tokens
    are moved along with it."""
    count, rows, columns = grid
    times, starts = latent_times(count, first_frames), seen_from(count, first_frames, spec.seen)
    y = patch_centres(rows, place.height) - place.top
    x = patch_centres(columns, place.width) - place.left
    scale, origin = (torch.tensor(part, dtype=torch.float64) for part in (place.scale, place.origin))
    keys = [(starts[frame], i - frame) for i, frame in enumerate(place.frames)]
    out, first = [], 0
    for (start, moved), members in groupby(keys):
        end, last = min(start + spec.seen, count), first + len(list(members))
        positions = grid_positions(times[start:end] + moved, y, x) * scale + origin
        out.append(Group(first, last, start, end, rope_at(positions, spec.axes, THETA[spec.family])))
        first = last
    return out


def branch_parts(
    adapter: PlanAdapter, block: int, q: Tensor, tokens: Tensor, seen: list[Group], area: int, attend: Attend = dense
) -> Iterator[tuple[slice, Tensor]]:
    """What the branch gives to q [batch, frames * area, heads, dim] of whole frames, part by part: (queries, [batch,
    queries, width]). tokens: of the whole plan [1 | batch, time, n, token_width]; seen: of `groups`, all of them."""
    kind = torch.complex128 if q.dtype == torch.float64 else torch.complex64
    for group in seen:
        some = tokens[:, group.start : group.end].flatten(1, 2)
        keys, values = adapter.keys_values(block, some, group.freqs.to(q.device, kind))
        keys, values = (x.expand(len(q), -1, -1, -1) for x in (keys, values))
        for first in range(group.first * area, group.last * area, CHUNK):
            queries = slice(first, min(first + CHUNK, group.last * area))
            yield queries, adapter.branch(block, q[:, queries], keys, values, attend)


def noisy_plan(plan: Tensor, levels: Tensor, eps: Tensor, tau: float = TAU) -> Tensor:
    """plan + tau * u * eps, in training alone: plan, eps [batch, ...], levels u [batch], 0..1 each."""
    return plan + tau * levels.view(-1, *[1] * (plan.ndim - 1)) * eps


def parameter_count(spec: PlanAdapterSpec) -> int:
    return sum(parameter.numel() for parameter in PlanAdapter(spec, device="meta").parameters())
