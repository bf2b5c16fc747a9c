"""Key names of a Video-As-Prompt expert, in any of the forms its files have, as ComfyUI's names of a Wan model."""

import re
from collections.abc import Iterable

SUFFIX = "_mot_ref"
PUBLISHED_LAYERS = tuple(range(0, 40, 4))  # of Video-As-Prompt-Wan2.1-14B; the paper's config names other lists
MOST_BLOCKS = 100  # of an expert; the largest Wan has 40
HEAD = ("head.modulation", "head.head.weight", "head.head.bias")  # an expert has none
# its last block only hands over keys and values
UNUSED_IN_LAST = re.compile(r"self_attn\.(q|o|norm_q)\.|cross_attn\.|norm3\.|ffn\.")

RENAMED = {
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
    "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
    "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
    "proj_out": "head.head",
    "attn1": "self_attn",
    "attn2": "cross_attn",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "o",
    "add_k_proj": "k_img",
    "add_v_proj": "v_img",
    "norm_added_k": "norm_k_img",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "norm2": "norm3",  # diffusers counts the affine norm second, ComfyUI third
}
_PART = re.compile(r"(?<![\w])(" + "|".join(sorted(map(re.escape, RENAMED), key=len, reverse=True)) + r")(?![\w])")

_BLOCK = re.compile(r"blocks\.(\d{1,9})\.")


def host_key(key: str) -> str:
    """ComfyUI's name of a diffusers Wan key; `_mot_ref` is dropped, block numbers stay."""
    key = key.replace(SUFFIX, "")
    if key.startswith("blocks."):
        key = re.sub(r"\bscale_shift_table$", "modulation", key)
    elif key == "scale_shift_table":
        key = "head.modulation"
    return _PART.sub(lambda match: RENAMED[match[1]], key)


def expert_keys(keys: Iterable[str], metadata: dict[str, str]) -> tuple[dict[str, str], tuple[int, ...]]:
    """{key of the file: key of a Wan model numbered 0, 1, ...} of an expert in any of its three forms, and its blocks'
    places in the backbone.

    The forms: a whole diffusers checkpoint or its `_mot_ref` part; ComfyUI names as an extracted expert has them, the
    places in metadata "layers" or, without that, the published ones. Raises ValueError for a file that holds no expert.
    """
    keys = list(keys)
    marked = [key for key in keys if SUFFIX in key]
    return marked_keys(marked) if marked else extracted_keys(keys, metadata)


def block_of(key: str) -> int | None:
    match = _BLOCK.match(key)
    return int(match[1]) if match else None


def marked_keys(marked: list[str]) -> tuple[dict[str, str], tuple[int, ...]]:
    """`expert_keys` of keys that contain `_mot_ref`."""
    layers = tuple(sorted({block_of(key) for key in marked} - {None}))
    require_blocks(layers, "keys with '_mot_ref'")
    number = {layer: i for i, layer in enumerate(layers)}
    names = {key: _BLOCK.sub(lambda match: f"blocks.{number[int(match[1])]}.", host_key(key)) for key in marked}
    if len(set(names.values())) < len(names):
        raise ValueError("holds the same tensor under two names")
    return names, layers


def extracted_keys(keys: list[str], metadata: dict[str, str]) -> tuple[dict[str, str], tuple[int, ...]]:
    """`expert_keys` of ComfyUI's names."""
    blocks = tuple(sorted({block_of(key) for key in keys if key.endswith(".self_attn.k.weight")} - {None}))
    if not blocks or HEAD[1] in keys:
        raise ValueError(
            "holds no Video-As-Prompt expert: no key contains '_mot_ref', and it is not an extracted expert"
        )
    layers = layers_in(metadata["layers"]) if "layers" in metadata else PUBLISHED_LAYERS
    if len(layers) != len(blocks):
        raise ValueError(
            f'has {len(blocks)} blocks but {len(layers)} places for them: its metadata has no fitting "layers"'
        )
    require_blocks(blocks, "blocks")
    if blocks != tuple(range(len(blocks))):
        raise ValueError(f"has a block {blocks[-1]} among {len(blocks)}: they must be numbered 0, 1, ...")
    return {key: key for key in keys if key not in HEAD}, layers


def require_blocks(blocks: tuple[int, ...], what: str) -> None:
    """Raises ValueError unless these are as many blocks as an expert can have: its last one only hands over keys."""
    if not 2 <= len(blocks) <= MOST_BLOCKS:
        raise ValueError(f"has {what} in {len(blocks)} blocks; an expert has 2 to {MOST_BLOCKS}")


def layers_in(text: str) -> tuple[int, ...]:
    """The places that metadata "layers" names. Raises ValueError for anything but rising block numbers."""
    try:
        layers = tuple(int(n) for n in text.split(","))
    except ValueError:
        layers = ()
    if not layers or layers[0] < 0 or list(layers) != sorted(set(layers)):
        raise ValueError(f"has metadata \"layers\" '{text[:40]}', expected block numbers in rising order, as 0,4,8")
    return layers


def used_keys(keys: Iterable[str]) -> list[str]:
    """Keys of an expert that inference uses: the last block's keys and values go into attention, nothing else of it
    goes anywhere."""
    keys = list(keys)
    last = max(block for key in keys if (block := block_of(key)) is not None)
    return [key for key in keys if not (key.startswith(f"blocks.{last}.") and UNUSED_IN_LAST.search(key))]
