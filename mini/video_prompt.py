"""The mini expert of Video-As-Prompt beside mini-i2v, trained on MiniWorld's pairs: training/video_prompt.py with
cached latents.

Our choice: most captions of targets, and some of those of their references, do not say what the object does, so that it
must be seen.
"""

from dataclasses import replace
from pathlib import Path
from random import Random

from torch import Tensor

from ..miniworld.caption import caption
from ..miniworld.scene import Scene
from ..training.loop import train
from ..training.parallel import by_first, first, first_alone
from ..training.plan import Plan, State
from ..training.video_prompt import CAPTION_DROPOUT, Draw, export, load_pair, make_loss, start_expert
from . import clip as mini_clip
from . import vae as mini_vae
from .dit import UNSAID
from .latents import folder_of
from .pair_scores import held_out_scores
from .pairs import Pairs, fill

LAYERS = (0, 2)  # more would not fit into the weights that ship
MOST_PAIRS = 1536  # encoding them costs as much as a third of the training
HIDDEN = 0.85  # chance that a target's caption does not say the motion
REFERENCE_HIDDEN = 0.7  # and then, that its reference's does not either


def captions_for(targets: list[Scene], references: list[Scene], rng: Random) -> tuple[list[str], list[str]]:
    """Captions of targets and references. Dropped together, a pair's are empty."""
    drawn = []
    for target, reference in zip(targets, references):
        hidden = rng.random() < HIDDEN
        both = (
            caption(target, rng, UNSAID, motion=not hidden),
            caption(reference, rng, UNSAID, motion=not (hidden and rng.random() < REFERENCE_HIDDEN)),
        )
        drawn.append(("", "") if rng.random() < CAPTION_DROPOUT else both)
    return tuple(map(list, zip(*drawn)))


def draw_mini(pairs: Pairs, clip, count: int) -> Draw:
    """`draw` of `make_loss` for MiniWorld."""

    def draw(rng: Random) -> list[dict[str, Tensor]]:
        targets, references, batch = pairs.batch(rng, count)
        texts = (mini_clip.encode_text(clip, captions) for captions in captions_for(targets, references, rng))
        batch["text"], batch["reference_text"] = texts
        return [{name: values[i] for name, values in batch.items()} for i in range(count)]

    return draw


def run(plan: Plan, out: Path, describe) -> dict[str, float]:
    """Trains the mini expert, exports it to out/mini_vap_expert.safetensors, returns the held-out scores. ValueError if
    what it builds on is missing."""
    backbone, path, start = (
        out / "mini_i2v.safetensors",
        out / "mini_vap_expert.safetensors",
        plan.cache / f"{plan.name}-start.safetensors",
    )
    if absent := [name for name in ("mini_vae", "mini_clip", "mini_i2v") if not (out / f"{name}.safetensors").exists()]:
        raise ValueError(
            f"{plan.name} builds on {', '.join(absent)}; train it first: python run.py train "
            f"{absent[0].replace('_', '-')}"
        )
    vae, clip = mini_vae.load(out / "mini_vae.safetensors"), mini_clip.load(out / "mini_clip.safetensors")
    count = min(plan.scenes, MOST_PAIRS)
    folder = folder_of(plan.cache, vae, plan.seed)
    with first_alone():
        fill(folder, vae, plan.seed, count)
        if first():
            start_expert(backbone, LAYERS, start)
    model, expert = load_pair(backbone, start)

    @by_first
    def finish(weights: dict[str, Tensor], state: State, clips: int = plan.held_out) -> dict[str, float]:
        export(weights, start, path, describe(state, {}))
        scores = held_out_scores(
            backbone, path, out / "mini_vae.safetensors", clip, clips, sheet=plan.cache / f"{plan.name}-samples.png"
        )
        export(weights, start, path, describe(state, scores | {"pairs": count}))
        print(f"step {state.step}, {count} pairs:", scores, flush=True)
        return scores

    def glance(weights: dict[str, Tensor], state: State) -> None:
        finish(weights, state, min(plan.held_out, 50))

    loss_of = make_loss(model, draw_mini(Pairs(folder, plan.seed, count), clip, plan.batch), plan)
    weights, state = train(replace(plan), expert, loss_of, glance if plan.export_minutes else None)
    return finish(weights, state)
