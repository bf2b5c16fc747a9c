"""The mini Semantic Planner, trained on the plans that the mini compressor makes of MiniWorld's long videos:
training/planner.py with cached features of the mini CLIP."""

from pathlib import Path
from random import Random

import torch
from torch import Tensor

from ..host.clip_loading import load_clip
from ..kernels.plan_spec import PlannerSpec
from ..kernels.planner import parameter_count
from ..miniworld.caption import caption
from ..patches.plan_file import load_compressor
from ..patches.plan_weights import save
from ..training.plan import Plan, State
from ..training.plan_adapter import pooled
from ..training.planner import Batch, Draw, train_planner
from . import clip as mini_clip
from . import long_clips
from . import vae as mini_vae
from .dit import UNSAID
from .long_clips import FRAMES, TOKEN_FRAMES, LongClips
from .plan_adapter import GRID, MOST_SCENES, patches

WIDTH, HEADS, BLOCKS, FFN = 96, 3, 5, 256
SHIFT = 2.0
FPS = 16.0  # of MiniWorld's videos


def plans_of(compressor, features: Tensor, batch: int = 64) -> Tensor:
    """[n, 12, 4, 4, dims] of cached features."""
    with torch.no_grad():
        parts = [pooled(compressor.model(patches(some.float()))[0], GRID) for some in features.split(batch)]
    return torch.cat(parts)


def draw_mini(text_clip, data: LongClips, plans: Tensor, count: int) -> Draw:
    """`Draw` of `losses` for MiniWorld."""
    silent = mini_clip.encode_text(text_clip, [""])

    def draw(rng: Random) -> Batch:
        picks = [rng.randrange(len(plans)) for _ in range(count)]
        captions = [caption(data.scenes[i], rng, UNSAID) for i in picks]
        return Batch(plans[picks], mini_clip.encode_text(text_clip, captions), silent)

    return draw


def run(plan: Plan, out: Path, describe) -> dict[str, float]:
    """Trains the mini planner, exports it to out/mini_planner.safetensors, returns the last losses. ValueError if what
    it builds on is missing."""
    files = {name: out / f"mini_{name}.safetensors" for name in ("vae", "clip", "compressor")}
    if absent := [file.stem for file in files.values() if not file.exists()]:
        before = "plan-adapter" if absent == ["mini_compressor"] else absent[0].replace("_", "-")
        raise ValueError(f"{plan.name} builds on {', '.join(absent)}; train it first: python run.py train {before}")
    vae, scenes = mini_vae.load(files["vae"]), min(plan.scenes, MOST_SCENES)
    folder = plan.cache / f"long-{long_clips.name_of(files['clip'], vae)}-{plan.seed}"
    with torch.inference_mode():
        long_clips.fill(folder, vae, load_clip(files["clip"]), plan.seed, scenes, 0)
    data = LongClips(folder, plan.seed, scenes, 0)
    compressor, encoder = load_compressor(files["compressor"])
    plans = plans_of(compressor, data.features)
    text_width = mini_clip.CONFIG["text_cfg"]["width"]
    fps = TOKEN_FRAMES * FPS / FRAMES
    spec = PlannerSpec(plans.shape[-1], encoder, text_width, WIDTH, HEADS, BLOCKS, FFN, *GRID, fps, SHIFT)
    scores: dict[str, float] = {}

    def export(weights: dict[str, Tensor], state: State) -> None:
        scores.update({name: round(curve[-1][1], 4) for name, curve in state.curves.items() if curve})
        about = describe(state, scores | {"parameters": parameter_count(spec), "distinct_scenes": len(plans)})
        save(weights, spec, out / "mini_planner.safetensors", about)

    text_clip = mini_clip.load(files["clip"])
    train_planner(spec, plans[::4], draw_mini(text_clip, data, plans, plan.batch), plan, export)
    return scores
