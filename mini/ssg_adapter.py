"""The mini SSG Adapter beside mini-t2v, trained on MiniWorld: training/ssg_adapter.py with cached latents and prompted
images.

What is prompted is the first frame of the video itself; the objects of its caption are found in it by the mini CLIP,
and the rest is darkened.
"""

from pathlib import Path

import comfy.sd
import torch
from torch import Tensor

from ..host.clip_loading import load_clip
from ..host.frozen_model import model_conds
from ..kernels.ssg_adapter import parameter_count
from ..miniworld.caption import caption
from ..training.parallel import first_alone
from ..training.plan import Plan, State, progress
from ..training.ssg_adapter import Settings, save_adapter, train_adapter
from ..training.ssg_loss import Batch, Draw
from ..training.ssg_model import blocks_of, spec_for
from . import clip as mini_clip
from . import latents, prompted
from . import vae as mini_vae
from .dit import UNSAID
from .latents import SHARD, folder_of
from .prompted import Prompted
from .ssg_scores import held_out_scores

RANK, TOKEN_WIDTH = 22, 48  # with 24 the weights that ship would be a little over 20 MB
MOST_SCENES = 12800
RELATION_SAID = 0.5  # share of the captions of two objects that say where they are
LARGEST = 0.05  # of the model's parameters


def draw_mini(model, text_clip, data: Prompted, count: int) -> Draw:
    """`Draw` of `losses` for MiniWorld."""

    def draw(rng) -> Batch:
        scenes, tensors = data.batch(rng, count)
        x0 = tensors["latents"]
        captions = [caption(scene, rng, UNSAID, relation=rng.random() < RELATION_SAID) for scene in scenes]
        texts = mini_clip.encode_text(text_clip, [*captions, ""])
        each = [model_conds(model, x0[:1], text[None]) for text in texts]
        return Batch(x0, each[:-1], each[-1:] * count, tensors["features"], tensors["cover"])

    return draw


def run(
    plan: Plan,
    out: Path,
    describe,
    rank: int = RANK,
    token_width: int = TOKEN_WIDTH,
    blocks: str = "",
    spatial: str = "rope",
) -> dict[str, float]:
    """Trains the mini adapter, exports it to out/mini_ssg_adapter.safetensors, returns the held-out scores. ValueError
    if what it builds on is missing, or if it would have more than a twentieth of the model's parameters."""
    files = {name: out / f"{name}.safetensors" for name in ("mini_vae", "mini_clip", "mini_t2v")}
    if absent := [name for name, file in files.items() if not file.exists()]:
        raise ValueError(
            f"{plan.name} builds on {', '.join(absent)}; train it first: python run.py train "
            f"{absent[0].replace('_', '-')}"
        )
    path = out / "mini_ssg_adapter.safetensors"
    vae, text_clip, clip = (
        mini_vae.load(files["mini_vae"]),
        mini_clip.load(files["mini_clip"]),
        load_clip(files["mini_clip"]),
    )
    folder, name, shards = (
        folder_of(plan.cache, vae, plan.seed),
        prompted.name_of(files["mini_clip"]),
        -(-min(plan.scenes, MOST_SCENES) // SHARD),
    )
    with first_alone():
        latents.fill(folder, vae, plan.seed, shards * SHARD)
        with torch.inference_mode():
            prompted.fill(folder, clip, name, plan.seed, shards)
    data = Prompted(folder, name, plan.seed, shards)
    model = comfy.sd.load_diffusion_model(str(files["mini_t2v"]), model_options={"dtype": torch.float32})
    spec = spec_for(model, data.tensors["features"][:1], rank, blocks_of(model, blocks), token_width, spatial)
    size, limit = parameter_count(spec), LARGEST * sum(p.numel() for p in model.model.diffusion_model.parameters())
    if size > limit:
        raise ValueError(
            f"--rank {rank}: {size} parameters, more than a twentieth of the model's ({limit:.0f}). Lower it, "
            "--token-width, or name fewer --blocks."
        )

    scores: dict[str, float] = {}

    def export(weights: dict[str, Tensor], state: State) -> None:
        """Fewer captions while there is more to come."""
        captions = plan.held_out if progress(plan, state) >= 1 else min(plan.held_out, 50)
        save_adapter(weights, spec, path, describe(state, {}))
        scores.update(
            held_out_scores(
                files["mini_t2v"],
                path,
                files["mini_vae"],
                text_clip,
                clip,
                captions,
                sheet=plan.cache / f"{plan.name}-samples.png",
            )
        )
        save_adapter(
            weights, spec, path, describe(state, scores | {"distinct_scenes": shards * SHARD, "parameters": size})
        )
        print(f"step {state.step}, {size} parameters:", scores, flush=True)

    train_adapter(
        model, spec, draw_mini(model, text_clip, data, plan.batch), plan, export, Settings(checkpointing=False)
    )
    return scores
