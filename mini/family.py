"""MiniWorld's model family in a ComfyUI server: mounted through an extra-model-paths file, never into anybody's own
models."""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
WEIGHTS, WORKFLOWS = HERE / "weights", HERE / "workflows"
NODES = "mini.nodes"  # the module whose nodes a server gets beside the pack's


def has(*names: str) -> bool:
    """Whether these models of the family are trained and there: "t2v", "i2v", "vae", "clip", "vap_expert"."""
    return all((WEIGHTS / f"mini_{name}.safetensors").exists() for name in names)


def mount(base: Path) -> tuple[str, ...]:
    """Arguments for a server whose folder is `base`."""
    paths = base / "mini_family.yaml"
    kinds = ("diffusion_models", "vae", "clip_vision", "model_patches", "semantic_video_mini")
    paths.write_text(
        "mini_family:\n" + "".join(f"  {kind}: {json.dumps(str(WEIGHTS))}\n" for kind in kinds), encoding="utf-8"
    )
    return ("--extra-model-paths-config", str(paths))


def workflow(name: str, **changes) -> dict:
    """A workflow of mini/workflows, with inputs changed as in workflow("mini_t2v", latent={"length": 81})."""
    api = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    for node, inputs in changes.items():
        api[node]["inputs"] |= inputs
    return api
