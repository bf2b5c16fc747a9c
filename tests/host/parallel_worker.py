"""One of the processes of test_parallel_training.py: python parallel_worker.py FOLDER, its rank in the environment."""

import json
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT / "tests")
    import conftest  # noqa: F401  (the package)

    from semantic_video.tests.host import conftest as host  # noqa: F401  (starts ComfyUI)

# ruff: noqa: E402
import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from safetensors.torch import save_file

from semantic_video.harness.sampling import Shot, seeded
from semantic_video.training import parallel
from semantic_video.training.plan import Plan
from semantic_video.training.ssg_adapter import Settings, train_adapter

SHOT, BATCH, STOP = Shot("wan-t2v", frames=3), 4, 2


def plan_of(folder: Path, name: str, **changes) -> Plan:
    """Small steps: Muon rounds its directions to bf16, which is 1e-3 of a step."""
    return Plan(**{"name": name, "cache": folder, "steps": 4, "batch": BATCH, "rate": 1e-3, "warmup": 1} | changes)


def run(folder: Path, plan: Plan):
    """(weights, state, exports) of training on videos that differ in all they have, objects and lengths of text too."""
    from semantic_video.tests.host.test_ssg_training import batch_of, spec_of

    model, exports = comfy.sd.load_diffusion_model(str(folder / "toy.safetensors")), []

    def draw(rng):
        batch = batch_of(model, SHOT, plan.batch, scale=rng.random())
        cover = (seeded(plan.batch, 1, *batch.latents.shape[2:], seed=rng.randrange(100)) > 0.5).float()
        return replace(batch, cover=cover)

    settings = Settings(draw, every=2, dtype=None)
    weights, state = train_adapter(
        model, spec_of(model), draw, replace(plan, ema=0.5), lambda *_: exports.append(1), settings
    )
    return {key: value.clone() for key, value in weights.items()}, state, len(exports)


def refusal(folder: Path) -> str:
    try:
        run(folder, plan_of(folder, "odd", batch=3))
    except ValueError as error:
        return str(error)
    return ""


def interrupted(folder: Path) -> str:
    """The second process is interrupted in step STOP; what the training ends with."""
    usual = comfy.utils.ProgressBar.update_absolute

    def check(bar, step: int) -> None:
        if step == STOP and not parallel.first():
            raise comfy.model_management.InterruptProcessingException

    comfy.utils.ProgressBar.update_absolute = check
    try:
        run(folder, plan_of(folder, "parted", checkpoint_minutes=0.0))
    except BaseException as error:
        return type(error).__name__
    finally:
        comfy.utils.ProgressBar.update_absolute = usual
    return ""


def gradients() -> list[list[float] | None]:
    """Means of gradients that one process, both and none of them has."""
    rank, [one, both, none] = float(not parallel.first()), [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    one.grad = torch.tensor([1.0, 3.0]) if rank else None
    both.grad = torch.tensor([rank, 4.0])
    parallel.mean_gradients([one, both, none])
    return [None if p.grad is None else p.grad.tolist() for p in (one, both, none)]


def main(folder: Path) -> None:
    with torch.inference_mode(), parallel.joined(cuda=False):
        name = "first" if parallel.first() else "second"
        weights, state, exports = run(folder, plan_of(folder, "whole"))
        save_file(weights, folder / f"{name}-weights.safetensors")
        told = {"curves": state.curves, "step": state.step, "seconds": state.seconds, "exports": exports}
        told |= {"refused": refusal(folder), "ended": interrupted(folder), "gradients": gradients()}
        told["turns"] = [i for i in range(5) if parallel.turn(i)]
        (folder / f"{name}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
