"""Extra weights (adapters, experts) as ordinary ComfyUI model patchers, so that dtype choice, offloading and dynamic
VRAM are the host's."""

import re
from collections.abc import Callable
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


class Checkpoint:
    """A .safetensors file, or the sharded checkpoint it belongs to, of which nothing is read but what is asked for.

    Raises ValueError for files that are missing, truncated or not safetensors.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.suffix != ".safetensors":
            raise ValueError(
                f"{self.path.name}: not a .safetensors file. Other formats can carry code and are not read; convert "
                "it first."
            )
        try:
            files = [safe_open(file, framework="pt") for file in self._shards()]
        except FileNotFoundError:
            raise ValueError(f"{self.path}: no such file. Check the name, and refresh the node's list.") from None
        except SafetensorError as error:
            raise ValueError(f"{self.path.name}: damaged or incomplete ({error}). Download or copy it again.") from None
        self._file_of = {key: file for file in files for key in file.keys()}  # noqa: SIM118  not a dict
        self.metadata: dict[str, str] = files[0].metadata() or {}

    def _shards(self) -> list[Path]:
        match = re.fullmatch(r"(.*)-\d{5}-of-(\d{5})\.safetensors", self.path.name)
        if not match:
            return [self.path]
        files = [
            self.path.with_name(f"{match[1]}-{i:05d}-of-{match[2]}.safetensors") for i in range(1, int(match[2]) + 1)
        ]
        missing = [file.name for file in files if not file.exists()]
        if missing:
            raise ValueError(
                f"{self.path.name}: {len(missing)} of the checkpoint's {len(files)} files are missing ({missing[0]} "
                "...). "
                "Put all into one folder."
            )
        return files

    @property
    def keys(self) -> list[str]:
        return list(self._file_of)

    def read(self, names: dict[str, str]) -> dict[str, Tensor]:
        """The tensors of the keys of `names`, under its values."""
        progress = comfy.utils.ProgressBar(len(names))
        weights = {}
        for key, name in names.items():
            weights[name] = self._file_of[key].get_tensor(key)
            progress.update(1)
        return weights


def read_weights(path: str | Path, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors whose keys start with `prefix` (removed from them) and the file's metadata. Raises ValueError as
    `Checkpoint`, or if there are none."""
    checkpoint = Checkpoint(path)
    names = {key: key[len(prefix) :] for key in checkpoint.keys if key.startswith(prefix)}
    if not names:
        raise ValueError(f"{checkpoint.path.name}: holds no tensors '{prefix}*'; it was made for something else.")
    return checkpoint.read(names), checkpoint.metadata


def save_weights(weights: dict[str, Tensor], path: str | Path, metadata: dict[str, str]) -> None:
    """Writes a safetensors file atomically: a file that is there is whole."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.detach().contiguous() for key, value in weights.items()}, partial, metadata)
    partial.replace(path)


def load_diffusion_model(
    weights: dict[str, Tensor], source: str, model_options: dict | None = None, metadata: dict[str, str] | None = None
):
    """A MODEL by ComfyUI's own loader, to which metadata "config" tells what tensors do not. Raises ValueError where it
    does not know the model."""
    patcher = comfy.sd.load_diffusion_model_state_dict(weights, model_options=model_options or {}, metadata=metadata)
    if patcher is None:
        raise ValueError(f"{source}: ComfyUI does not recognise the model in it.")
    return patcher


def require_fit(module: nn.Module, weights: dict[str, Tensor], source: str | Path, remedy: str = "") -> None:
    """Raises ValueError, naming `source` and the first wrong tensor and ending in `remedy`, where names or shapes of
    `weights` are not the module's."""
    expected, found = (
        {key: tuple(value.shape) for key, value in tensors.items()} for tensors in (module.state_dict(), weights)
    )
    if wrong := sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)):
        raise ValueError(
            f"{source}: {len(wrong)} tensors do not fit, first '{wrong[0]}': expected {expected.get(wrong[0])}, found "
            f"{found.get(wrong[0])}. "
            f"It was made for another model or another version. {remedy}".rstrip()
        )


def load_weights(
    build: Callable[..., nn.Module], weights: dict[str, Tensor], source: str, dtype: torch.dtype | None = None
):
    """A model patcher around `build(dtype=, device=, operations=)` holding `weights`, cast to `dtype` where given.

    Raises ValueError, naming `source` and the keys, where the weights do not fit the module.
    """
    dtype = dtype or comfy.model_management.unet_dtype(model_params=sum(t.numel() for t in weights.values()))
    offload_device = comfy.model_management.unet_offload_device()
    module = build(dtype=dtype, device=offload_device, operations=comfy.ops.manual_cast)
    require_fit(module, weights, source)
    patcher = comfy.model_patcher.CoreModelPatcher(
        module, load_device=comfy.model_management.get_torch_device(), offload_device=offload_device
    )
    module.load_state_dict({key: value.to(dtype) for key, value in weights.items()}, assign=patcher.is_dynamic())
    return patcher


def attach_weights(model, key: str, patcher):
    """A clone of MODEL that loads, offloads and clones `patcher` along with itself, beside those attached before."""
    model = model.clone()
    before = sum(other.partition("/")[0] == key for other in model.additional_models)
    model.set_additional_models(f"{key}/{before + 1}" if before else key, [patcher])
    return model
