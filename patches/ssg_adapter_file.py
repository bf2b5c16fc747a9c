"""SSG Adapter files: what the metadata declares is proved against the file's header before anything is allocated."""

import re
from pathlib import Path

import torch

from ..host.weights import Checkpoint, load_weights, on_meta, require_fit
from ..kernels.ssg_adapter import SSGAdapter
from ..kernels.ssg_spec import Spec

REMEDY = "Download or export the adapter again."


def load_adapter(path: Path, dtype: torch.dtype | None = None):
    """A model patcher around an SSGAdapter, its weights as stored or in `dtype`. Raises ValueError, naming file and
    reason, for anything else."""
    path = Path(path)
    file = Checkpoint(path)
    names = {key: key for key in file.keys}
    try:
        spec = Spec.read(file.metadata)
        require_blocks(spec, file.keys)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}.") from None
    header = file.header(names)

    def build(**place):
        return SSGAdapter(spec, **place)

    require_fit(on_meta(build), header, path.name, REMEDY)
    stored = next(iter(header.values())).dtype
    patcher = load_weights(build, file.read(names), path.name, dtype or stored)
    patcher.cached_patcher_init = (load_adapter, (path, dtype))  # for the host to load it on another device
    return patcher


def require_blocks(spec: Spec, keys: list[str]) -> None:
    """Raises ValueError where the branches of `keys` are not those of `spec`, without building either."""
    found = {match[1] for key in keys if (match := re.match(r"branches\.([^.]*)\.", key))}
    wrong = sorted(found ^ {str(block) for block in spec.blocks})
    if wrong:
        raise ValueError(
            f"its tensors do not fit: its metadata speaks of {len(spec.blocks)} blocks, its tensors of {len(found)}, "
            f"which differ in block '{wrong[0][:40]}'. {REMEDY[:-1]}"
        )
