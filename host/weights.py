"""Extra weights (adapters, experts) as ordinary ComfyUI model patchers, so that dtype choice, offloading and dynamic VRAM are the host's."""
from collections.abc import Callable
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn


def read_weights(path: str | Path, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors whose keys start with `prefix` (removed from them) and the file's metadata; nothing else of the file is read.

    Raises ValueError for a file that is missing, truncated, not safetensors, or without such keys.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path.name}: not a .safetensors file. Other formats can carry code and are not read; convert it first.")
    try:
        with safe_open(path, framework="pt") as file:
            keys = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118  not a dict
            weights = {key[len(prefix):]: file.get_tensor(key) for key in keys}
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file. Check the name, and refresh the node's list.") from None
    except SafetensorError as error:
        raise ValueError(f"{path.name}: damaged or incomplete ({error}). Download or copy it again.") from None
    if not weights:
        raise ValueError(f"{path.name}: holds no tensors '{prefix}*'; it was made for something else.")
    return weights, metadata


def load_weights(build: Callable[..., nn.Module], weights: dict[str, Tensor], source: str, dtype: torch.dtype | None = None):
    """A model patcher around `build(dtype=, device=, operations=)` holding `weights`, cast to `dtype` where given.

    Raises ValueError, naming `source` and the keys, where the weights do not fit the module.
    """
    dtype = dtype or comfy.model_management.unet_dtype(model_params=sum(t.numel() for t in weights.values()))
    offload_device = comfy.model_management.unet_offload_device()
    module = build(dtype=dtype, device=offload_device, operations=comfy.ops.manual_cast)
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    if expected != found:
        wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        raise ValueError(f"{source}: {len(wrong)} tensors do not fit, first '{wrong[0]}': expected {expected.get(wrong[0])}, found {found.get(wrong[0])}. "
                         "It was made for another model or another version.")
    patcher = comfy.model_patcher.CoreModelPatcher(module, load_device=comfy.model_management.get_torch_device(), offload_device=offload_device)
    module.load_state_dict({key: value.to(dtype) for key, value in weights.items()}, assign=patcher.is_dynamic())
    return patcher


def attach_weights(model, key: str, patcher):
    """A clone of MODEL that loads, offloads and clones `patcher` along with itself."""
    model = model.clone()
    model.set_additional_models(key, [patcher])
    return model
