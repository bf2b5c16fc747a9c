"""Checkpoints of a training: a safetensors file of weights ("model."), their average ("ema.") and the optimizer's
moments ("optimizer."), with the counters as JSON in its metadata. Nothing is pickled, nothing is half written, and
everything is proved before it is used: names, shapes and dtypes from the file's header, counters by their range,
numbers by being finite."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..host.weights import save_weights
from .optimizer import MOMENTS, Optimizer
from .plan import Plan, State

MODEL, AVERAGE, OPTIMIZER = "model.", "ema.", "optimizer."
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
MOST = 2**53  # integers beyond it are no floats


def save_checkpoint(path: Path, state: State, module: nn.Module, average: AveragedModel, optimizer: Optimizer) -> None:
    tensors = {f"{MODEL}{key}": value.clone() for key, value in module.state_dict().items()}
    tensors |= {f"{AVERAGE}{key}": value for key, value in average.module.state_dict().items()}
    tensors |= {f"{OPTIMIZER}{key}": value for key, value in optimizer.moments().items()}
    save_weights(tensors, path, {"state": json.dumps(state.__dict__), "tensors": str(len(tensors))})


def load_checkpoint(path: Path, module: nn.Module, average: AveragedModel, optimizer: Optimizer) -> State:
    """Fills all three and returns the counters. Raises ValueError, naming the file, the reason and the remedy, for a
    file that is damaged, of something else, or holds NaN; nothing is filled then."""
    with _opened(path) as file:
        state = read_state(file.metadata())
        _require_count(file)
        _require_weights(file, module)
        _require_moments(file, optimizer)
        tensors = {key: _finite(key, file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118  (not a dict)
    module.load_state_dict(_part(tensors, MODEL))
    average.module.load_state_dict(_part(tensors, AVERAGE))
    average.n_averaged.fill_(state.step)
    optimizer.load_moments(_part(tensors, OPTIMIZER))
    return state


def require_resumable(plan: Plan, *targets: Path) -> None:
    """Raises ValueError as `require_readable`, and where `plan` would resume without a checkpoint: it would begin anew
    and write over those of `targets`, the files of an earlier training, that exist."""
    if not plan.resume:
        return
    if plan.checkpoint.exists():
        require_readable(plan.checkpoint)
    elif written := [target.name for target in targets if target.exists()]:
        raise ValueError(
            f"resume: there is no checkpoint {plan.checkpoint} to go on from, and training anew would write over "
            f"{' and '.join(written)}. Move or delete what is there, or choose another name."
        )


def require_readable(path: Path) -> None:
    """Raises ValueError as `load_checkpoint` for what can be told of a file before there is anything to fill."""
    with _opened(path) as file:
        read_state(file.metadata())
        _require_count(file)


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    """What goes wrong with the file within ends in an error that names it."""
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"resume: {path}: {str(error).rstrip('.')}. Training cannot go on from it: move it away, or train without "
            "resume."
        ) from None


def read_state(metadata: dict[str, str] | None) -> State:
    """The counters of a checkpoint. Raises ValueError for what they cannot be."""
    try:
        found = json.loads((metadata or {})["state"])
    except (KeyError, ValueError, RecursionError):
        raise ValueError("its metadata has no state of a training") from None
    if not isinstance(found, dict) or found.keys() != {"step", "seconds", "curves"}:
        raise ValueError("its state is not made of step, seconds and curves")
    step, seconds, curves = found["step"], found["seconds"], found["curves"]
    if type(step) is not int or not 0 <= step < MOST:
        raise ValueError(f"its step is {str(step)[:40]}, not a count")
    if not _is_number(seconds) or not 0 <= seconds < math.inf:
        raise ValueError(f"its seconds are {str(seconds)[:40]}, not a time")
    if not isinstance(curves, dict):
        raise ValueError("its curves have no names")
    for name, curve in curves.items():
        if not isinstance(curve, list) or not all(_is_point(point, step) for point in curve):
            raise ValueError(f"its curve '{name[:40]}' is not made of steps up to {step} and numbers")
    points = {name: [(at, float(value)) for at, value in curve] for name, curve in curves.items()}
    return State(step, float(seconds), points)


def _is_number(value) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < MOST)


def _is_point(point, last: int) -> bool:
    if not isinstance(point, list) or len(point) != 2:
        return False
    step, value = point
    return type(step) is int and 0 <= step <= last and _is_number(value)  # a loss may have been NaN for a while


def _require_count(file) -> None:
    """Files of versions before 0.2.0 do not say how many tensors they have."""
    said, found = (file.metadata() or {}).get("tensors"), len(list(file.keys()))
    if said is not None and said != str(found):
        raise ValueError(f"it has {found} tensors, and says {said[:20]}")


def _header(file) -> dict[str, tuple[torch.dtype | str, tuple[int, ...]]]:
    slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    return {key: (DTYPES.get(x.get_dtype(), x.get_dtype()), tuple(x.get_shape())) for key, x in slices.items()}


def _require_weights(file, module: nn.Module) -> None:
    header, state = _header(file), module.state_dict()
    for prefix in (MODEL, AVERAGE):
        expected = {f"{prefix}{key}": (value.dtype, tuple(value.shape)) for key, value in state.items()}
        found = {key: value for key, value in header.items() if key.startswith(prefix)}
        wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        if wrong:
            key = wrong[0]
            raise ValueError(
                f"{len(wrong)} of its tensors do not fit, first '{key}': expected {_told(expected.get(key))}, found "
                f"{_told(found.get(key))}. It was made for another model or with other settings (rank, blocks, CLIP)"
            )
    strange = [key for key in header if not key.startswith((MODEL, AVERAGE, OPTIMIZER))]
    if strange:
        raise ValueError(f"its tensor '{strange[0]}' is none of a training")


def _require_moments(file, optimizer: Optimizer) -> None:
    """A parameter that had no gradient yet has no moments; one that has some has all."""
    expected = optimizer.moment_shapes()
    found = {key[len(OPTIMIZER) :]: value for key, value in _header(file).items() if key.startswith(OPTIMIZER)}
    for key, (dtype, shape) in found.items():
        if key not in expected:
            raise ValueError(
                f"'{OPTIMIZER}{key}' is no moment of this model's optimizer. It was made with another model or another "
                "version of torch"
            )
        if shape != expected[key] or not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise ValueError(f"'{OPTIMIZER}{key}': expected {list(expected[key])}, found {_told((dtype, shape))}")
        name, i, _ = key.split(".")
        missing = [other for other in MOMENTS[name] if f"{name}.{i}.{other}" not in found]
        if missing:
            raise ValueError(f"'{OPTIMIZER}{name}.{i}.{missing[0]}' is missing")


def _told(tensor: tuple | None) -> str:
    return "none" if tensor is None else f"{str(tensor[0]).removeprefix('torch.')} {list(tensor[1])}"


def _finite(key: str, value: Tensor) -> Tensor:
    if not torch.isfinite(value).all():
        raise ValueError(f"'{key}' holds NaN or infinite numbers. Its training had failed by then")
    if key.startswith(OPTIMIZER) and key.endswith((".step", ".exp_avg_sq")) and (value < 0).any():
        raise ValueError(f"'{key}' is negative")
    return value


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
