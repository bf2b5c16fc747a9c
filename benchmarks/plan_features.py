"""What a plan is made of: features of a vision tower or the VAE's latents, in few or many dimensions, and how soon a
planner learns to draw them from a caption (SemanticGen, arXiv 2512.20619, compares the same by sight).

Plans are principal components of the same twelve pictures of each long MiniWorld video, and each kind gets the same
planner, captions, noise and steps. Losses of different spaces do not compare, so readouts do: fitted on plans of true
videos, they tell of each token whose colour it shows, and are then asked of plans that the planner draws for held-out
captions. What they find in true plans of these is the most that can be reached.
"""

import argparse
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = (("semantic", 8), ("semantic", 64), ("VAE", 8), ("VAE", 64))
FACTS = ("colour", "background", "motion")  # what a plan is asked for
UNCLEAR = ("blink", "change")  # motions in which an object has no one colour
OBJECT, GROUND = 0.35, 0.02  # of a token's area that an object covers: at least, or at most
STEPS, CFG, SEED = 20, 4.0, 0  # of sampling, as in the mini workflows
BATCH, RATE = 16, 8e-3  # of training, as the mini planner's


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="run.py bench plan_features", description=__doc__.split("\n\n")[0])
    options.add_argument("--scenes", type=int, default=768, help="videos to learn from (default: 768)")
    options.add_argument("--held-out", type=int, default=96, help="captions to draw plans for (default: 96)")
    options.add_argument("--steps", type=int, default=240, help="of each training (default: 240)")
    return options


def pictures(scenes: list, batch: int = 16):
    """The frames in the middle of each token frame [n, 12, 64, 64, 3], and whose colour each token shows [n, 12, 4, 4]:
    an object's by number, a background's counted on from there, -1 neither clearly."""
    import torch
    import torch.nn.functional as F

    from ..mini.long_clips import FRAMES, TOKEN_FRAMES, middles
    from ..mini.plan_adapter import GRID
    from ..miniworld.render import render
    from ..miniworld.scene import BACKGROUNDS, COLOURS

    shown, labels = [], []
    for i in range(0, len(scenes), batch):
        part, some = render(scenes[i : i + batch], FRAMES), scenes[i : i + batch]
        at = middles(FRAMES, TOKEN_FRAMES)
        cover = F.adaptive_avg_pool2d(part.masks[:, :, at].amax(1), GRID)
        thing = torch.tensor([list(COLOURS).index(scene.things[0].colour) for scene in some]).view(-1, 1, 1, 1)
        ground = torch.tensor([list(BACKGROUNDS).index(scene.background) for scene in some]).view(-1, 1, 1, 1)
        label = torch.where(cover <= GROUND, ground + len(COLOURS), torch.full_like(cover, -1).long())
        labels.append(torch.where(cover >= OBJECT, thing, label))
        shown.append(part.frames[:, at])
    return torch.cat(shown), torch.cat(labels)


def semantic(clip, shown):
    """Features of the mini CLIP [n, 12, 4, 4, 512]."""
    import torch

    from ..mini.long_clips import merged
    from ..patches.clip_mask import encode

    seen = torch.cat([encode(clip, video).penultimate_hidden_states[:, 1:].cpu() for video in shown])
    return merged(seen, clip.size // clip.patch).unflatten(0, shown.shape[:2])


def latent(vae, shown):
    """Latents of the mini VAE of each picture alone, four neighbours a token [n, 12, 4, 4, 64]."""
    import torch

    from ..mini.latents import encode
    from ..mini.long_clips import merged

    parts = [encode(vae, some.movedim(-1, 1)[:, :, None] * 2 - 1) for some in shown.flatten(0, 1).split(96)]
    each = torch.cat(parts)[:, :, 0].flatten(2).transpose(1, 2)
    return merged(each, shown.shape[2] // 8).unflatten(0, shown.shape[:2])


def components(train, held_out, dims: int):
    """Both in the `dims` directions in which training tokens vary most, and how much of their variance that is."""
    import torch

    tokens = train.flatten(0, -2).double()
    centre = tokens.mean(0)
    values, vectors = torch.linalg.eigh((tokens - centre).T @ (tokens - centre))
    along = vectors[:, -dims:].flip(1)
    kept = float(values[-dims:].sum() / values.sum())
    return *(((x.double() - centre) @ along).float() for x in (train, held_out)), kept


class Readout:
    """What each token of a plan shows, by ridge regression on the token and random Fourier features of it."""

    WIDTH, RIDGE = 768, 1e-3

    def __init__(self, plans, labels):
        """plans [n, 12, 4, 4, dims], labels of `pictures` [n, 12, 4, 4]."""
        import torch

        self.scale, dims = plans.std(), plans.shape[-1]
        random = torch.Generator().manual_seed(SEED)
        self.turn = torch.randn(dims, self.WIDTH, generator=random) / dims**0.5
        self.phase = 2 * torch.pi * torch.rand(self.WIDTH, generator=random)
        x, y = self.features(plans[labels >= 0]), torch.nn.functional.one_hot(labels[labels >= 0]).float()
        gram = (x.T @ x).double() + self.RIDGE * len(x) * torch.eye(x.shape[1]).double()
        self.weights = torch.linalg.solve(gram, (x.T @ y).double()).float()

    def features(self, tokens):
        import torch

        tokens = tokens / self.scale
        return torch.cat([tokens, torch.cos(tokens @ self.turn + self.phase)], -1)

    def shares(self, plans, scenes: list) -> dict[str, list[int]]:
        """Of each fact, whether each plan shows it as its scene says; motion: where the object goes somewhere."""
        from ..miniworld.scene import BACKGROUNDS, COLOURS

        seen = self.features(plans) @ self.weights
        thing, ground = seen[..., : len(COLOURS)], seen[..., len(COLOURS) :]
        there = thing.sum(-1) > ground.sum(-1)  # [n, 12, 4, 4]
        colour = (thing * there[..., None]).sum((1, 2, 3)).argmax(-1).tolist()
        behind = ground.sum((1, 2, 3)).argmax(-1).tolist()
        told = [scene.things[0] for scene in scenes]
        return {
            "colour": [int(list(COLOURS)[i] == one.colour) for i, one in zip(colour, told)],
            "background": [int(list(BACKGROUNDS)[i] == scene.background) for i, scene in zip(behind, scenes)],
            "motion": [int(goes(one, said.heading or said.motion)) for one, said in zip(there, told) if straight(said)],
        }


def straight(thing) -> bool:
    return thing.motion in ("left", "right", "up", "down", "diagonal")


def goes(there, said: str) -> bool:
    """Whether the tokens that are an object's, bool [12, 4, 4], go at least a token's width from the first two frames
    with any to the last two, within 30 degrees of the way that is said."""
    import torch

    frames = there[there.any(-1).any(-1)].float()
    if len(frames) < 4:
        return False
    middles, total = torch.arange(4).float(), frames.sum((1, 2))
    places = torch.stack([(frames.sum(1) @ middles) / total, (frames.sum(2) @ middles) / total], -1)  # x, y
    way = places[-2:].mean(0) - places[:2].mean(0)
    wanted = torch.tensor([("right" in said) - ("left" in said), ("down" in said) - ("up" in said)]).float()
    return float(way.norm()) >= 1 and float(way @ wanted / (way.norm() * wanted.norm())) >= 0.866


def drawn(planner, text, silent):
    """Plans that the planner draws for text features [n, tokens, width]."""
    import torch

    from ..kernels.planner import euler, guided, sigmas_of

    def velocity(features):
        return lambda z, s: planner(z, torch.full((len(z),), s), features)

    spec = planner.spec
    noise = torch.randn((len(text), 12, spec.rows, spec.columns, spec.dims), generator=torch.Generator().manual_seed(5))
    both = guided(velocity(text), velocity(silent.expand_as(text)), CFG)
    with torch.no_grad():
        return planner.real(euler(both, noise, sigmas_of(STEPS, spec.shift)))


def taught(spec, plans, draw, steps: int, look) -> None:
    """Trains a planner; look(planner, step) is called an eighth, a quarter, half of the way, and at the end."""
    from random import Random
    from tempfile import TemporaryDirectory

    from ..host.frozen_model import in_training
    from ..kernels.planner import Planner, initialise
    from ..training.loop import train
    from ..training.plan import Plan
    from ..training.planner import losses

    def at_marks(weights, state) -> bool:
        if state.step in {steps // 8, steps // 4, steps // 2, steps}:
            averaged = Planner(spec)
            averaged.load_state_dict(weights)
            look(averaged, state.step)
        return False

    with in_training(), TemporaryDirectory() as folder:
        planner = Planner(spec)
        initialise(planner, SEED)
        planner.normalise(plans)
        plan = Plan("features", Path(folder), steps=steps, rate=RATE, seed=SEED)
        train(plan, planner, lambda step, done: losses(planner, draw, Random(f"{SEED}/{step}")), enough=at_marks)


def measure(scenes: int, held_out: int, steps: int) -> list[dict]:
    """A row for each kind: the readouts of true plans, and of drawn ones after so many steps."""
    from itertools import count, islice

    import torch

    from ..host.clip_loading import load_clip
    from ..kernels.plan_spec import PlannerSpec
    from ..mini import clip as mini_clip
    from ..mini import planner as mini
    from ..mini import vae as mini_vae
    from ..mini.dit import UNSAID
    from ..mini.family import WEIGHTS
    from ..mini.long_clips import scene_number
    from ..miniworld.caption import caption
    from ..miniworld.scene import sample_scenes
    from ..training.planner import Batch

    clear = (scene for i in count() if (scene := scene_number(SEED, i)).things[0].motion not in UNCLEAR)
    given = list(islice(clear, scenes))
    some = sample_scenes(2 * held_out, SEED, "heldout", (1,))
    asked = [scene for scene in some if scene.things[0].motion not in UNCLEAR][:held_out]
    text_clip = mini_clip.load(WEIGHTS / "mini_clip.safetensors")
    with torch.no_grad():
        clip, vae = load_clip(WEIGHTS / "mini_clip.safetensors"), mini_vae.load(WEIGHTS / "mini_vae.safetensors")
        (shown, labels), (shown_asked, _) = pictures(given), pictures(asked)
        both = (shown, shown_asked)
        features = {"semantic": [semantic(clip, x) for x in both], "VAE": [latent(vae, x) for x in both]}
        silent = mini_clip.encode_text(text_clip, [""])
        prompts = mini_clip.encode_text(text_clip, [caption(scene, i) for i, scene in enumerate(asked)])

    def row(kind: str, dims: int) -> dict:
        plans, true, kept = components(*features[kind], dims)
        readout = Readout(plans, labels)
        found = {"features": kind, "dims": dims, "variance": kept, "truth": readout.shares(true, asked), "drawn": {}}
        print(f"{kind} {dims}: true plans {means(found['truth'])}", flush=True)
        size = (mini.WIDTH, mini.HEADS, mini.BLOCKS, mini.FFN, *mini.GRID, 2.0, mini.SHIFT)

        def draw(rng) -> Batch:
            picks = [rng.randrange(len(plans)) for _ in range(BATCH)]
            captions = [caption(given[i], rng, UNSAID) for i in picks]
            return Batch(plans[picks], mini_clip.encode_text(text_clip, captions), silent)

        def look(planner, step: int) -> None:
            found["drawn"][step] = readout.shares(drawn(planner, prompts, silent), asked)
            print(f"{kind} {dims}, {step} steps: {means(found['drawn'][step])}", flush=True)

        taught(PlannerSpec(dims, kind, prompts.shape[-1], *size), plans, draw, steps, look)
        return found

    return [row(*kind) for kind in KINDS]


def means(found: dict[str, list[int]]) -> dict[str, float]:
    return {name: round(sum(values) / len(values), 3) for name, values in found.items()}


def table(rows: list[dict], options: argparse.Namespace) -> str:
    lines = [
        "# What a plan is made of",
        "",
        f"`python run.py bench plan_features`: planners of the mini one's size, {options.scenes} MiniWorld videos, "
        f"{options.steps} steps of {BATCH}; plans drawn for {options.held_out} held-out captions ({STEPS} steps, "
        f"CFG {CFG:g}). Share of plans whose tokens, by their readout, show what the caption says: mean of "
        + ", ".join(FACTS)
        + " (of objects that go somewhere); in brackets each. True plans: of the videos themselves.",
        "",
        "| features | dims | variance kept | true plans | " + " | ".join(f"{n} steps" for n in rows[0]["drawn"]) + " |",
        "| --- | ---: | ---: | --- |" + " --- |" * len(rows[0]["drawn"]),
    ]
    for row in rows:
        cells = [told(row["truth"]), *(told(found) for found in row["drawn"].values())]
        lines.append(f"| {row['features']} | {row['dims']} | {row['variance']:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def told(found: dict[str, list[int]]) -> str:
    each = means(found)
    return f"{sum(each.values()) / len(each):.2f} (" + ", ".join(f"{value:.2f}" for value in each.values()) + ")"


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    from ..cli.hosts import require_host
    from ..harness.stand_ins import start_host

    start_host(require_host(ROOT), "--cpu")
    rows = measure(options.scenes, options.held_out, options.steps)
    text = table(rows, options)
    path = ROOT / "benchmarks" / "results" / "plan-features-cpu"
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(rows) + "\n", encoding="utf-8")
    print(text)
    return 0
