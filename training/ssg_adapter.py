"""The mini SSG Adapter beside mini-t2v, trained on MiniWorld: patches/ssg_training.py with cached latents and prompted images.

What is prompted is the first frame of the clip itself; the objects of its caption are found in it by the mini CLIP, and the rest is darkened.
"""
from dataclasses import replace
from pathlib import Path

import comfy.model_management
import comfy.sd
import torch
from torch import Tensor

from ..host.clip_loading import load_clip
from ..host.training import conds_of, load_frozen
from ..host.weights import save_weights
from ..kernels.ssg_adapter import Spec, SSGAdapter, initialise, parameter_count
from ..miniworld.caption import caption
from ..patches.ssg_training import Batch, follow, make_loss, spec_for
from . import latents as clips
from . import mini_clip, mini_vae, prompted
from .data import rng_of
from .evaluate_ssg import held_out_scores
from .latents import SHARD, folder_of
from .loop import Plan, State, train
from .mini_dit import UNSAID
from .prompted import Prompted

RANK, TOKEN_WIDTH = 24, 48
MOST_SCENES = 12800
LARGEST = 0.05  # of the model's parameters


def draw_mini(model, text_clip, data: Prompted, count: int):
    """`draw` of `make_loss` for MiniWorld."""
    def draw(rng) -> Batch:
        scenes, tensors = data.batch(rng, count)
        x0 = tensors["latents"]
        texts = mini_clip.encode_text(text_clip, [*(caption(scene, rng, drop=UNSAID) for scene in scenes), ""])
        each = [conds_of(model, x0[:1], text[None]) for text in texts]
        return Batch(x0, each[:-1], each[-1:] * count, tensors["features"], tensors["cover"])
    return draw


def export(weights: dict[str, Tensor], spec: Spec, path: Path, metadata: dict[str, str]) -> None:
    """bfloat16 for the SSG Adapter Loader."""
    save_weights({key: value.detach().bfloat16() for key, value in weights.items()}, path, metadata | spec.metadata)


def run(plan: Plan, out: Path, describe, rank: int = RANK, token_width: int = TOKEN_WIDTH, blocks: tuple[int, ...] | None = None,
        spatial: str = "rope") -> dict[str, float]:
    """Trains the mini adapter, exports it to out/mini_ssg_adapter.safetensors, returns the held-out scores. ValueError if what it builds on is missing, or
    if it would have more than a twentieth of the model's parameters."""
    files = {name: out / f"{name}.safetensors" for name in ("mini_vae", "mini_clip", "mini_t2v")}
    if absent := [name for name, file in files.items() if not file.exists()]:
        raise ValueError(f"{plan.name} builds on {', '.join(absent)}; train it first: python run.py train {absent[0].replace('_', '-')}")
    path = out / "mini_ssg_adapter.safetensors"
    vae, text_clip, clip = mini_vae.load(files["mini_vae"]), mini_clip.load(files["mini_clip"]), load_clip(files["mini_clip"])
    folder, name, shards = folder_of(plan.cache, vae, plan.seed), prompted.name_of(files["mini_clip"]), -(-min(plan.scenes, MOST_SCENES) // SHARD)
    clips.fill(folder, vae, plan.seed, shards * SHARD)
    with torch.inference_mode():
        prompted.fill(folder, clip, name, plan.seed, shards)
    data = Prompted(folder, name, plan.seed, shards)
    model = comfy.sd.load_diffusion_model(str(files["mini_t2v"]), model_options={"dtype": torch.float32})
    load_frozen(model)
    spec = spec_for(model, data.tensors["features"][:1], rank, blocks, token_width, spatial)
    size, limit = parameter_count(spec), LARGEST * sum(p.numel() for p in model.model.diffusion_model.parameters())
    if size > limit:
        raise ValueError(f"--rank {rank}: {size} parameters, more than a twentieth of the model's ({limit:.0f}). Use a lower rank, token width or fewer blocks.")
    adapter = SSGAdapter(spec)
    initialise(adapter, plan.seed)

    def finish(weights: dict[str, Tensor], state: State, captions: int = plan.held_out) -> dict[str, float]:
        export(weights, spec, path, describe(state, {}))
        scores = held_out_scores(files["mini_t2v"], path, files["mini_vae"], text_clip, clip, captions, sheet=plan.cache / f"{plan.name}-samples.png")
        export(weights, spec, path, describe(state, scores | {"distinct_scenes": shards * SHARD, "parameters": size}))
        print(f"step {state.step}, {size} parameters:", scores, flush=True)
        return scores

    def glance(weights: dict[str, Tensor], state: State) -> None:
        finish(weights, state, min(plan.held_out, 50))

    loss_of = make_loss(follow(model, adapter), draw_mini(model, text_clip, data, plan.batch), lambda step: rng_of(plan.seed, step, 17))
    weights, state = train(replace(plan), adapter, loss_of, glance if plan.export_minutes else None)
    return finish(weights, state)
