"""python run.py train plan-adapter --clips FOLDER --backbone FILE --vae FILE --text-encoder FILE --clip-vision FILE: a
compressor and a Plan Adapter for a model of one's own, in Swin Renderer's windows.

python run.py train planner --clips FOLDER --compressor FILE --text-encoder FILE --clip-vision FILE: a Semantic Planner
that draws the plans of that compressor.

What the nodes Plan Adapter Train and Semantic Planner Train do (training/plan_videos.py). The vision tower is that of
--tower (a folder of Qwen2.5-VL), --clip-vision or --clip.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import comfy.clip_vision
import comfy.model_management
import comfy.sd
import torch

from ..host.clip_loading import load_clip
from ..host.qwen_folder import load_qwen_tower
from ..host.vision import VisionTower, tower_of
from ..mini.scores import load_vae
from ..patches.plan_file import load_compressor
from ..patches.swin_renderer import SwinRenderer
from ..patches.swin_renderer import apply as in_windows
from ..training.plan import Plan, State
from ..training.plan_adapter import Settings
from ..training.plan_folder import PlanFolder, Shape
from ..training.plan_videos import (
    AdapterShape,
    Describe,
    PlannerShape,
    compressor_of,
    train_adapter_on_videos,
    train_planner_on_videos,
)
from ..training.ssg_model import blocks_of
from ..training.validation import PATIENCE
from .own_adapter import kind_of, share_of
from .own_expert import load_text_encoder, require_new

ADAPTER, PLANNER = "plan_adapter.safetensors", "planner.safetensors"


@dataclass(frozen=True)
class Files:
    """What both are made from. tower: a folder of Qwen2.5-VL; of tower, clip_vision and clip exactly one. backbone,
    vae: of an adapter; compressor: of a planner. held_out: videos to validate on, None for a tenth of them."""

    clips: Path
    shape: Shape
    text_encoder: tuple[Path, ...]
    backbone: Path | None = None
    vae: Path | None = None
    compressor: Path | None = None
    tower: Path | None = None
    clip_vision: Path | None = None
    clip: Path | None = None
    held_out: int | None = None
    offload: bool = False

    def __post_init__(self):
        eyes = [name for name in ("tower", "clip_vision", "clip") if getattr(self, name) is not None]
        if len(eyes) != 1:
            raise ValueError(
                f"--tower, --clip-vision, --clip: {len(eyes)} of them given. Give one: what looks at the videos."
            )
        for name in ("backbone", "vae", "compressor", "clip_vision", "clip"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"--{name.replace('_', '-')} {path}: no such file. Correct its path.")
        for path in self.text_encoder:
            if not path.is_file():
                raise ValueError(f"--text-encoder {path}: no such file. Correct its path.")


def tower_from(files: Files) -> VisionTower:
    if files.tower is not None:
        return load_qwen_tower(files.tower)
    return tower_of(comfy.clip_vision.load(str(files.clip_vision)) if files.clip_vision else load_clip(files.clip))


def with_losses(describe, **facts) -> Describe:
    """`describe` of train_options.py as plan_videos.py calls it."""

    def about(state: State, found: dict, losses: dict[str, float]) -> dict[str, str]:
        held_out = {"validation": losses.pop("validation")} if "validation" in losses else {}
        return describe(state, held_out, **facts, **found, **losses)

    return about


def scores_of(state: State, videos: PlanFolder) -> dict[str, float]:
    scores = {"clips": len(videos), "loss": round(state.loss, 4)}
    if curve := state.curves.get("validation"):
        scores["validation"] = round(min(value for _, value in curve), 4)
    return scores


def run_adapter(
    plan: Plan, out: Path, describe, files: Files, rank: int = 64, dims: int = 8, blocks: str = "", window: int = 0
) -> dict[str, float]:
    """Writes out/plan_adapter.safetensors and the compressor beside it; returns the last loss and the best of
    validation. ValueError, before anything is encoded, for what is missing, and for a file that is there already."""
    share, target = share_of(files), out / ADAPTER
    require_new(plan, target, compressor_of(target))
    model = in_windows(comfy.sd.load_diffusion_model(str(files.backbone)), SwinRenderer(window=window))
    shape = AdapterShape(dims, rank, blocks=blocks_of(model, blocks))
    vae = load_vae(files.vae)
    if vae.first_stage_model is None:
        raise ValueError(f"--vae {files.vae}: ComfyUI finds no VAE in it. Name the backbone's own.")
    text_encoder = load_text_encoder(files.text_encoder, kind_of(model))
    videos = PlanFolder(
        files.clips, files.shape, text_encoder, tower_from(files), plan.cache / "plans", vae, model=model
    )
    settings = Settings(patience=PATIENCE, offload=files.offload)
    plan = replace(plan, name=f"{plan.name}-own")
    about = with_losses(describe, backbone=files.backbone.name, compressor=compressor_of(target).name)
    return scores_of(train_adapter_on_videos(videos, model, target, plan, about, shape, share, settings), videos)


def run_planner(
    plan: Plan, out: Path, describe, files: Files, channels: int = 512, heads: int = 8, depth: int = 12
) -> dict[str, float]:
    """Writes out/planner.safetensors; as `run_adapter`."""
    share, target = share_of(files), out / PLANNER
    require_new(plan, target)
    shape = PlannerShape(channels, heads, depth)
    text_encoder = load_text_encoder(files.text_encoder, comfy.sd.CLIPType.WAN)
    compressor = load_compressor(files.compressor)
    videos = PlanFolder(
        files.clips, files.shape, text_encoder, tower_from(files), plan.cache / "plans", compressor=compressor
    )
    device = comfy.model_management.get_torch_device()
    dtype = None if device.type == "cpu" else torch.bfloat16
    plan = replace(plan, name=f"{plan.name}-own")
    about = with_losses(describe, compressor=files.compressor.name)
    state = train_planner_on_videos(
        videos, target, plan, about, shape, share, patience=PATIENCE, device=device, dtype=dtype
    )
    return scores_of(state, videos)
