"""The training loop of host/loop.py, which nodes use too."""
from ..host.loop import (
    Average,
    Optimizer,
    Plan,
    State,
    atomic_save,
    checkpoint_path,
    load_checkpoint,
    plot,
    progress,
    rate_at,
    save_checkpoint,
    train,
)

__all__ = ["Average", "Optimizer", "Plan", "State", "atomic_save", "checkpoint_path", "load_checkpoint", "plot", "progress", "rate_at", "save_checkpoint",
           "train"]
