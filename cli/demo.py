"""run.py demo: the shipped workflows and MiniWorld's mini models through a real ComfyUI server, and a page to look at,
in demo/."""

import html
import shutil
import webbrowser
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..harness.stand_in_models import TOY_NODES, load_workflow, on_toys, write_toys
from ..harness.stand_ins import start_host
from ..mini import family as mini
from ..miniworld.caption import caption
from ..miniworld.contact_sheet import grid, world_sheet
from ..miniworld.oracle import judge
from ..miniworld.render import render
from ..miniworld.scene import Scene, sample_pair, sample_scene
from .hosts import find_hosts, version_of
from .media import read_video, write_video
from .server import ROOT, Server
from .variants import show

DEMO = ROOT / "demo"
LONG = 93  # frames: 24 latent frames, four times what the mini models were trained on
TOY_SIZE = {"width": 64, "height": 64, "length": 81}
MINI_NOTE = (
    "Made by models of a few million parameters, trained on MiniWorld and shipped with the pack, through ComfyUI's "
    "own loaders and samplers. "
    "Under each clip what the oracle saw in it, from the pixels alone: 1 is as the caption says. The text-to-video "
    "model "
    "does not understand where a caption says that things go (relation); an SSG Adapter, below, shows it."
)
TOY_NOTE = (
    "The workflows that ship for your checkpoints, here with tiny random weights, so the pictures are noise. What "
    "they show: the graphs that people "
    "post run through a real server, at full length, with the nodes in them."
)
NO_HOST = (
    "No ComfyUI was found, so its part of the demo did not run. Get it with `git clone "
    "https://github.com/Comfy-Org/ComfyUI`, set COMFYUI_PATH to it "
    "or put it at ~/ComfyUI, and run `python run.py demo` again."
)


PAIR_NOTE = (
    "Video-As-Prompt with a mini expert: the reference; what the model makes of the target's first frame and a "
    "caption that does not say what to do; "
    "and what it makes following the reference. The oracle judges motion or attribute by what the reference does."
)
SPATIAL_NOTE = (
    "A mini SSG Adapter: CLIP Spatial Mask finds the objects in a picture, Visual Prompt darkens the rest, and the "
    "text-to-video model looks "
    "at it. The prompt says where they go, which this video model does not understand; the picture shows it. Same "
    "seed, without and with."
)


@dataclass(frozen=True)
class Shot:
    """One run of the server. scene: what it should show, where there is a truth; asked: the prompt, where that is not
    the scene's caption."""

    title: str
    api: dict = field(hash=False)
    scene: Scene | None = None
    asked: str = ""


def toy_shots() -> list[Shot]:
    steps, windows, i2v = {"sampler": {"steps": 4}}, {"swin": {"window": 6}}, {"width": 64, "height": 64, "length": 33}
    shots = [
        Shot(name, on_toys(load_workflow(name), **changes))
        for name, changes in (
            ("swin_long_video_wan", {"latent": TOY_SIZE} | windows | steps),
            ("swin_long_video_hunyuan", {"latent": TOY_SIZE, "schedule": {"steps": 4}} | windows),
            ("swin_video_to_video", {"scale": {"width": 64, "height": 64}} | windows | steps),
            ("vap_video_as_prompt_wan", {"i2v": i2v, "reference": i2v} | steps),
            ("ssg_i2v_visual_prompt_wan", {"i2v": i2v} | steps),
            ("ssg_t2v_adapter_wan", {"latent": i2v} | steps),
        )
    ]
    for shot in shots:
        shot.api.pop("heat", None)  # a preview; the page shows videos
    return shots


def mini_shots() -> list[Shot]:
    """What the trained part of the mini family can show."""
    shots = []
    if mini.has("vae", "clip", "t2v"):
        for seed, objects in ((0, 1), (1, 1), (2, 1), (3, 2), (4, 2)):
            scene = sample_scene(seed, "heldout", objects)
            shots.append(
                Shot(
                    "text to video",
                    mini.workflow("mini_t2v", positive={"text": caption(scene)}, sampler={"seed": seed}),
                    scene,
                )
            )
        scene = sample_scene(5, "heldout", 1, motion="circle")
        for title, swin in (
            ("four times as long, full attention", {}),
            ("four times as long, Swin Renderer", {"strength": 1.0}),
        ):
            api = mini.workflow(
                "mini_t2v", positive={"text": caption(scene)}, latent={"length": LONG}, swin=swin, sampler={"seed": 5}
            )
            shots.append(Shot(title, api, scene))
        scene = clip_scene()
        api = mini.workflow("mini_v2v", positive={"text": caption(scene)}, swin={"strength": 1.0})
        shots.append(Shot("the clip from disk, re-rendered in windows", api, scene))
    if mini.has("vae", "clip", "i2v"):
        scene = sample_scene(6, "heldout", 1)
        shots.append(
            Shot(
                "image to video",
                mini.workflow("mini_i2v", positive={"text": caption(scene)}, image={"image": "first-6.png"}),
                scene,
            )
        )
    return shots


def pairs() -> list[tuple[Scene, Scene]]:
    """(reference, target) of the demo, one for each kind of motion or effect."""
    return [sample_pair(seed, "heldout", motion) for seed, motion in enumerate(("left", "circle", "grow"))]


def pair_shots() -> list[Shot]:
    """For each pair the reference, the target without the expert and with it. Files as `write_pair_files` names
    them."""
    if not mini.has("vae", "clip", "i2v", "vap_expert"):
        return []
    shots = []
    for number, (reference, target) in enumerate(pairs()):
        changes = {
            "positive": {"text": caption(target, motion=False)},
            "image": {"image": f"target-{number}.png"},
            "load": {"file": f"reference-{number}.mp4"},
            "reference_positive": {"text": caption(reference)},
            "sampler": {"seed": number},
        }
        without, following = (
            mini.workflow("mini_video_prompt", apply={"strength": strength}, **changes) for strength in (0.0, 1.0)
        )
        shown = {
            "load": following["load"],
            "frames": {"class_type": "GetVideoComponents", "inputs": {"video": ["load", 0]}},
            "save": {**following["save"], "inputs": following["save"]["inputs"] | {"images": ["frames", 0]}},
        }
        shots += [Shot("reference", shown, reference)]
        shots += [
            Shot(title, api, target, caption(target, motion=False))
            for title, api in (("target without it", without), ("target with it", following))
        ]
    return shots


def write_pair_files(inputs: Path) -> None:
    for number, (reference, target) in enumerate(pairs()):
        write_video(inputs / f"reference-{number}.mp4", render([reference]).frames[0])
        Image.fromarray((render([target]).frames[0, 0] * 255).byte().numpy()).save(inputs / f"target-{number}.png")


def spatial_shots(inputs: Path) -> list[Shot]:
    """Two objects by text alone, and with the SSG Adapter looking at a picture of where they are, which goes into
    `inputs`."""
    if not mini.has("vae", "clip", "t2v", "ssg_adapter"):
        return []
    shots = []
    for seed in (20, 21, 22):
        scene = sample_scene(seed, "heldout", 2)
        for title, strength in (("text alone", 0.0), ("with the adapter", 1.0)):
            api = mini.workflow(
                "mini_ssg_adapter",
                positive={"text": caption(scene)},
                apply={"strength": strength},
                sampler={"seed": seed},
            )
            shots.append(Shot(title, show(api, scene, inputs, f"layout-{seed}"), scene))
    return shots


def clip_scene() -> Scene:
    return sample_scene(3, objects=2)


def main(arguments: list[str]) -> int:
    DEMO.mkdir(exist_ok=True)
    for old in (*DEMO.glob("*.mp4"), *DEMO.glob("*.webp"), *DEMO.glob("*.png"), *DEMO.glob("*.html")):
        old.unlink()
    world_sheet().save(DEMO / "world.png")
    hosts = find_hosts(ROOT)
    sections = film(hosts[0]) if hosts else [f"<p class='loud'>{html.escape(NO_HOST)}</p>"]
    sections.append(
        "<h2>MiniWorld</h2><p>The synthetic world in which the pack's claims are measured: every caption is true of "
        "its clip.</p>"
        "<img src='world.png' alt='captioned scenes of MiniWorld'>"
    )
    (DEMO / "index.html").write_text(PAGE.format(body="\n".join(sections)), encoding="utf-8")
    print(f"\n{'' if hosts else NO_HOST + chr(10)}Look at {DEMO / 'index.html'}")
    if "--open" in arguments:
        webbrowser.open((DEMO / "index.html").as_uri())
    return 0


def film(host: Path) -> list[str]:
    """Runs all shots on one server; returns the page's sections about them."""
    start_host(host)
    with TemporaryDirectory() as folder:
        base = Path(folder)
        server = Server(host, base, packs=(ROOT, TOY_NODES), modules=(mini.NODES,), arguments=mini.mount(base))
        write_toys(base / "models")
        clip = render([clip_scene()], 81).frames[0]
        write_video(base / "input" / "clip.mp4", clip)
        write_video(base / "input" / "reference.mp4", clip)
        for name, frame in (
            ("first-6.png", render([sample_scene(6, "heldout", 1)]).frames[0, 0]),
            ("subject.png", clip[0]),
        ):
            Image.fromarray((frame * 255).byte().numpy()).save(base / "input" / name)
        write_pair_files(base / "input")
        print(f"Starting ComfyUI {'.'.join(map(str, version_of(host)))} from {host}", flush=True)
        with server:
            groups = [
                ("Clips", MINI_NOTE, mini_shots(), "clips.png"),
                ("Video prompts", PAIR_NOTE, pair_shots(), "video-prompts.png"),
                ("Spatial prompts", SPATIAL_NOTE, spatial_shots(base / "input"), "spatial-prompts.png"),
                ("Workflows", TOY_NOTE, toy_shots(), "workflows.png"),
            ]
            return [section(server, *group) for group in groups if group[2]]


def section(server: Server, heading: str, note: str, shots: list[Shot], sheet: str) -> str:
    clips: list[Tensor] = []
    texts, cards = [], []
    for shot in shots:
        with tqdm(desc=shot.title, unit="step") as bar:

            def progress(node: str, value: int, maximum: int, bar=bar) -> None:
                bar.total, bar.n = maximum, value
                bar.refresh()

            saved = server.run(shot.api, progress)[0]
        target = DEMO / f"{heading.lower().replace(' ', '-')}-{len(cards) + 1}{saved.suffix}"
        shutil.copy(saved, target)
        clips.append(read_video(target))
        said = (
            f"{shot.asked or caption(shot.scene)}\n{verdict(clips[-1], shot.scene)}"
            if shot.scene
            else f"{len(clips[-1])} frames"
        )
        texts.append(f"{shot.title}: {said}")
        moving = (
            f"<img src='{target.name}'>"
            if target.suffix == ".webp"
            else f"<video src='{target.name}' autoplay loop muted controls></video>"
        )
        cards.append(
            f"<figure>{moving}<figcaption><b>{html.escape(shot.title)}</b><br>"
            f"{html.escape(said).replace(chr(10), '<br>')}</figcaption></figure>"
        )
    grid(clips, texts, columns=9).save(DEMO / sheet)
    return (
        f"<h2>{heading}</h2><p>{html.escape(note)}</p><div class='row'>{''.join(cards)}</div>"
        f"<img src='{sheet}' alt='frames of all clips'><p><small>torch {torch.__version__}</small></p>"
    )


def verdict(frames: Tensor, scene: Scene) -> str:
    return "oracle: " + ", ".join(
        f"{name} {value:.2f}" for name, value in judge(frames, caption(scene)).items() if name != "adherence"
    )


PAGE = """<!doctype html><meta charset="utf-8"><title>semantic-video demo</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fafafa }}
.row {{ display: flex; flex-wrap: wrap; gap: 1rem; margin-bottom: 1rem }}
figure {{ margin: 0; width: 250px }} figcaption {{ font-size: 14px }}
figure video, figure img {{ width: 250px; image-rendering: pixelated; background: #000 }}
img {{ max-width: 100% }} .loud {{ background: #ffe08a; padding: 1rem }}
</style>
<h1>semantic-video</h1>
{body}
"""
