"""Files of plans and compressors: safetensors whose metadata says what they are, proved before anything is allocated.

Plan: one tensor "tokens" [time, height, width, dims]; metadata format, version, fps, encoder.
Compressor: the state of `Compressor`, and its spec in the metadata.
"""

import hashlib
import math
from dataclasses import fields
from pathlib import Path

import torch

from ..host.weights import Checkpoint, load_weights, on_meta, require_fit, save_weights
from ..kernels.compressor import Compressor, CompressorSpec
from ..kernels.semantic_plan import SemanticPlan, check

PLAN, COMPRESSOR, VERSION = "semantic-plan", "plan-compressor", "1"
REMEDY = "Export or copy the file again."
LONGEST_NAME = 1000  # of an encoder's


def save_plan(plan: SemanticPlan, path: str | Path) -> None:
    """Raises ValueError for plans that `check` refuses."""
    check(plan)
    metadata = {"format": PLAN, "version": VERSION, "fps": repr(float(plan.fps)), "encoder": plan.encoder}
    save_weights({"tokens": plan.tokens.float()}, path, metadata)


def load_plan(path: str | Path) -> SemanticPlan:
    """Raises ValueError, naming file and reason, for anything that is no plan."""
    file = Checkpoint(path)
    name = file.path.name
    require_format(file, PLAN, "plan")
    if file.keys != ["tokens"]:
        raise ValueError(f"{name}: holds {len(file.keys)} tensors, expected one, 'tokens'. {REMEDY}")
    shape = tuple(file.header({"tokens": "tokens"})["tokens"].shape)
    if len(shape) != 4:
        raise ValueError(f"{name}: tokens of shape {shape}, expected [time, height, width, dims]. {REMEDY}")
    plan = SemanticPlan(
        file.read({"tokens": "tokens"})["tokens"].float(),
        number(file, "fps"),
        text(file, "encoder"),
    )
    check(plan, name)
    return plan


def save_compressor(compressor: Compressor, path: str | Path) -> None:
    spec = {f.name: str(getattr(compressor.spec, f.name)) for f in fields(CompressorSpec)}
    save_weights(compressor.state_dict(), path, {"format": COMPRESSOR, "version": VERSION} | spec)


def load_compressor(path: str | Path, dtype: torch.dtype | None = None):
    """(a model patcher around a Compressor, the encoder name of plans that it makes). Raises ValueError, naming file
    and reason, for anything else."""
    file = Checkpoint(path)
    name = file.path.name
    require_format(file, COMPRESSOR, "compressor of plans")
    try:
        values = {
            f.name: text(file, f.name) if f.name == "encoder" else count(file, f.name) for f in fields(CompressorSpec)
        }
        spec = CompressorSpec(**values)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(name) else f"{name}: {message}. {REMEDY}") from None
    names = {key: key for key in file.keys}

    def build(**place):
        return Compressor(spec, **place)

    header = file.header(names)
    require_fit(on_meta(build), header, name, REMEDY)
    weights = file.read(names)
    patcher = load_weights(build, weights, name, dtype or torch.float32)
    return patcher, compressed_encoder(spec, weights)


def compressed_encoder(spec: CompressorSpec, weights: dict) -> str:
    """The encoder name of plans made with a compressor: its tower, and which weights made them, so that plans of two
    compressors do not mix, whatever their files are called."""
    digest = hashlib.sha256()
    for key, value in sorted(weights.items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return f"{spec.encoder} > {spec.dims} dims {digest.hexdigest()[:12]}"


def require_format(file: Checkpoint, expected: str, what: str) -> None:
    found = file.metadata.get("format")
    if found != expected:
        raise ValueError(
            f"{file.path.name}: is no {what}: its metadata gives the format as {str(found)[:40]}, expected {expected}. "
            "Choose another file."
        )
    version = file.metadata.get("version")
    if version != VERSION:
        raise ValueError(
            f"{file.path.name}: is a {what} of version {str(version)[:40]}; this pack reads {VERSION}. Update the pack."
        )


def text(file: Checkpoint, key: str) -> str:
    value = file.metadata.get(key, "")
    if not 1 <= len(value) <= LONGEST_NAME:
        raise ValueError(f"{file.path.name}: its metadata lacks {key}, or it is damaged. {REMEDY}")
    return value


def number(file: Checkpoint, key: str) -> float:
    try:
        value = float(text(file, key))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"{file.path.name}: {key} is '{file.metadata.get(key, '')[:40]}' in its metadata, expected a number above "
            f"0. {REMEDY}"
        )
    return value


def count(file: Checkpoint, key: str) -> int:
    value = text(file, key)
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise ValueError(
            f"{file.path.name}: {key} is '{value[:40]}' in its metadata, expected a whole number. {REMEDY}"
        )
    return int(value)
