"""The mini compressor and the mini Plan Adapter beside mini-t2v in windows, trained on MiniWorld's long videos:
training/plan_adapter.py with cached latents and features of the mini CLIP."""

from pathlib import Path
from random import Random

import comfy.sd
import torch
from torch import Tensor

from ..host.clip_loading import load_clip
from ..host.frozen_model import model_conds
from ..host.vision import tower_of
from ..host.weights import save_weights
from ..kernels.compressor import Compressor, CompressorSpec
from ..kernels.compressor import initialise as initialise_compressor
from ..kernels.plan_adapter import parameter_count
from ..miniworld.caption import caption
from ..patches.plan_file import COMPRESSOR, compressed_encoder
from ..patches.plan_weights import save
from ..patches.swin_renderer import SwinRenderer
from ..patches.swin_renderer import apply as in_windows
from ..training.plan import Plan, State
from ..training.plan_adapter import Batch, Draw, Settings, part, spec_for, train_plan_adapter
from . import clip as mini_clip
from . import long_clips
from . import vae as mini_vae
from .dit import UNSAID
from .long_clips import LongClips

DIMS, HIDDEN, DEPTH = 8, 96, 1
RANK, TOKEN_WIDTH, SEEN = 24, 64, 5
GRID = (4, 4)  # tokens of a plan's frame: half the patches of the mini CLIP along each axis
WINDOW = 6  # latent frames, the mini models' own length
MOST_VIDEOS, MOST_SCENES = 512, 2560


def model_in_windows(path: Path):
    model = comfy.sd.load_diffusion_model(str(path), model_options={"dtype": torch.float32})
    return in_windows(model, SwinRenderer(window=WINDOW))


def tower_name(clip_path: Path) -> str:
    with torch.inference_mode():
        return tower_of(load_clip(clip_path)).name


def patches(merged: Tensor) -> Tensor:
    """Features of long_clips.py as the tower gives them: [..., rows, columns, 4 * width] -> [..., 2 rows, 2 columns,
    width]."""
    side = long_clips.MERGE
    each = merged.unflatten(-1, (side, side, -1)).transpose(-4, -3)  # rows, 2, columns, 2, width
    return each.flatten(-5, -4).flatten(-3, -2)


def data_of(plan: Plan, out: Path) -> LongClips:
    """The cached videos and features, made where they are missing. ValueError if what they are made with is missing."""
    files = [out / f"{name}.safetensors" for name in ("mini_vae", "mini_clip", "mini_t2v")]
    if absent := [file.stem for file in files if not file.exists()]:
        raise ValueError(
            f"{plan.name} builds on {', '.join(absent)}; train it first: python run.py train "
            f"{absent[0].replace('_', '-')}"
        )
    vae = mini_vae.load(files[0])
    folder = plan.cache / f"long-{long_clips.name_of(files[1], vae)}-{plan.seed}"
    scenes, videos = min(plan.scenes, MOST_SCENES), min(plan.scenes, MOST_VIDEOS)
    with torch.inference_mode():
        long_clips.fill(folder, vae, load_clip(files[1]), plan.seed, scenes, videos)
    return LongClips(folder, plan.seed, scenes, videos)


def draw_mini(model, text_clip, data: LongClips, count: int) -> Draw:
    """`Draw` of `losses` for MiniWorld."""

    def draw(rng: Random) -> Batch:
        picks = [rng.randrange(len(data.latents)) for _ in range(count)]
        x0 = data.latents[picks].float()
        texts = mini_clip.encode_text(text_clip, [*(caption(data.scenes[i], rng, UNSAID) for i in picks), ""])
        each = [model_conds(model, x0[:1], text[None]) for text in texts]
        features = patches(data.features[picks].float())
        return Batch(x0, each[:-1], each[-1:] * count, features, data.cover[picks].float())

    return draw


def save_mini_compressor(weights: dict[str, Tensor], spec: CompressorSpec, path: Path, about: dict[str, str]) -> str:
    """Writes the compressor in bfloat16 and returns the encoder name of its plans."""
    small = {key: value.bfloat16() for key, value in weights.items()}
    fields = {name: str(value) for name, value in spec.__dict__.items()}
    save_weights(small, path, about | {"format": COMPRESSOR, "version": "1"} | fields)
    return compressed_encoder(spec, small)


def run(plan: Plan, out: Path, describe) -> dict[str, float]:
    """Trains both, exports them to out/mini_compressor.safetensors and out/mini_plan_adapter.safetensors, returns the
    last losses."""
    data = data_of(plan, out)
    model = model_in_windows(out / "mini_t2v.safetensors")
    features = patches(data.features[::8].float())
    tower = CompressorSpec(features.shape[-1], tower_name(out / "mini_clip.safetensors"), DIMS, HIDDEN, DEPTH)
    compressor = Compressor(tower)
    initialise_compressor(compressor, plan.seed)
    compressor.normalise(features)
    spec = spec_for(model, DIMS, tower.encoder, None, RANK, TOKEN_WIDTH, SEEN)
    scores: dict[str, float] = {}

    def export(weights: dict[str, Tensor], state: State) -> None:
        scores.update({name: round(curve[-1][1], 4) for name, curve in state.curves.items() if curve})
        about = describe(state, scores | {"parameters": parameter_count(spec)})
        encoder = save_mini_compressor(part(weights, "compressor"), tower, out / "mini_compressor.safetensors", about)
        made_for = spec.__class__(**spec.__dict__ | {"encoder": encoder})
        save(part(weights, "adapter"), made_for, out / "mini_plan_adapter.safetensors", about)

    text_clip = mini_clip.load(out / "mini_clip.safetensors")
    draw = draw_mini(model, text_clip, data, plan.batch)
    train_plan_adapter(
        model, spec, compressor, draw, plan, export, Settings(grid=GRID, checkpointing=False, dtype=None)
    )
    return scores
