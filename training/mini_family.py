"""python run.py train mini-vae | mini-clip | mini-t2v | mini-i2v: the mini model family of MiniWorld, through the host's own modules.

Each can be stopped and continued (--resume) and leaves in OUT a safetensors file that ComfyUI's loaders read, with the command, the seed, the
steps and the held-out scores in its metadata. Order: mini-vae and mini-clip first, then mini-t2v, then mini-i2v, which starts from mini-t2v.
"""
import argparse
import json
import shlex
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = {  # name -> module, minutes, batch, rate
    "mini-vae": ("mini_vae", 60.0, 8, 3e-3),
    "mini-clip": ("clip_training", 15.0, 96, 1e-3),
    "mini-latents": ("mini_dit", 0.0, 16, 0.0),
    "mini-t2v": ("mini_dit", 60.0, 24, 2e-3),
    "mini-i2v": ("mini_dit", 30.0, 24, 1e-3),
}


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="run.py train", description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("model", choices=MODELS)
    options.add_argument("--minutes", type=float, help="train so long (default: its own, unless --steps is given)")
    options.add_argument("--steps", type=int, help="train so many steps")
    options.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    options.add_argument("--out", type=Path, default=ROOT / "miniworld" / "weights", help="folder of the finished files")
    options.add_argument("--cache", type=Path, default=ROOT / ".cache" / "training", help="folder of checkpoints, latents and plots")
    options.add_argument("--batch", type=int, help="clips (or pictures) a step")
    options.add_argument("--rate", type=float, help="highest learning rate")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--held-out", type=int, default=200, help="held-out scenes to score on")
    options.add_argument("--scenes", type=int, default=40000, help="distinct scenes to train the DiTs on (mini-latents only encodes them)")
    options.add_argument("--export-minutes", type=float, help="also write the finished file so often")
    return options


def main(arguments: list[str]) -> int:
    """Trains as the command line says; ComfyUI is on the path by then (cli/train.py)."""
    chosen = parser().parse_args(arguments)
    module, minutes, batch, rate = MODELS[chosen.model]
    import comfy.model_management
    comfy.model_management.in_training = True  # hosts that fuse RoPE have no backward pass for it
    from .loop import Plan
    plan = Plan(chosen.model, chosen.cache, chosen.minutes or (None if chosen.steps else minutes), chosen.steps, chosen.batch or batch,
                chosen.seed, chosen.rate or rate, resume=chosen.resume, export_minutes=chosen.export_minutes,
                held_out=chosen.held_out, scenes=chosen.scenes)
    command = shlex.join(["python", "run.py", "train", *arguments])

    def describe(state, scores) -> dict[str, str]:
        return {"training": json.dumps({"command": command, "seed": plan.seed, "steps": state.step, "minutes": round(state.seconds / 60, 1),
                                        "host": comfy_version(), "held_out": scores}), "format": "pt"}

    chosen.out.mkdir(parents=True, exist_ok=True)
    scores = import_module(f".{module}", __package__).run(plan, chosen.out, describe)
    print(json.dumps({chosen.model: scores}))
    return 0


def comfy_version() -> str:
    try:
        import comfyui_version
        return comfyui_version.__version__
    except ImportError:
        return ""
