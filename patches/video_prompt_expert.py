"""The expert of Video-As-Prompt as a MODEL: read from any form of file, trimmed to what inference uses, saved on its
own."""

import inspect
import json
import re
from pathlib import Path

import comfy.model_detection
import torch
from comfy.ldm.wan.model import WanModel
from torch import Tensor, nn

from ..host.weights import Checkpoint, load_diffusion_model, on_meta, require_fit, save_weights
from .video_prompt_keys import HEAD, PUBLISHED_LAYERS, UNUSED_IN_LAST, expert_keys, used_keys

LAYERS = "semantic_video_layers"  # attachment: the places of the expert's blocks in the backbone
SCALES = re.compile(r"\.(scale_weight|scale_input|weight_scale|input_scale)$|^scaled_fp8$")  # of scaled fp8 weights
NEEDED = ("patch_embedding.weight", "patch_embedding.bias", "blocks.0.ffn.0.weight")  # from which a Wan is recognised
MOST = 2**20  # of any number in metadata "config", far above any model's
REMEDY = "Download the checkpoint again, or extract the expert again with VAP Save Expert."


def open_expert(path: Path) -> tuple[Checkpoint, dict[str, str], dict[str, str]]:
    """(file, {key of the file: ComfyUI's name} of what inference uses, metadata that says where the blocks belong).

    Names and shapes are proved from the header, nothing is read. Raises ValueError, naming file and tensor.
    """
    path = Path(path)
    file = Checkpoint(path)
    try:
        names, layers = expert_keys(file.keys, file.metadata)
        wanted = set(used_keys(names.values()))
        names = {key: name for key, name in names.items() if name in wanted}
        config = host_config(file.metadata, len(layers))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}. {REMEDY}") from None
    header = file.header({key: name for key, name in names.items() if not SCALES.search(name)})
    require_fit(expected(header, len(layers), config, path.name), header, path.name, REMEDY)
    metadata = {key: value for key, value in file.metadata.items() if key != "_quantization_metadata"}
    return file, names, metadata | {"layers": ",".join(map(str, layers))}


def host_config(metadata: dict[str, str], blocks: int) -> dict:
    """What metadata "config" tells ComfyUI of the model beyond its tensors. Raises ValueError for what is no Wan's."""
    try:
        config = json.loads(metadata.get("config", "{}")).get("transformer", {})
        items = list(config.items())
    except (ValueError, RecursionError, AttributeError):
        raise ValueError('has damaged metadata: "config" is no JSON object with a "transformer"') from None
    known = set(inspect.signature(WanModel).parameters) - {"device", "dtype", "operations", "wan_attn_block_class"}
    for name, value in items:
        if name not in known or not plain(value):
            raise ValueError(f"has metadata \"config\" that is no Wan's: '{name[:40]}' is {str(value)[:40]}")
    if config.get("num_layers", blocks) != blocks:
        raise ValueError(f'has {blocks} blocks, but metadata "config" says num_layers {config["num_layers"]}')
    return config


def plain(value) -> bool:
    """Whether a value of a model's config is one that a model can have."""
    if isinstance(value, list):
        return len(value) <= 3 and all(isinstance(item, int) and abs(item) <= MOST for item in value)
    if isinstance(value, int | float):
        return 0 <= value <= MOST
    return isinstance(value, str) or value is None


def expected(header: dict[str, Tensor], blocks: int, config: dict, source: str) -> dict[str, tuple[int, ...]]:
    """{name: shape} of an expert of so many blocks, by one block of ComfyUI's Wan on the meta device: the cost does not
    grow with what a file declares."""
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise ValueError(f"{source}: tensor '{missing[0]}' is missing. {REMEDY}")
    one = {name: tensor for name, tensor in header.items() if not re.match(r"blocks\.(?!0\.)", name)}
    metadata = {"config": json.dumps({"transformer": config | {"num_layers": 1}})}
    try:
        host = comfy.model_detection.detect_unet_config(one | zero_head(header, "meta"), "", metadata)
        wan = on_meta(lambda **place: WanModel(**host, **place))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, AssertionError, ArithmeticError) as error:
        raise ValueError(
            f"{source}: its tensors and metadata describe no Wan model of ComfyUI's ({type(error).__name__}: {error}). "
            f"{REMEDY}"
        ) from None
    shapes = {}
    for name, tensor in wan.state_dict().items():
        if name in HEAD:
            continue
        if not name.startswith("blocks.0."):
            shapes[name] = tuple(tensor.shape)
            continue
        for block in range(blocks - bool(UNUSED_IN_LAST.search(name))):
            shapes[name.replace("blocks.0.", f"blocks.{block}.", 1)] = tuple(tensor.shape)
    return shapes


def zero_head(weights: dict[str, Tensor], device: str = "cpu") -> dict[str, Tensor]:
    """A head such as an expert does not have, by which ComfyUI recognises a Wan."""
    width = weights["patch_embedding.weight"].shape[0]
    return {name: torch.zeros(shape, device=device) for name, shape in zip(HEAD, ((1, 2, width), (64, width), (64,)))}


def read_expert(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights of the expert, under ComfyUI's names and trimmed, and metadata that says where they belong. Raises
    ValueError as `open_expert`, before any is read, and for NaN or infinite weights."""
    file, names, metadata = open_expert(path)
    return file.read(names), metadata


def load_expert(path: Path, model_options: dict | None = None):
    """A MODEL holding the expert: the host's own Wan of as many blocks, without what inference does not use. Raises
    ValueError as `read_expert`."""
    path = Path(path)
    weights, metadata = read_expert(path)
    last = f"blocks.{metadata['layers'].count(',')}."
    # no memory; or the host warns of missing weights
    trimmed_off = {
        key.replace("blocks.0.", last): torch.zeros(()).expand(value.shape)
        for key, value in weights.items()
        if key.startswith("blocks.0.") and not SCALES.search(key)
    }
    patcher = load_diffusion_model(trimmed_off | weights | zero_head(weights), path.name, model_options, metadata)
    module = patcher.model.diffusion_model
    last = module.blocks[-1]
    for owner, name in (
        (module, "head"),
        (last.self_attn, "q"),
        (last.self_attn, "o"),
        (last.self_attn, "norm_q"),
        (last, "cross_attn"),
        (last, "norm3"),
        (last, "ffn"),
    ):
        setattr(owner, name, nn.Identity())
    patcher.size = 0  # to be measured again without them
    patcher.set_attachments(LAYERS, tuple(int(n) for n in metadata["layers"].split(",")))
    patcher.cached_patcher_init = (load_expert, (path, model_options))
    return patcher


def layers_of(expert) -> tuple[int, ...]:
    """Places of an expert's blocks in the backbone; the published ones for an expert that another loader (GGUF, say)
    brought."""
    return expert.attachments.get(LAYERS, PUBLISHED_LAYERS)


def extract_expert(source: Path, target: Path) -> None:
    """Writes the expert of `source`, in the dtype it has there, to a file of its own."""
    weights, metadata = read_expert(source)
    save_weights(weights, target, metadata | {"format": "video-as-prompt expert", "source": source.name})
