"""run.py pictures: draws the moving pictures of the README (docs/pictures) and of the Templates browser
(example_workflows) with the mini models, through a ComfyUI server.

Of the captions, stories and pairs that docs/evidence.md counts, each shows the first that the technique changes from
wrong to right (of 24 pairs the one whose object keeps its shape best); the average over all stands beside it in the
README. Names as arguments draw those alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from ..mini import family as mini
from ..miniworld.caption import caption
from ..miniworld.guards import identity_drift
from ..miniworld.oracle import judge
from ..miniworld.pairs import does, held_out_pairs, pair_scores
from ..miniworld.render import render
from ..miniworld.scene import sample_scene, sample_scenes
from ..miniworld.story import joined_caption, sample_stories
from ..miniworld.story_scores import story_scores
from .hosts import require_host
from .media import read_video, write_video
from .picture_panels import drawn, write_moving
from .pictures_options import SHOWN, parser
from .report import SLOWED, scores
from .report_pairs import fill_pair
from .report_stories import tell
from .server import ROOT, Server
from .variants import fill, show, variants

FOLDER = ROOT / "docs" / "pictures"
MINI = "mini/workflows/mini_"
LONG = "latent.length=93"
PAIRS = 24  # of those in which something moves the object that keeps its shape best is shown: many melt
TRIES = 60  # captions looked at before a picture is given up


@dataclass
class Picture:
    head: str
    clips: list[Tensor]
    labels: list[str]
    seconds: float = 2.0


class NothingToShowError(RuntimeError):
    """No caption among those tried is wrong without the technique and right with it."""


def variant(words: str) -> dict:
    """ "mini/workflows/x.json node.input=1" -> the workflow so changed."""
    first, *changes = words.split()
    return variants([str(ROOT / first), *changes])[0][1]


def first_film(server: Server, api: dict) -> Tensor:
    return read_video(server.run(api)[0])


def from_wrong_to_right(server, words: tuple[str, str], name: str, seed: int, objects=(1, 2), relation=True) -> tuple:
    """(number, caption, scene, both films) of the first held-out caption that scores 0 in `name` with the first
    workflow and 1 with the second, the right objects in both."""
    apis = [variant(one) for one in words]
    for number, scene in enumerate(sample_scenes(TRIES, seed, "heldout", objects)):
        text = caption(scene, number)
        said = text if relation else caption(scene, number, relation=False)
        films = []
        for wanted, api in enumerate(apis):
            film = first_film(server, fill(show(api, scene, server.base / "input", f"p-{number}"), said, 1000 * number))
            found = scores(film, text, [])
            films.append(film)
            if found.get(name) != wanted or found["object"] < 1:
                break
        else:
            return number, said, scene, films
    raise NothingToShowError(f"{name}: none of {TRIES} captions; look at more, or at the report.")


def adherence(server: Server) -> Picture:
    plain = f"{MINI}adherence.json"
    both = f"{plain} contrast.strength=1 focal.strength=1 focal.keyword_weight=1.5"
    _, said, _, films = from_wrong_to_right(server, (plain, both), "motion or attribute", 21)
    return Picture(said, films, ["image to video, CFG 1", "with Text Contrast and Focal Guidance"])


def focal(server: Server) -> Picture:
    deaf = f"{MINI}adherence.json unet.unet_name=mini_i2v_deaf.safetensors"
    louder = f"{deaf} focal.strength=1 focal.keyword_weight=3"
    _, said, _, films = from_wrong_to_right(server, (deaf, louder), "motion or attribute", 21)
    return Picture(said, films, ["a model that ignores its prompt", "its words three times as loud"])


def place(server: Server) -> Picture:
    apply = f"{MINI}ssg_adapter.json"
    number, said, scene, films = from_wrong_to_right(server, (f"{apply} apply.strength=0", apply), "relation", 1, (2,))
    picture = render([scene]).frames[0, :1]
    return Picture(said, [picture, *films], ["the picture it may look at", "text alone", "with the SSG Adapter"])


def example(server: Server) -> Picture:
    api = variant(f"{MINI}video_prompt.json")
    best: tuple[float, Picture] | None = None
    for number, (reference, target) in enumerate(held_out_pairs(PAIRS)):
        films = []
        if does(reference)[0] == "blink":
            continue
        for strength in (0.0, 1.0):
            api["apply"]["inputs"]["strength"] = strength
            filled = fill_pair(api, server.base / "input", number, "reference", target, reference)
            films.append(first_film(server, filled))
            found = pair_scores(films[-1], target, reference)
            if found["transfer"] != strength or found["object"] < 1:
                break
        else:
            head = f"{caption(target, motion=False)}; the reference: {caption(reference)}"
            clips = [render([reference]).frames[0], *films]
            made = Picture(head, clips, ["reference video", "without it", "with Video-As-Prompt"])
            drift = identity_drift(films[-1])
            best = min(best or (drift, made), (drift, made), key=lambda one: one[0])
    if best is None:
        raise NothingToShowError(f"transfer: none of {PAIRS} pairs")
    return best[1]


def story(server: Server) -> Picture:
    """The first story that the timeline tells whole, and whose object one prompt of all events shows too."""
    told, plain = variant(f"{MINI}story.json"), variant(f"{MINI}t2v.json {LONG}")
    for number, one in enumerate(sample_stories(TRIES, 11, "heldout")):
        film = first_film(server, tell(told, one, number, False, 1000 * number))
        if story_scores(film, one)["story"] < 1:
            continue
        joined = first_film(server, tell(plain, one, number, True, 1000 * number))
        if judge(joined, caption(one.scenes[0]))["object"] == 1:
            labels = ["all four in one prompt, full attention", "Prompt Timeline + Swin Renderer"]
            return Picture(joined_caption(one, number), [joined, film], labels, 5.0)
    raise NothingToShowError(f"story: none of {TRIES} stories")


def long(server: Server) -> Picture:
    slow = "swin.strength=1.0 swin.time_scale=0.2174 swin.anchors=rotating swin.anchor_budget=12"
    words = (f"{MINI}t2v.json {LONG}", f"{MINI}t2v.json {LONG} {slow}")
    _, said, _, films = from_wrong_to_right(server, words, SLOWED, 11, (1,))
    head = f"{said} (four times the trained length)"
    return Picture(head, films, ["full attention", "Swin Renderer, in slow motion"], 5.0)


def draft(server: Server) -> Picture:
    """The first long render from a draft that tells its caption, in slow motion."""
    plain = variant(f"{MINI}long_draft.json")
    plain["look"] = {**plain["save"], "inputs": plain["save"]["inputs"] | {"images": ["draft_decode", 0]}}
    for number, scene in enumerate(sample_scenes(TRIES, 11, "heldout", (1,))):
        text = caption(scene, number)
        api = fill(plain, text, 1000 * number)
        films = sorted((read_video(path) for path in server.run(api)), key=len)
        found = scores(films[-1], text, [])
        if found["object"] == 1 and found.get(SLOWED) == 1:
            return Picture(text, films, ["a draft of the trained length", "four times as long, from it"], 5.0)
    raise NothingToShowError(f"draft: none of {TRIES} captions")


def rerender(server: Server) -> Picture:
    clip = render([sample_scene(3, objects=2)], 81).frames[0]
    write_video(server.base / "input" / "clip.mp4", clip)
    said = caption(sample_scene(3, objects=2))
    film = first_film(server, fill(variant(f"{MINI}v2v.json swin.strength=1.0"), said, 0))
    return Picture(said, [clip, film], ["your clip", "rendered anew, in windows"], 4.0)


def words(server: Server) -> Picture:
    """Heat maps of two words over a finished video."""
    scene = sample_scenes(8, 72, "heldout", objects=(1,))[0]
    said, thing = caption(scene), scene.things[0]
    api = fill(variant(f"{MINI}t2v.json"), said, 5)
    maps = {
        "model": ["unet", 0],
        "clip": ["reader", 0],
        "positive": ["positive", 0],
        "text": said,
        "words": f"{thing.shape}, {thing.colour}",
        "latent": ["sampler", 0],
        "image": ["decode", 0],
        "blocks": "6-8",
        "at": 0.5,
        "seed": 0,
    }
    api["reader"] = {"class_type": "SemVidMiniCLIPLoader", "inputs": {"clip_name": "mini_clip.safetensors"}}
    api["maps"] = {"class_type": "SemVidAttentionMaps", "inputs": maps}
    api["heat"] = {**api["save"], "inputs": api["save"]["inputs"] | {"images": ["maps", 1]}}
    del api["save"]
    films = [read_video(path) for path in server.run(api)]
    return Picture(said, films[:2], [f'where "{word}" is attended to' for word in maps["words"].split(", ")])


def masks(server: Server) -> Picture:
    scene = sample_scene(28, "heldout", 2)
    api = show(variant(f"{MINI}ssg_adapter.json"), scene, server.base / "input", "masks")
    phrases = api["mask"]["inputs"]["text"].splitlines()
    kept = {key: api[key] for key in ("clip", "image", "mask", "visual_prompt")}
    kept["visual_prompt"]["inputs"] |= {"style": "grey", "strength": 1.0, "feather": 2.0}
    save = {"fps": 1.0, "lossless": True, "quality": 90, "method": "fastest", "filename_prefix": "masks"}
    for name, source in (("heat", ["mask", 1]), ("grey", ["visual_prompt", 0])):
        kept[name] = {"class_type": "SaveAnimatedWEBP", "inputs": save | {"images": source, "filename_prefix": name}}
    found = {path.name.split("_")[0]: read_video(path) for path in server.run(kept)}
    picture = render([scene]).frames[0, :1]
    labels = ["the picture", "where CLIP finds it", "Visual Prompt: all else grey"]
    return Picture(" and ".join(phrases), [picture, found["heat"][:1], found["grey"][:1]], labels)


def plan(server: Server) -> Picture:
    api = variant(f"{MINI}semantic_plan.json")
    look = {"images": ["plan", 1], "filename_prefix": "plan"}
    api["look"] = {**api["save"], "inputs": api["save"]["inputs"] | look}
    found = {path.name.split("_")[0]: read_video(path) for path in server.run(api)}
    said = api["positive"]["inputs"]["text"]
    return Picture(
        said, [found["plan"], found["mini"]], ["the plan, drawn from text", "the video that follows it"], 4.0
    )


def drift(server: Server) -> Picture:
    scene = sample_scene(5, "heldout", 1, motion="circle")
    api = fill(variant(f"{MINI}t2v.json {LONG} swin.strength=1.0"), caption(scene), 5)
    measured = {"image": ["decode", 0], "window": 6, "borders": "", "text": ""}
    api["drift"] = {"class_type": "SemVidDrift", "inputs": measured}
    api["plot"] = {**api["save"], "inputs": api["save"]["inputs"] | {"images": ["drift", 1], "filename_prefix": "plot"}}
    found = {path.name.split("_")[0]: read_video(path) for path in server.run(api)}
    return Picture("Drift Report", [found["mini"], found["plot"][:1]], ["any video", "its numbers over time"], 4.0)


def expert(server: Server) -> Picture:
    return Picture("Video-As-Prompt, once", [drawn(["41 GB"]), drawn(["8 GB"])], ["as published", "its expert alone"])


SHOWS: dict[str, Callable[[Server], Picture]] = {name: globals()[name] for name in SHOWN}


def main(arguments: list[str]) -> int:
    names = parser().parse_args(arguments).names or SHOWN
    if unknown := set(names) - set(SHOWS):
        raise ValueError(f"{', '.join(sorted(unknown))}: no such picture. Choose from {', '.join(SHOWN)}.")
    host = require_host(ROOT)
    FOLDER.mkdir(exist_ok=True)
    with (
        TemporaryDirectory() as base,
        Server(host, Path(base), modules=(mini.NODES,), arguments=mini.mount(Path(base))) as server,
    ):
        for name in names:
            found = SHOWS[name](server)
            path = FOLDER / f"{name}.webp"
            write_moving(path, found.clips, found.labels, found.head, found.seconds)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KB, {found.head}", flush=True)
    return 0
