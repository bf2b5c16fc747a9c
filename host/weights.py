"""Extra weights (adapters, experts) as ordinary ComfyUI model patchers, so that dtype choice, offloading and dynamic
VRAM are the host's."""

import hashlib
import re
from collections.abc import Callable, Mapping
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

from .target_file import PARTIAL

# what safetensors calls them
FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
CHUNK = 2**18  # numbers that are looked at together, so that no second copy of a tensor is made


class Checkpoint:
    """A .safetensors file, or the sharded checkpoint it belongs to, of which nothing is read but what is asked for.

    Raises ValueError for files that are missing, truncated or not safetensors.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.suffix != ".safetensors":
            raise ValueError(
                f"{self.path.name}: not a .safetensors file. Other formats can carry code and are not read; convert it "
                "first."
            )
        files = [self._open(file) for file in self._shards()]
        self._file_of = {key: file for file in files for key in file.keys()}  # noqa: SIM118  not a dict
        self.metadata: dict[str, str] = files[0].metadata() or {}

    def _open(self, file: Path):
        if "\0" in str(file):
            raise ValueError(f"{str(file)!r}: a file name cannot hold a null byte. Check the name.")
        try:
            if file.is_dir():
                raise ValueError(f"{file}: is a folder, not a file. Choose the .safetensors file inside it.")
            return safe_open(file, framework="pt")
        except FileNotFoundError:
            raise ValueError(f"{file}: no such file. Check the name, and refresh the node's list.") from None
        except SafetensorError as error:
            raise ValueError(f"{file.name}: damaged or incomplete ({error}). Download or copy it again.") from None
        except OSError as error:
            raise ValueError(f"{file}: cannot be read ({error.strerror or error}). Check the file's rights.") from None

    def _shards(self) -> list[Path]:
        match = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.safetensors", self.path.name)
        if not match:
            return [self.path]
        number, count = int(match[2]), int(match[3])
        if not 1 <= number <= count:
            raise ValueError(
                f"{self.path.name}: its name says part {number} of {count}, which cannot be. Name the file as it was "
                "published."
            )
        files = [self.path.with_name(f"{match[1]}-{i:05d}-of-{match[3]}.safetensors") for i in range(1, count + 1)]
        missing = [file.name for file in files if not file.exists()]
        if missing:
            raise ValueError(
                f"{self.path.name}: {len(missing)} of the checkpoint's {count} files are missing ({missing[0]} ...). "
                "Put all into one folder."
            )
        return files

    @property
    def keys(self) -> list[str]:
        return list(self._file_of)

    def header(self, names: dict[str, str]) -> dict[str, Tensor]:
        """The tensors of the keys of `names`, under its values, on the meta device: shapes and dtypes, nothing read.

        Raises ValueError, naming file and tensor, for tensors that are empty or not of floating-point numbers.
        """
        found = {}
        for key, name in names.items():
            tensor = self._file_of[key].get_slice(key)
            shape, kind = tuple(tensor.get_shape()), tensor.get_dtype()
            if kind not in FLOATS:
                raise ValueError(
                    f"{self.path.name}: tensor '{key}' is of {kind}, expected floating-point numbers "
                    f"({', '.join(FLOATS)}). Use a file that is not quantised, or load it with a loader for its format."
                )
            if 0 in shape:
                raise ValueError(
                    f"{self.path.name}: tensor '{key}' is empty, of shape {shape}. Download or export it again."
                )
            found[name] = torch.empty(shape, dtype=FLOATS[kind], device="meta")
        return found

    def read(self, names: dict[str, str]) -> dict[str, Tensor]:
        """The tensors of the keys of `names`, under its values. Raises ValueError, naming file and tensor, for NaN and
        infinite numbers."""
        progress = comfy.utils.ProgressBar(len(names))
        weights = {}
        for key, name in names.items():
            weights[name] = self._file_of[key].get_tensor(key)
            if not all_finite(weights[name]):
                raise ValueError(
                    f"{self.path.name}: tensor '{key}' holds NaN or infinite values. Download it again; if it "
                    "overflowed in fp16, use an fp32 or bf16 file."
                )
            progress.update(1)
        return weights


def all_finite(tensor: Tensor) -> bool:
    """Whether no number of `tensor` is NaN or infinite, for little more than the time to read it once."""
    if not tensor.is_floating_point():
        return True
    for piece in tensor.flatten().split(CHUNK):
        piece = piece.float() if piece.itemsize < 4 else piece
        if not torch.isfinite(piece.sum()) and not torch.isfinite(piece).all():  # a sum of large ones may overflow
            return False
    return True


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
    partial = path.with_name(PARTIAL.format(path.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.detach().contiguous() for key, value in weights.items()}, partial, metadata)
    partial.replace(path)


def weights_digest(weights: Mapping[str, Tensor], largest: int | None = None) -> str:
    """SHA-256, in hex, of names, shapes, dtypes and values, whatever their order and device.

    largest: values of tensors of more numbers than that are left out, for models whose large ones may be on disk or
    quantised. Values on the meta device are left out always.
    """
    digest = hashlib.sha256()
    for key, value in sorted(weights.items()):
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}\n".encode())
        if value.is_meta or (largest is not None and value.numel() > largest):
            continue
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def load_diffusion_model(
    weights: dict[str, Tensor], source: str, model_options: dict | None = None, metadata: dict[str, str] | None = None
):
    """A MODEL by ComfyUI's own loader, to which metadata "config" tells what tensors do not. Raises ValueError where it
    does not know the model."""
    patcher = comfy.sd.load_diffusion_model_state_dict(weights, model_options=model_options or {}, metadata=metadata)
    if patcher is None:
        raise ValueError(f"{source}: ComfyUI does not recognise the model in it.")
    return patcher


def on_meta(build: Callable[..., nn.Module]) -> nn.Module:
    """The module of `build(dtype=, device=, operations=)` without its memory, to compare shapes with."""
    with torch.device("meta"):  # also for parts that are built without naming a device
        return build(dtype=torch.float32, device="meta", operations=comfy.ops.disable_weight_init)


def shapes_of(tensors: nn.Module | Mapping) -> dict[str, tuple[int, ...]]:
    """{name: shape} of a module's state, or of a mapping to tensors or to shapes."""
    if isinstance(tensors, nn.Module):
        tensors = tensors.state_dict()
    return {name: tuple(getattr(value, "shape", value)) for name, value in tensors.items()}


def require_fit(expected: nn.Module | Mapping, weights: Mapping, source: str | Path, remedy: str = "") -> None:
    """Raises ValueError, naming `source` and the first wrong tensor and ending in `remedy`, where names or shapes of
    `weights` are not the expected ones. Both: anything that `shapes_of` takes."""
    expected, found = shapes_of(expected), shapes_of(weights)
    wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if wrong:
        raise ValueError(
            f"{source}: {len(wrong)} tensors do not fit, first '{wrong[0]}': expected "
            f"{expected.get(wrong[0], 'none')}, found {found.get(wrong[0], 'none')}. It was made for another model or "
            f"another version. {remedy}".rstrip()
        )


def load_weights(
    build: Callable[..., nn.Module], weights: dict[str, Tensor], source: str, dtype: torch.dtype | None = None
):
    """A model patcher around `build(dtype=, device=, operations=)` holding `weights`, cast to `dtype` where given.

    Raises ValueError, naming `source` and the keys, where the weights do not fit the module.
    """
    require_fit(on_meta(build), weights, source)
    dtype = dtype or comfy.model_management.unet_dtype(model_params=sum(t.numel() for t in weights.values()))
    offload_device = comfy.model_management.unet_offload_device()
    module = build(dtype=dtype, device=offload_device, operations=comfy.ops.manual_cast)
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
