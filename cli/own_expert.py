"""python run.py train video-prompt --pairs FOLDER --backbone FILE --vae FILE --text-encoder FILE: an expert for a Wan
I2V of one's own, from one's own clips.

FOLDER holds a folder for each pair, with reference.mp4, target.mp4, and captions of the whole clips in reference.txt
and target.txt. The training is that of the mini expert (video_prompt.py), without weights for objects; backbone and
expert are in float32 on one device, in one piece.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import av
import comfy.clip_vision
import comfy.model_management
import comfy.sd
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from ..host.reference import encode_reference
from ..host.weights import Checkpoint
from ..kernels.video_prompt import select_frames
from ..mini import clip as mini_clip
from ..mini.scores import load_vae
from ..training.loop import Plan, State, train
from ..training.video_prompt import CAPTION_DROPOUT, export, load_pair, make_loss, start_expert

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


def read_frames(path: Path, length: int) -> Tensor:
    """`length` frames evenly over a video, [length, height, width, 3], 0..1, as VAP Reference takes them."""
    with av.open(str(path)) as file:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    return select_frames(torch.stack(frames), length, "even").float() / 255


def load_text_encoder(paths: tuple[Path, ...], kind: comfy.sd.CLIPType):
    """As CLIPLoader and DualCLIPLoader do; a mini CLIP as such."""
    if "vocabulary" in Checkpoint(paths[0]).metadata:
        return mini_clip.TextEncoder(mini_clip.load(paths[0]))
    return comfy.sd.load_clip(ckpt_paths=list(map(str, paths)), clip_type=kind)


def text_encoder(path: Path):
    """captions -> features [n, tokens, width]: by a text encoder of Wan, or by the mini CLIP."""
    clip = load_text_encoder((path,), comfy.sd.CLIPType.WAN)
    return lambda captions: pad_sequence(
        [clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0][0] for text in captions], batch_first=True
    )


@torch.no_grad()
def encode_pairs(files: Files, image_branch: bool) -> list[dict[str, Tensor]]:
    """For each pair what `make_loss` draws, without a batch axis, and last of all the empty caption as {"text"}."""
    if image_branch and files.clip_vision is None:
        raise ValueError(
            "--clip-vision: missing. This backbone has a CLIP image branch; name the file that its CLIP Vision Loader "
            "takes."
        )
    encode, vae = text_encoder(files.text_encoder), load_vae(files.vae)
    vision = comfy.clip_vision.load(str(files.clip_vision)) if image_branch else None
    encoded = []
    for folder in tqdm(folders_of(files.pairs), desc="pairs"):
        texts = encode(
            [(folder / f"{name}.txt").read_text(encoding="utf-8").strip() for name in ("target", "reference")]
        )
        entry = {"text": texts[0], "reference_text": texts[1]}
        for name, image in (("target", "image"), ("reference", "reference_image")):
            frames = read_frames(folder / f"{name}.mp4", files.length)
            entry[name] = encode_reference(vae, frames, *files.size)[0]
            if vision:
                entry[image] = vision.encode_image(frames[:1], crop=True).penultimate_hidden_states[0]
        encoded.append({name: value.float().cpu().clone() for name, value in entry.items()})
    return [*encoded, {"text": encode([""])[0].float().cpu().clone()}]


def draw_own(encoded: list[dict[str, Tensor]], count: int, device: torch.device):
    """`draw` of `make_loss`."""
    *pairs, silent = encoded

    def draw(rng: Random) -> dict[str, Tensor]:
        picks = [dict(rng.choice(pairs)) for _ in range(count)]
        for pick in picks:
            if rng.random() < CAPTION_DROPOUT:
                pick["text"] = pick["reference_text"] = silent["text"]
        return {name: pad_sequence([pick[name] for pick in picks], batch_first=True).to(device) for name in picks[0]}

    return draw


def run(plan: Plan, out: Path, describe, files: Files) -> dict[str, float]:
    """Trains, exports to out/vap_expert.safetensors, returns the last loss. ValueError, before anything is loaded, for
    what is missing."""
    folders, start, path = (
        folders_of(files.pairs),
        plan.cache / f"{plan.name}-own-start.safetensors",
        out / "vap_expert.safetensors",
    )
    start_expert(files.backbone, files.layers, start)
    encoded = encode_pairs(files, any(key.startswith("img_emb.") for key in Checkpoint(files.backbone).keys))
    comfy.model_management.unload_all_models()
    model, expert = load_pair(files.backbone, start)
    plan = replace(plan, name=f"{plan.name}-own")
    loss_of = make_loss(model, draw_own(encoded, plan.batch, comfy.model_management.get_torch_device()), plan)

    def finish(weights: dict[str, Tensor], state: State) -> None:
        export(weights, start, path, describe(state, {"pairs": len(folders)}))

    weights, state = train(plan, expert, loss_of, finish if plan.export_minutes else None)
    finish(weights, state)
    return {"pairs": len(folders), "loss": round(state.curves["loss"][-1][1], 4)}
