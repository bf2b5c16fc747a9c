"""A frozen MODEL with the SSG Adapter that is trained in it, where every video of a batch looks at a prompted image of
its own; and the Spec of an adapter that fits a MODEL."""

from comfyui_version import __version__
from torch import Tensor

from ..host.editing import Call, edit_attention, edit_inputs
from ..host.families import family_of
from ..host.forward import Forward
from ..kernels.ssg_adapter import Prompt, SSGAdapter
from ..kernels.ssg_spec import Spec
from ..patches.blocks import parse_blocks
from ..patches.ssg_adapter import FAMILIES
from ..patches.ssg_guide import NAME

FEATURES = "semantic_video_prompted"  # transformer option: CLIP features, a row for each video of the batch
PROMPT = f"{NAME} prompt"
LTX_2_ALONE = (0, 33)  # ComfyUI that is known to run LTX-2 without sound; 0.29 does not


def version_of_host() -> tuple[int, ...]:
    return tuple(int(part) for part in __version__.split(".")[:2])


def spec_for(
    model,
    features: Tensor,
    rank: int,
    blocks: tuple[int, ...] | None = None,
    token_width: int = 1280,
    spatial: str = "rope",
) -> Spec:
    """The Spec of an adapter for MODEL and CLIP features [n, tokens, width] of square images. blocks None: all. Raises
    ValueError where it cannot be."""
    side = round((features.shape[1] - 1) ** 0.5)
    if side * side + 1 != features.shape[1]:
        raise ValueError(
            f"clip: {features.shape[1]} tokens per image are no class token and a square of patches. Use a ViT CLIP."
        )
    family, module = family_of(model), model.model.diffusion_model
    if hasattr(module, "vace_blocks"):
        raise ValueError(
            "model: VACE cannot be trained on. Train on the T2V model it was made from; the adapter then works on both."
        )
    if hasattr(module, "audio_adaln_single") and version_of_host() < LTX_2_ALONE:
        raise ValueError(
            "model: LTX-2 is trained on without its sound, and this ComfyUI fails without it. Update ComfyUI to "
            f"{'.'.join(map(str, LTX_2_ALONE))}."
        )
    count = family.blocks(module)
    blocks = tuple(range(count)) if blocks is None else blocks
    if not blocks or min(blocks) < 0 or max(blocks) >= count:
        raise ValueError(f"blocks {', '.join(map(str, blocks))}: this model has {count}. Use 0 to {count - 1}.")
    width, heads = family.width_heads(module)
    return Spec(
        next(name for name, one in FAMILIES.items() if one is family),
        width,
        heads,
        blocks,
        rank,
        features.shape[-1],
        (side, side),
        token_width,
        spatial,
    )


def blocks_of(model, text: str) -> tuple[int, ...] | None:
    """Numbers of the blocks named, such as "0-3,8", None for all. Raises ValueError for what is no block of MODEL."""
    try:
        return tuple(sorted(parse_blocks(text, family_of(model).blocks(model.model.diffusion_model)))) or None
    except ValueError as error:
        raise ValueError(f"blocks: {error}" if text.strip() else str(error)) from None


def with_adapter(model, module: SSGAdapter, passes: str = "both", strength: float = 1.0):
    """A clone of MODEL with the adapter in it, that looks at what `option_of` gives. Its output is that of SSG Adapter
    Apply; `module` may want gradients.

    passes: as in `Guide`, for sampling; a pass of n videos has n rows.
    """

    def prepare(forward: Forward) -> dict:
        features = forward.options[FEATURES]
        rows = [i for i, row in enumerate(forward.rows) if passes == "both" or row == 0]
        if rows:  # before the blocks, which may run twice
            mine = features[[i % len(features) for i in rows]].to(forward.latent.device)
            clock = forward.family.clock(forward.module, forward.arguments)
            size = forward.layout.height, forward.layout.width
            forward.state[NAME] = rows, module.prompt(mine, *size, clock=clock)
        return {}

    def edit(call: Call, proceed) -> Tensor:
        out, (rows, prompt) = proceed(call), call.forward.state.get(NAME, ((), None))
        if call.site.block not in module.spec.blocks or not rows:
            return out
        layout = call.forward.layout
        grid = slice(call.before, call.before + layout.frames * layout.height * layout.width)
        return spliced(out, rows, grid, strength * branch(module, call.site.block, call.q[rows, grid], prompt))

    model = edit_inputs(model, PROMPT, prepare)
    return edit_attention(model, NAME, edit, sites=("text", "joint"))


def branch(module: SSGAdapter, block: int, q: Tensor, prompt: Prompt) -> Tensor:
    return module.branch(block, q, *(x.to(q) for x in module.keys_values(block, prompt)), prompt)


def spliced(out: Tensor, rows: list[int], grid: slice, added: Tensor) -> Tensor:
    """`out` [batch, tokens, width] with `added` [rows, grid, width] on its rows and tokens; the result of the attention
    itself stays as it is."""
    out = out.clone()
    out[rows, grid] += added.to(out)
    return out


def option_of(features: Tensor) -> dict[str, Tensor]:
    """Transformer options of a run whose videos look at features [n, tokens, width]."""
    return {FEATURES: features}
