"""SSG Adapter: a second, trained attention branch through which a frozen video DiT attends to a prompted image.

    e = projector(CLIP patch features of the prompted image)
    y = Attn(q, K, V) + strength * gate_l * m * Attn(q~, K'_l(e), V'_l(e))

m: a weight per video token (1 without a mask). Only video queries attend to the image. K' and V' are low-rank
(token_width -> rank -> width); V' starts at zero, so a new adapter is the frozen model bit for bit. q~ and K' carry
RoPE of height and width, so that a video token can attend to the patch at its own position.

After SSG-DiT (arXiv 2508.17062: dual-branch adapter, frozen DiT, CLIP); its equations were not available to us.
Decoupled attention is IP-Adapter's (arXiv 2308.06721). Low rank, zero V', RMS norm of K' per head and positions are
our choice.

To train: `prompt = adapter.prompt(features, height, width)` once per model call, then in every block of `spec.blocks`,
between the attention and its output projection, `out += adapter.branch(block, q, *adapter.keys_values(block, prompt),
prompt)`, differentiable throughout.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rope import apply_rope, apply_split_rope, area_rope_freqs, rope_freqs
from .ssg_spec import OWN_PLACES, THETA, Spec

# q, k, v [batch, tokens, heads, dim] -> [batch, queries, heads * dim]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention on [batch, tokens, heads, dim] -> [batch, queries, heads * dim]."""
    return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class Prompt:
    """The prompted image in one call of the model. tokens: [batch, n, token_width]; keys, queries: RoPE frequencies of
    K' and of the queries of a frame, or None; split: those of K' turn split halves of its channels."""

    tokens: Tensor
    keys: Tensor | None
    queries: Tensor | None
    split: bool = False


@dataclass(frozen=True)
class View:
    """Where in the picture a cropped latent lies, in tokens: its first row and column, and the picture's size."""

    top: float
    left: float
    height: float
    width: float


class Branch(nn.Module):
    """K', V' and gate of one block."""

    def __init__(self, spec: Spec, operations, device, dtype):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.heads = spec.heads
        self.key_down = operations.Linear(spec.token_width, spec.rank, bias=False, **place)
        self.key_up = operations.Linear(spec.rank, spec.width, bias=False, **place)
        self.key_norm = operations.RMSNorm(spec.dim, eps=1e-6, **place)
        self.value_down = operations.Linear(spec.token_width, spec.rank, bias=False, **place)
        self.value_up = operations.Linear(spec.rank, spec.width, bias=False, **place)
        self.gate = nn.Parameter(torch.ones(1, **place))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        k, v = (
            up(down(tokens)).unflatten(-1, (self.heads, -1))
            for down, up in ((self.key_down, self.key_up), (self.value_down, self.value_up))
        )
        return self.key_norm(k), v


class SSGAdapter(nn.Module):
    """The projector and a branch per block of `spec`. operations: torch.nn, or the host's layers, which cast and
    offload. Call `initialise` on a new one."""

    def __init__(self, spec: Spec, operations=torch.nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.spec = spec
        self.projector = nn.Sequential(
            operations.LayerNorm(spec.clip_width, **place),
            operations.Linear(spec.clip_width, spec.token_width, **place),
            nn.GELU(),
            operations.Linear(spec.token_width, spec.token_width, **place),
            operations.LayerNorm(spec.token_width, **place),
        )
        self.branches = nn.ModuleDict({str(block): Branch(spec, operations, device, dtype) for block in spec.blocks})

    def check(self, features: Tensor) -> None:
        """Raises ValueError for features [batch, n, clip_width] that are of another CLIP, or not finite."""
        (rows, columns), width = self.spec.grid, self.spec.clip_width
        if features.ndim != 3 or features.shape[-1] != width:
            raise ValueError(
                f"features of shape {tuple(features.shape)}; this adapter was trained with those of a CLIP of width "
                f"{width}"
            )
        if features.shape[1] not in (rows * columns, rows * columns + 1):
            raise ValueError(
                f"{features.shape[1]} tokens per image; this adapter was trained with {rows} x {columns} patches (and "
                "a class token)"
            )
        if not torch.isfinite(features).all():
            raise ValueError("features are NaN or infinite")

    def tokens(self, features: Tensor) -> Tensor:
        """e: [batch, n, clip_width] -> [batch, n, token_width]."""
        return self.projector(features)

    def prompt(
        self,
        features: Tensor,
        height: int,
        width: int,
        view: View | None = None,
        clock: tuple[Tensor, float] | None = None,
    ) -> Prompt:
        """features: [batch, patches or 1 + patches, clip_width], as `check` takes them; height, width: of the latent in
        tokens; view: what part of the picture the latent is, the whole by default.

        clock: MiniMax H3's frequencies, and the time at which its video starts; None for other families.

        Text queries of Wan and LTX have no RoPE: they get one, in units of CLIP's patches, so any latent size fits.
        Hunyuan's have theirs: K' gets the same, in units of the latent's tokens, at time 0 (as its text tokens, but for
        height and width). So does MiniMax H3, at the time where the video starts, with `area_rope_freqs`.
        """
        spec, tokens = self.spec, self.tokens(features)
        if spec.spatial == "none":
            return Prompt(tokens, None, None)
        view, theta = view or View(0, 0, height, width), THETA[spec.family]
        queries = None
        if spec.family == "minimax":
            return Prompt(tokens, self._minimax_keys(features, tokens, height, width, view, clock), None, split=True)
        if spec.family in OWN_PLACES:
            keys, corner = rope_freqs(spec.grid, spec.grid, spec.axes, theta), (0.0, 0.0)
            per_token = spec.grid[0] / view.height, spec.grid[1] / view.width
            extent = height * per_token[0], width * per_token[1]
            origin = view.top * per_token[0], view.left * per_token[1]
            queries = rope_freqs((height, width), extent, spec.axes, theta, origin)
        else:
            corner = -view.top, -view.left
            keys = rope_freqs(spec.grid, (view.height, view.width), spec.axes, theta, corner)
        class_token = rope_freqs((1, 1), (1, 1), spec.axes, theta, corner)[: features.shape[1] - len(keys)]
        keys = torch.cat([class_token, keys])
        kind = torch.complex128 if tokens.dtype == torch.float64 else torch.complex64
        return Prompt(
            tokens, *(freqs.to(kind).to(tokens.device) if freqs is not None else None for freqs in (keys, queries))
        )

    def _minimax_keys(self, features, tokens, height, width, view, clock) -> Tensor:
        inverse, start = clock
        size, corner = (view.height, view.width), (-view.top, -view.left)
        if size != (height, width):  # the model sees a part as a picture of its own
            raise ValueError("a part of the picture cannot be placed on MiniMax H3. Remove the conditioning's area.")
        keys = area_rope_freqs(self.spec.grid, size, inverse, corner)
        class_token = area_rope_freqs((1, 1), (1, 1), inverse)[: features.shape[1] - len(keys)]
        time = torch.zeros(3 * len(inverse), dtype=torch.float64)
        time[: len(inverse)] = inverse.double().cpu() * start
        keys = torch.cat([class_token, keys]) * torch.polar(torch.ones_like(time), time)
        return keys.to(torch.complex128 if tokens.dtype == torch.float64 else torch.complex64).to(tokens.device)

    def keys_values(self, block: int, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """K' (norm and RoPE applied) and V' of `block`, [batch, n, heads, dim] each."""
        k, v = self.branches[str(block)](prompt.tokens)
        return apply_split_rope(k, prompt.keys) if prompt.split else apply_rope(k, prompt.keys), v

    def branch(self, block: int, q: Tensor, k: Tensor, v: Tensor, prompt: Prompt, attend: Attend = dense) -> Tensor:
        """gate_l * Attn(q~, K', V'), [batch, queries, width], without strength and m. q: video queries as the model
        attends with them, whole frames [batch, frames * height * width, heads, dim]; k, v: of `keys_values`, as many
        rows as q."""
        return self.branches[str(block)].gate.to(q) * attend(apply_rope(q, prompt.queries), k, v)


@torch.no_grad()
def initialise(adapter: nn.Module, seed: int = 0) -> None:
    """Of an adapter of such branches: matrices 1 / sqrt(fan in), V' up-projections 0, norms and gates 1, biases 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in adapter.named_parameters():
        if name.endswith("value_up.weight") or name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim > 1:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter.shape[1] ** -0.5)
        else:
            parameter.fill_(1.0)


def parameter_count(spec: Spec) -> int:
    return sum(parameter.numel() for parameter in SSGAdapter(spec, device="meta").parameters())


def token_weights(mask: Tensor, height: int, width: int) -> Tensor:
    """m: masks [n, any height, any width], clamped to 0..1, as means over each token, [n, height * width, 1]."""
    return (
        F.interpolate(mask[:, None].float().clamp(0, 1), size=(height, width), mode="area").flatten(2).transpose(1, 2)
    )


def crop_mask(mask: Tensor, video: tuple[int, int], top: int, left: int, height: int, width: int) -> Tensor:
    """The part of masks [n, any height, any width] over a latent of size `video` that a crop of it shows, [n, height,
    width], one weight per cell."""
    cells = F.interpolate(mask[:, None].float().clamp(0, 1), size=video, mode="area")[:, 0]
    return cells[:, top : top + height, left : left + width]


def blend(features: Tensor, prompted: Tensor, strength: float) -> Tensor:
    """Without an adapter: an image branch's own features [batch, n, width], moved towards those of the prompted image;
    tokens beyond its own (an end frame's) stay. strength 0: the former, 1: the latter, above: further."""
    count = prompted.shape[1]
    return torch.cat([torch.lerp(features[:, :count], prompted.to(features), strength), features[:, count:]], dim=1)
