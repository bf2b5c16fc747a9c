"""python run.py train video-prompt --pairs FOLDER --backbone FILE --vae FILE --text-encoder FILE: an expert for a Wan
I2V of one's own, from one's own videos.

FOLDER holds a folder for each pair, with reference.mp4, target.mp4, and captions of the whole videos in reference.txt
and target.txt. The training is that of the mini expert (video_prompt.py), without weights for objects; backbone and
expert are in float32 on one device, in one piece.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import comfy.clip_vision
import comfy.model_management
import comfy.sd
import torch
from torch import Tensor
from tqdm import tqdm

from ..host.reference import encode_reference
from ..host.weights import Checkpoint
from ..mini import clip as mini_clip
from ..mini.scores import load_vae
from ..training.checkpoint import require_resumable
from ..training.loop import train
from ..training.parallel import by_first, first, first_alone
from ..training.plan import Plan, State
from ..training.video_files import read_video
from ..training.video_prompt import CAPTION_DROPOUT, Draw, export, load_pair, make_loss, start_expert

PARTS = ("reference.mp4", "target.mp4", "reference.txt", "target.txt")


@dataclass(frozen=True)
class Files:
    """What an expert is made from. layers: blocks of the backbone; clip_vision: for backbones with an image branch;
    size: width, height."""

    backbone: Path
    vae: Path
    text_encoder: Path
    pairs: Path
    layers: tuple[int, ...]
    clip_vision: Path | None = None
    size: tuple[int, int] = (832, 480)
    length: int = 49


def folders_of(pairs: Path) -> list[Path]:
    """The pairs' folders. ValueError where a file is missing, or there is no pair."""
    folders = sorted(path for path in pairs.iterdir() if path.is_dir()) if pairs.is_dir() else []
    if not folders:
        raise ValueError(f"--pairs {pairs}: no folders in it. Each pair is a folder with {', '.join(PARTS)}.")
    for folder in folders:
        if missing := [name for name in PARTS if not (folder / name).is_file()]:
            raise ValueError(f"--pairs {folder}: {', '.join(missing)} missing.")
    return folders


def load_text_encoder(paths: tuple[Path, ...], kind: comfy.sd.CLIPType):
    """As CLIPLoader and DualCLIPLoader do; a mini CLIP as such."""
    if "vocabulary" in Checkpoint(paths[0]).metadata:
        return mini_clip.TextEncoder(mini_clip.load(paths[0]))
    return comfy.sd.load_clip(ckpt_paths=list(map(str, paths)), clip_type=kind)


def text_encoder(path: Path):
    """caption -> features [tokens, width]: by a text encoder of Wan, or by the mini CLIP."""
    clip = load_text_encoder((path,), comfy.sd.CLIPType.WAN)

    def encode(caption: str) -> Tensor:
        ((features, _),) = clip.encode_from_tokens_scheduled(clip.tokenize(caption))[:1]
        return features[0]

    return encode


@torch.no_grad()
def encode_pairs(files: Files, image_branch: bool) -> list[dict[str, Tensor]]:
    """The pairs as `make_loss` takes them, and last of all the empty caption as {"text"}."""
    if image_branch and files.clip_vision is None:
        raise ValueError(
            "--clip-vision: missing. This backbone has a CLIP image branch; name the file that its CLIP Vision Loader "
            "takes."
        )
    encode, vae = text_encoder(files.text_encoder), load_vae(files.vae)
    vision = comfy.clip_vision.load(str(files.clip_vision)) if image_branch else None
    encoded = []
    for folder in tqdm(folders_of(files.pairs), desc="pairs"):
        pair = {}
        for name, text, image in (("target", "text", "image"), ("reference", "reference_text", "reference_image")):
            pair[text] = encode((folder / f"{name}.txt").read_text(encoding="utf-8").strip())
            frames = read_video(folder / f"{name}.mp4", files.length)
            pair[name] = encode_reference(vae, frames, *files.size)[0]
            if vision:
                pair[image] = vision.encode_image(frames[:1], crop=True).penultimate_hidden_states[0]
        encoded.append({name: value.float().cpu().clone() for name, value in pair.items()})
    return [*encoded, {"text": encode("").float().cpu().clone()}]


def draw_own(encoded: list[dict[str, Tensor]], count: int) -> Draw:
    """Batches of `count` pairs; of some, both captions are empty."""
    *pairs, silent = encoded

    def draw(rng: Random) -> list[dict[str, Tensor]]:
        drawn = [dict(rng.choice(pairs)) for _ in range(count)]
        for pair in drawn:
            if rng.random() < CAPTION_DROPOUT:
                pair["text"] = pair["reference_text"] = silent["text"]
        return drawn

    return draw


def require_new(plan: Plan, *targets: Path) -> None:
    """ValueError, naming the flag, for a file in --out that training anew would write over."""
    for target in targets:
        if target.exists() and not plan.resume:
            raise ValueError(
                f"--out {target.parent}: holds {target.name} already. Name another folder, delete the file, or give "
                "--resume."
            )


def run(plan: Plan, out: Path, describe, files: Files) -> dict[str, float]:
    """Trains, exports to out/vap_expert.safetensors, returns the last loss. ValueError, before anything is loaded, for
    what is missing, and for a file that is there already."""
    plan = replace(plan, name=f"{plan.name}-own")
    folders, path = folders_of(files.pairs), out / "vap_expert.safetensors"
    start = plan.cache / f"{plan.name}-start.safetensors"
    require_new(plan, path)
    require_resumable(plan, path)
    with first_alone():
        if first():
            start_expert(files.backbone, files.layers, start)
    encoded = encode_pairs(files, any(key.startswith("img_emb.") for key in Checkpoint(files.backbone).keys))
    comfy.model_management.unload_all_models()
    model, expert = load_pair(files.backbone, start)
    loss_of = make_loss(model, draw_own(encoded, plan.batch), plan)

    @by_first
    def finish(weights: dict[str, Tensor], state: State) -> None:
        export(weights, start, path, describe(state, {"pairs": len(folders)}))

    weights, state = train(plan, expert, loss_of, finish if plan.export_minutes else None)
    finish(weights, state)
    return {"pairs": len(folders), "loss": round(state.loss, 4)}
