"""The clips and pictures that shipped workflows and those of mini/workflows load, of MiniWorld."""

from pathlib import Path

from PIL import Image

from ..miniworld.render import render
from ..miniworld.scene import Scene, sample_pair, sample_scene
from .media import write_video


def pairs() -> list[tuple[Scene, Scene]]:
    """(reference, target), one for each kind of motion or effect."""
    return [sample_pair(seed, "heldout", motion) for seed, motion in enumerate(("left", "circle", "grow"))]


def write_inputs(inputs: Path) -> None:
    """Into the server's input folder: clip.mp4, reference.mp4, first-6.png, subject.png, and of each pair
    reference-N.mp4 and target-N.png."""
    clip = render([sample_scene(3, objects=2)], 81).frames[0]
    write_video(inputs / "clip.mp4", clip)
    write_video(inputs / "reference.mp4", clip)
    first = render([sample_scene(6, "heldout", 1)]).frames[0, 0]
    for name, frame in (("first-6.png", first), ("subject.png", clip[0])):
        Image.fromarray((frame * 255).byte().numpy()).save(inputs / name)
    for number, (reference, target) in enumerate(pairs()):
        write_video(inputs / f"reference-{number}.mp4", render([reference]).frames[0])
        Image.fromarray((render([target]).frames[0, 0] * 255).byte().numpy()).save(inputs / f"target-{number}.png")
