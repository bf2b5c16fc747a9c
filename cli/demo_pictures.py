"""The part of the demo's page that needs no ComfyUI: what the pack is, where the mini CLIP finds what a text names, and
the world of the small models. kernels/, mini/ and miniworld/ alone."""

import html
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from open_clip import CLIP
from torch import Tensor

from ..kernels.clip_mask import heat_map
from ..kernels.visual_prompt import paint
from ..mini import clip as mini_clip
from ..mini import clip_mask, family
from ..miniworld.caption import caption, object_captions
from ..miniworld.render import render
from ..miniworld.scene import Scene, sample_scene, sample_scenes
from .demo_figures import of_masks, per_hundred
from .demo_page import clip, clips, note, section, verdict, where

FOUND, MISSED = 0.5, 0.1  # overlap of a mask with the thing, of 1
SETTINGS = "the same, filter 1"  # the row of the benchmark that these settings are
PAINT = {"feather": 2.0, "blur": 4.0, "width": 3}  # in pixels of 64 x 64, where a full picture has a hundred times more
WORLD = ("left", "circle", "grow", "blink", "change")
WHAT = (
    "semantic-video is a set of nodes for ComfyUI that make video models listen: to a picture, to another video, to "
    "each word of a prompt, to a story told line by line.",
    "They go between the loaders and samplers you already use, and with a strength of 0 they change nothing.",
)


class Found(NamedTuple):
    """A scene of the measured set: its number, the frame [1, height, width, 3], phrases, masks [phrases, height,
    width] and how far each overlaps its thing."""

    number: int
    scene: Scene
    frame: Tensor
    phrases: list[str]
    masks: Tensor
    overlaps: list[float]


def overlap(mask: Tensor, truth: Tensor) -> float:
    """Area in common over area of both, of two masks at 0.5."""
    a, b = mask > 0.5, truth > 0.5
    return float((a & b).sum() / (a | b).sum().clamp(min=1))


def intro(maker: str) -> str:
    """The head of the page. maker: what made the clips."""
    marks = (
        "Everything below was made in one go, by "
        f"{html.escape(maker)} models of a few million parameters. They know one small world of coloured shapes, "
        "so that a program can look at each clip and say whether it does as asked: the "
        "<span class='good'>&#10003;</span> and <span class='bad'>&#10007;</span>. The bars are over many more. "
        "Large models make real pictures; how much they gain is not measured here."
    )
    pause = "<p><label><input type='checkbox' id='pause'> Pause all clips</label></p>"
    return f"<p class='lead'>{html.escape(' '.join(WHAT))}</p><p class='quiet'>{marks}</p>{pause}"


def looked_at(model: CLIP) -> Iterator[Found]:
    """The scenes on which the masks are measured, at their start."""
    for number, scene in enumerate(sample_scenes(200, 11, "heldout")):
        shown, phrases = render([scene], 1), object_captions(scene)
        masks = clip_mask.find(model, shown.frames[0], phrases)[:, 0]
        yield Found(number, scene, shown.frames[0], phrases, masks, list(map(overlap, masks, shown.masks[0, :, 0])))


def choose(scenes: Iterator[Found]) -> tuple[Found, Found]:
    """The first of two things that are both found, and the first in which one is missed."""
    shown = missed = None
    for one in scenes:
        if shown is None and len(one.phrases) == 2 and min(one.overlaps) >= FOUND:
            shown = one
        if missed is None and min(one.overlaps) < MISSED:
            missed = one
        if shown and missed:
            return shown, missed
    raise ValueError("no scene in which both things are found, or none in which one is missed")


def masks_row() -> str:
    model = mini_clip.load(family.WEIGHTS / "mini_clip.safetensors")
    shown, missed = choose(looked_at(model))
    union = shown.masks.amax(0, keepdim=True)
    moving = render([shown.scene]).frames[0]
    over_time = heat_map(moving, clip_mask.find(model, moving, shown.phrases[:1])[0])
    figures = [
        clip(shown.frame, "The picture"),
        *(found_figure(shown, place) for place in range(2)),
        clip(over_time, f"{shown.phrases[0]}, frame by frame"),
        clip(paint(shown.frame, union, "darken", **PAINT), "The rest darkened"),
    ]
    point, area = (of_masks(SETTINGS, score) for score in ("pointing", "IoU"))
    measured = (
        f"Over {point.count} things in 200 pictures the brightest spot lies on the thing in "
        f"{per_hundred(point)} of 100, and spot and thing share {per_hundred(area)} % of their area."
    )
    how = (
        f"How this was chosen: scene {shown.number + 1} of the 200, at its start, the first of two things that are "
        "both found. "
        f"Scene {missed.number + 1} is the first in which one is not."
    )
    worst = missed.overlaps.index(min(missed.overlaps))
    fails = f"<div class='fails'><h3>One it misses</h3>{clips([found_figure(missed, worst)])}</div>"
    what = (
        "Write what you mean; the nodes find it in a picture or in each frame of a video, and can paint what they "
        "found into the picture for a model to see."
    )
    how = f"{how} {where('CLIP Spatial Mask, Visual Prompt', 'clip_spatial_mask')}"
    return section("Find what a text names", what, clips(figures), note(measured), fails, note(how, "how"))


def found_figure(one: Found, place: int) -> str:
    good = one.overlaps[place] >= FOUND
    said = verdict(good, "found" if good else "not found")
    return clip(heat_map(one.frame, one.masks[place][None]), f"Where is {one.phrases[place]}?", [said])


def world_row() -> str:
    """True clips, drawn by a program."""
    scenes = [sample_scene(seed, "train", 1, motion=motion) for seed, motion in enumerate(WORLD)]
    figures = [clip(frames, caption(scene)) for frames, scene in zip(render(scenes).frames, scenes)]
    what = "All that the small models have ever seen: shapes that move or change, drawn by a program, and a sentence."
    return section("The small world", what, clips(figures))


def sections() -> Sequence[str]:
    with torch.inference_mode():
        return masks_row(), world_row()
