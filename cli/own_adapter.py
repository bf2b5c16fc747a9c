"""python run.py train ssg-adapter --clips FOLDER --backbone FILE --vae FILE --text-encoder FILE --clip FILE: an SSG
Adapter for a model of one's own.

What the node SSG Adapter Train does (training/ssg_adapter.py), with the files that its loaders would be given.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import comfy.clip_vision
import comfy.model_base
import comfy.sd

from ..host.clip_loading import load_clip
from ..host.families import family_of, ltx, minimax, wan
from ..mini.scores import load_vae
from ..training.plan import Plan, State
from ..training.ssg_adapter import Settings, train_on_videos
from ..training.ssg_model import blocks_of
from ..training.validation import PATIENCE
from ..training.video_encoding import Encoders, Shape
from ..training.video_files import captioned_videos
from ..training.video_folder import VideoFolder
from .own_expert import load_text_encoder, require_new

NAME = "ssg_adapter.safetensors"


@dataclass(frozen=True)
class Files:
    """What an adapter is made from. clip_vision: for backbones with an image branch; held_out: videos to validate on,
    None for a tenth of them."""

    backbone: Path
    vae: Path
    text_encoder: tuple[Path, ...]
    clip: Path
    clips: Path
    shape: Shape
    clip_vision: Path | None = None
    held_out: int | None = None
    offload: bool = False

    def __post_init__(self):
        for flag, path in (
            ("backbone", self.backbone),
            ("vae", self.vae),
            *(("text-encoder", path) for path in self.text_encoder),
            ("clip", self.clip),
            ("clip-vision", self.clip_vision),
        ):
            if path is not None and not path.is_file():
                raise ValueError(f"--{flag} {path}: no such file. Correct its path.")


def share_of(files: Files) -> float:
    """Share of the videos to validate on. ValueError, naming the flag, for a folder without videos and for more than
    may be held out."""
    try:
        count = len(captioned_videos(files.clips))
    except ValueError as error:
        raise ValueError(f"--clips: {error}") from None
    if files.held_out is None:
        return 0.1
    if not 0 <= files.held_out < count:
        raise ValueError(
            f"--held-out {files.held_out}: {files.clips} has {count} videos, and one at least must be learnt from. "
            f"Give 0 to {count - 1}."
        )
    return files.held_out / count


KINDS = {wan: "WAN", ltx: "LTXV", minimax: "MINIMAX"}  # the last is not in hosts before 0.30


def kind_of(model) -> comfy.sd.CLIPType:
    """What the CLIP Loader of MODEL's text encoder is set to."""
    family = family_of(model)
    if family in KINDS:
        return getattr(comfy.sd.CLIPType, KINDS[family])
    newer = isinstance(model.model, comfy.model_base.HunyuanVideo15)
    return comfy.sd.CLIPType.HUNYUAN_VIDEO_15 if newer else comfy.sd.CLIPType.HUNYUAN_VIDEO


def encoders_for(model, files: Files) -> Encoders:
    """ValueError, naming the flag, for a VAE that the host does not know, and for a missing CLIP vision file."""
    if getattr(model.model.diffusion_model, "img_emb", None) is not None and files.clip_vision is None:
        raise ValueError(
            "--clip-vision: missing. This backbone has a CLIP image branch; name the file that its CLIP Vision Loader "
            "takes."
        )
    vae = load_vae(files.vae)
    if vae.first_stage_model is None:
        raise ValueError(f"--vae {files.vae}: ComfyUI finds no VAE in it. Name the backbone's own.")
    vision = comfy.clip_vision.load(str(files.clip_vision)) if files.clip_vision else None
    return Encoders(vae, load_text_encoder(files.text_encoder, kind_of(model)), vision, load_clip(files.clip))


def run(
    plan: Plan,
    out: Path,
    describe,
    files: Files,
    rank: int = 128,
    token_width: int = 1280,
    blocks: str = "",
    spatial: str = "rope",
) -> dict[str, float]:
    """Trains, exports to out/ssg_adapter.safetensors, returns the last loss and the best of validation. ValueError,
    before anything is encoded, for what is missing, and for a file that is there already."""
    share, target = share_of(files), out / NAME
    require_new(plan, target)
    model = comfy.sd.load_diffusion_model(str(files.backbone))
    options = {"rank": rank, "blocks": blocks_of(model, blocks), "token_width": token_width, "spatial": spatial}
    videos = VideoFolder(files.clips, files.shape, encoders_for(model, files), model, plan.cache / "clips")

    def about(state: State, facts: dict, losses: dict[str, float]) -> dict[str, str]:
        held_out = {"validation": losses.pop("validation")} if "validation" in losses else {}
        return describe(state, held_out, backbone=files.backbone.name, **facts, **losses)

    plan = replace(plan, name=f"{plan.name}-own")
    settings = Settings(patience=PATIENCE, offload=files.offload)
    state = train_on_videos(videos, target, plan, about, share, settings, **options)
    scores = {"clips": len(videos), "loss": round(state.loss, 4)}
    if curve := state.curves.get("validation"):
        scores["validation"] = round(min(value for _, value in curve), 4)
    return scores
