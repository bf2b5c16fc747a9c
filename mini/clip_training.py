"""Training of the mini CLIP on single frames of rendered scenes.

    loss = InfoNCE(frame, full caption) + CE(frame, which of the 32 colour-and-shape phrases) + region + 0.3 words

region: the patches of an object are the ones most like its phrase, and their mean names it (so that words find their
region). words: small heads, thrown away afterwards, must read each token's word, and from <end> the motion and the
subject, off the text tower's last features, and the kinds of objects off the image's: a single frame shows no motion,
and contrast alone would let the text tower forget what the video models need to hear; and as long as neither tower
cares for shapes, the other has no reason to. In the second part of the training the text tower is frozen up to its
projection, so that video models can start on its token features. All weights are our choice.
"""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ..host.weights import save_weights
from ..miniworld.caption import caption, phrase, words
from ..miniworld.render import render
from ..miniworld.scene import COLOURS, DIAGONALS, MOTIONS, SHAPES, Scene, ThingFacts, facts_of
from ..training.loop import train
from ..training.plan import Plan, State, random_at
from .clip import CONFIG, TEXT_TOKENS, build, image_features, preprocess, token_features, tokenize, vocabulary_of
from .data import draw_scenes

KINDS = list(product(COLOURS, SHAPES))
DOES = [*(m for m in MOTIONS if m not in ("diagonal", "change")), *DIAGONALS, *(f"change {c}" for c in COLOURS)]
REGION_WEIGHT, WORDS_WEIGHT = 0.5, 0.3
TEXT_SHARE = 0.45  # of the training in which the text tower learns too
POOL, POOL_FRAMES = 3072, 3  # scenes rendered once, and frames kept of each


class Reader(nn.Module):
    """The model and the heads that keep its words legible."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        width = model.token_embedding.weight.shape[1]
        self.word = nn.Linear(width, len(model.vocabulary))
        self.does = nn.Linear(width, len(DOES))
        self.says = nn.Linear(width, len(KINDS))
        self.shows = nn.Linear(model.text_projection.shape[1], len(KINDS))


def text_features(model, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(normalised joint-space features [n, dim], token features [n, tokens, width])."""
    tokens = token_features(model, ids)
    pooled = tokens[torch.arange(len(ids)), ids.argmax(-1)]
    return F.normalize(pooled @ model.text_projection, dim=-1), tokens


def kind_phrases(rng=None) -> list[str]:
    """One noun phrase for each colour and shape, in the order of KINDS; rng draws synonyms."""
    return [phrase(ThingFacts(shape, colour), rng) for colour, shape in KINDS]


def one_frame_each(scenes: list[Scene], rng) -> tuple[Tensor, Tensor, Tensor]:
    """A random frame of each scene in which its objects are visible: frames [n, 64, 64, 3], masks [n, 2, 64, 64], and
    the objects' kinds [n, 2] as indices of KINDS, -1 for none. An object in the act of changing counts as the colour it
    is nearer to."""
    clips = render(scenes, 21)
    picks = [rng.choice(clips.visible[i, 0].nonzero().flatten().tolist()) for i in range(len(scenes))]
    frames = torch.stack([clips.frames[i, t] for i, t in enumerate(picks)])
    masks, kinds = torch.zeros(len(scenes), 2, 64, 64), torch.full((len(scenes), 2), -1)
    for i, (scene, t) in enumerate(zip(scenes, picks)):
        for k, thing in enumerate(scene.things):
            masks[i, k] = clips.masks[i, k, t]
            kinds[i, k] = KINDS.index((thing.to_colour if thing.to_colour and t > 10 else thing.colour, thing.shape))
    return frames, masks, kinds


def frame_pool(plan: Plan) -> list[tuple[list[Scene], Tensor, Tensor, Tensor]]:
    """Frames of many scenes, rendered once: chunks of (scenes, frames as bytes, masks as bytes, kinds)."""
    chunks = []
    for i in tqdm(range(min(POOL, plan.scenes) // 64 * POOL_FRAMES), desc="frames", mininterval=5):
        rng = random_at(plan.seed, i, 8)
        scenes = draw_scenes(rng, 64)
        frames, masks, kinds = one_frame_each(scenes, rng)
        chunks.append((scenes, (frames * 255).round().byte(), (masks * 255).round().byte(), kinds))
    return chunks


def draw(pool, rng, count: int) -> tuple[list[Scene], Tensor, Tensor, Tensor]:
    """`count` random entries of the pool, as `one_frame_each` gives them, with their scenes."""
    picks = [(rng.choice(pool), rng.randrange(64)) for _ in range(count)]
    frames, masks, kinds = (torch.stack([chunk[part][i] for chunk, i in picks]) for part in (1, 2, 3))
    return [chunk[0][i] for chunk, i in picks], frames / 255, masks / 255, kinds


def make_loss(reader: Reader, plan: Plan):
    """loss_of(step, progress) of `train`."""
    model = reader.model
    vocabulary = model.vocabulary
    pool = frame_pool(plan)

    def loss_of(step: int, done: float) -> dict[str, Tensor]:
        rng = random_at(plan.seed, step, 7)
        scenes, frames, masks, kinds = draw(pool, rng, plan.batch)
        frames = (frames + 0.05 * rng.random() * torch.randn_like(frames)).clamp(0, 1)
        captions = [caption(s, rng, drop=0.3) for s in scenes]
        ids = tokenize(vocabulary, captions + kind_phrases(rng))[:, :TEXT_TOKENS]
        with torch.autocast("cpu", torch.bfloat16):
            texts, tokens = text_features(model, ids)
            image, patches = image_features(model, preprocess(frames))
            last = tokens[torch.arange(len(ids)), ids.argmax(-1)]
            read, does, says, shows = (
                reader.word(tokens),
                reader.does(last[: plan.batch]),
                reader.says(last),
                reader.shows(image),
            )
        scale = model.logit_scale.exp().clamp(max=100)
        image, patches, texts = F.normalize(image.float(), dim=-1), F.normalize(patches.float(), dim=-1), texts.float()
        full, phrases = texts[: plan.batch], texts[plan.batch :]
        logits = scale * image @ full.T
        target = torch.arange(plan.batch)
        contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        present = F.one_hot(kinds.clamp(min=0), len(KINDS)) * (kinds >= 0).unsqueeze(-1)
        wanted = present.sum(1).float()
        kind = F.cross_entropy(scale * image @ phrases.T, wanted / wanted.sum(-1, keepdim=True))
        cover = F.avg_pool2d(masks, 8).flatten(2)  # [n, 2, patches]
        seen = (kinds >= 0) & (cover.sum(-1) > 0)
        found = torch.einsum("npd,nkd->nkp", patches, phrases[kinds.clamp(min=0)])[seen] * 20
        inside = cover.unsqueeze(-1) * patches.unsqueeze(1)
        named = F.normalize(inside.sum(2)[seen], dim=-1) @ phrases.T
        region = F.cross_entropy(scale * named, kinds[seen])
        where = F.cross_entropy(found, (cover[seen] + 1e-6) / (cover[seen] + 1e-6).sum(-1, keepdim=True))
        real = ids > 0
        motions = torch.tensor(
            [
                DOES.index(t.heading or (f"change {t.to_colour}" if t.to_colour else t.motion))
                for t in (facts_of(s).things[0] for s in scenes)
            ]
        )
        subjects = torch.tensor(
            [KINDS.index((s.things[0].colour, s.things[0].shape)) for s in scenes] + list(range(len(KINDS)))
        )
        legible = (
            F.cross_entropy(read.float()[real], ids[real])
            + F.cross_entropy(does.float(), motions)
            + F.cross_entropy(says.float(), subjects)
        )
        shown = F.cross_entropy(shows.float(), wanted / wanted.sum(-1, keepdim=True))
        loss = contrast + kind + REGION_WEIGHT * (where + region + shown) + WORDS_WEIGHT * legible
        return {
            "loss": loss,
            "contrast": contrast,
            "kind": kind,
            "region": region,
            "where": where,
            "legible": legible,
            "shown": shown,
        }

    return loss_of


@torch.no_grad()
def held_out_scores(model, count: int = 200) -> dict[str, float]:
    """On one random frame of each held-out scene, plain words: object retrieval (the named objects are the best of all
    32 phrases, one or two of them; one- and two-object scenes apart as well), caption retrieval among the `count`
    captions, and the share of objects whose best patch by their phrase lies on them."""
    rng = random_at(4321, 0)
    scenes = draw_scenes(rng, count, "heldout")
    frames, masks, kinds = one_frame_each(scenes, rng)
    image, patches = (F.normalize(x, dim=-1) for x in image_features(model, preprocess(frames)))
    phrases, _ = text_features(model, tokenize(model.vocabulary, kind_phrases()))
    full, _ = text_features(model, tokenize(model.vocabulary, [caption(s) for s in scenes]))
    hits: dict[int, list[float]] = {1: [], 2: []}
    on_object = []
    cover = F.avg_pool2d(masks, 8).flatten(2)
    for i, row in enumerate(image @ phrases.T):
        wanted = {k for k in kinds[i].tolist() if k >= 0}
        best = set(row.topk(len(wanted)).indices.tolist())
        hits[len(scenes[i].things)].append(len(best & wanted) / len(wanted))
        for k in range(len(scenes[i].things)):
            on_object.append(float(cover[i, k, int((patches[i] @ phrases[kinds[i, k]]).argmax())] > 0))
    mean = [sum(h) / max(len(h), 1) for h in (hits[1] + hits[2], hits[1], hits[2], on_object)]
    retrieval = float(((image @ full.T).argmax(-1) == torch.arange(count)).float().mean())
    return {
        "frames": count,
        "object_retrieval": round(mean[0], 4),
        "object_retrieval_one": round(mean[1], 4),
        "object_retrieval_two": round(mean[2], 4),
        "best_patch_on_object": round(mean[3], 4),
        "caption_retrieval": round(retrieval, 4),
    }


def run(plan: Plan, out: Path, describe) -> dict[str, float]:
    """Trains, exports to out/mini_clip.safetensors, returns the held-out scores."""
    torch.manual_seed(plan.seed)
    vocabulary = vocabulary_of(words())
    reader = Reader(build(vocabulary))

    def finish(weights: dict[str, Tensor], state: State) -> dict[str, float]:
        model = build(vocabulary)
        kept = {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}
        model.load_state_dict(kept)
        scores = held_out_scores(model.eval(), plan.held_out)
        about = {
            "vocabulary": json.dumps(vocabulary),
            "open_clip": json.dumps(CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"vocab_size": len(vocabulary)}}),
        }
        save_weights(
            {k: v.half() for k, v in kept.items()}, out / "mini_clip.safetensors", describe(state, scores) | about
        )
        return scores

    first = replace(
        plan,
        name=f"{plan.name}-both",
        minutes=plan.minutes and plan.minutes * TEXT_SHARE,
        steps=plan.steps and max(round(plan.steps * TEXT_SHARE), 1),
    )
    second = replace(
        plan, minutes=plan.minutes and plan.minutes - first.minutes, steps=plan.steps and plan.steps - first.steps
    )
    loss_of = make_loss(reader, plan)
    weights, before = train(first, reader, loss_of)
    finish(weights, before)  # its text tower is final: the video models can start
    reader.load_state_dict(weights)
    model = reader.model
    for part in (model.token_embedding, model.transformer, model.ln_final, reader.word, reader.does, reader.says):
        part.requires_grad_(False)
    model.positional_embedding.requires_grad_(False)
    weights, after = train(second, reader, loss_of, finish if plan.export_minutes else None)
    return finish(weights, State(before.step + after.step, before.seconds + after.seconds))
