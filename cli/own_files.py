"""What `run.py train --pairs | --clips` needs beside the folder, and what is said where it is missing. Standard library
only until the files are asked for."""

import argparse

from ..mini.family import WEIGHTS

OWN_NEEDS = {  # flag -> models, files
    "pairs": {"video-prompt": ("backbone", "vae", "text_encoder")},
    "clips": {
        "ssg-adapter": ("backbone", "vae", "text_encoder", "clip"),
        "plan-adapter": ("backbone", "vae", "text_encoder"),
        "planner": ("compressor", "text_encoder"),
    },
}
OWN_FILES = ("backbone", "vae", "text_encoder", "clip", "clip_vision", "compressor", "tower")
OWN_NAMES = {"video-prompt": "expert", "planner": "planner"}  # else adapter


def own_files(chosen: argparse.Namespace):
    """What --pairs or --clips needs beside it, None without either. ValueError, naming the flag, for what is missing or
    does not belong."""
    given = [flag for flag in OWN_NEEDS if getattr(chosen, flag)]
    for flag in given:
        if chosen.model not in OWN_NEEDS[flag]:
            raise ValueError(f"--{flag}: is for {', '.join(OWN_NEEDS[flag])}, not for {chosen.model}.")
    if not given:
        if alone := [name for name in OWN_FILES if getattr(chosen, name)]:
            raise ValueError(
                f"{flag_of(alone[0])}: is for videos of your own; also give --pairs (video-prompt) or --clips "
                f"({', '.join(OWN_NEEDS['clips'])})."
            )
        return None
    [flag] = given
    if absent := [name for name in OWN_NEEDS[flag][chosen.model] if getattr(chosen, name) is None]:
        raise ValueError(f"--{flag}: also give {', '.join(map(flag_of, absent))}.")
    if chosen.out.resolve() == WEIGHTS:
        raise ValueError(f"--{flag}: also give --out, the folder for your {OWN_NAMES.get(chosen.model, 'adapter')}.")
    if flag == "pairs":
        return expert_files(chosen)
    return adapter_files(chosen) if chosen.model == "ssg-adapter" else plan_files(chosen)


def expert_files(chosen: argparse.Namespace):
    from .own_expert import Files

    if len(chosen.text_encoder) > 1:
        raise ValueError(f"--text-encoder: {len(chosen.text_encoder)} files; a Wan I2V has one.")
    layers = tuple(int(part) if part.strip().isdigit() else -1 for part in chosen.layers.split(","))
    return Files(
        chosen.backbone,
        chosen.vae,
        chosen.text_encoder[0],
        chosen.pairs,
        layers,
        chosen.clip_vision,
        tuple(chosen.size),
        chosen.length,
    )


def adapter_files(chosen: argparse.Namespace):
    from ..training.video_encoding import Shape
    from .own_adapter import Files

    try:
        shape = Shape(*chosen.size, chosen.length, chosen.fps, chosen.style)
    except ValueError as error:
        raise ValueError(f"--size, --length: {error}") from None
    return Files(
        chosen.backbone,
        chosen.vae,
        tuple(chosen.text_encoder),
        chosen.clip,
        chosen.clips,
        shape,
        chosen.clip_vision,
        chosen.held_out,
        chosen.offload,
    )


def plan_files(chosen: argparse.Namespace):
    from ..training.plan_folder import Shape
    from .own_plan import Files

    try:
        shape = Shape(*chosen.size, chosen.length, chosen.fps, chosen.plan_fps)
    except ValueError as error:
        raise ValueError(f"--size, --length, --fps: {error}") from None
    eyes = {name: getattr(chosen, name) for name in ("tower", "clip_vision", "clip")}
    parts = {name: getattr(chosen, name) for name in ("backbone", "vae", "compressor", "held_out", "offload")}
    return Files(chosen.clips, shape, tuple(chosen.text_encoder), **parts, **eyes)


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"
