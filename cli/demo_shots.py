"""What the demo runs on a server: the shipped workflows on toys, and MiniWorld's mini models."""

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..harness.stand_in_models import load_workflow, on_toys
from ..mini import family as mini
from ..miniworld.caption import caption
from ..miniworld.render import render
from ..miniworld.scene import Scene, sample_pair, sample_scene
from .media import write_video
from .variants import show

LONG = 93  # frames: 24 latent frames, four times what the mini models were trained on
TOY_SIZE = {"width": 64, "height": 64, "length": 81}


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


def write_inputs(inputs: Path) -> None:
    """The clips and pictures that the shots load, into the server's input folder."""
    clip = render([clip_scene()], 81).frames[0]
    write_video(inputs / "clip.mp4", clip)
    write_video(inputs / "reference.mp4", clip)
    first = render([sample_scene(6, "heldout", 1)]).frames[0, 0]
    for name, frame in (("first-6.png", first), ("subject.png", clip[0])):
        Image.fromarray((frame * 255).byte().numpy()).save(inputs / name)
    write_pair_files(inputs)


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
