"""run.py train mini-vae | mini-clip | mini-t2v | mini-i2v: see training/mini_family.py."""
from ..training.mini_family import main

__all__ = ["main"]
