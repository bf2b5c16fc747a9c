"""Mini T2V and I2V: the host's WanModel at width 160, nine and six blocks deep, trained by flow matching on cached
latents of rendered scenes.

    loss = mean(w |f(x_s, 1000 s, text) - (eps - x0)|^2)        x_s, w: kernels/flow_matching.py
    s    = sigmoid(1.7 + normal) for 3 of 4 videos, the band in which places and shapes are decided (our choice);
           else s(u) of shift 8, as the host's sampler visits it

What is trained is the bare module, not a MODEL, so noise levels and prediction are not asked of the host. Most captions
of two objects say where they are, true or drawn at random (`caption_for`): the model knows such sentences but does not
follow them, the complaint of users that spatial techniques shall answer.

The I2V model (Wan 2.2 style: 36 input channels, no CLIP branch) gets [x_s, 4 x mask, image latents] and starts from six
blocks of the T2V with zeros for the new channels. mask: 1 where the frame is given; image latents: of the first frame
followed by gray, as WanImageToVideo makes it.
"""

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import comfy.ldm.wan.model as host_model
import comfy.ops
import torch
from comfy.ldm.wan.model import WanModel
from safetensors.torch import load_file
from torch import Tensor, nn

from ..host.start_image import given_mask
from ..host.weights import require_fit, save_weights
from ..kernels.flow_matching import noised, shifted, stratified, velocity_error, weighted_losses
from ..miniworld.caption import caption
from ..miniworld.scene import RELATIONS, Scene
from ..training.loop import train
from ..training.plan import Plan, State, random_at
from . import clip as mini_clip
from . import vae as mini_vae
from .latents import Latents, fill, folder_of
from .scores import CFG, held_out_scores

CONFIG = dict(
    dim=160, ffn_dim=320, num_heads=5, freq_dim=256, out_dim=16, text_dim=mini_clip.CONFIG["text_cfg"]["width"]
)
LAYERS = {"T2V": 9, "I2V": 6}
BLOCK_OUTPUTS = ("self_attn.o.", "cross_attn.o.", "ffn.2.")
BAND, BAND_SHARE = 1.7, 0.75  # centre, in log s / (1 - s), and share of a batch
SHIFT = 8.0  # the host's for Wan
CAPTION_DROPOUT = 0.1
UNSAID = 0.2  # chance that a caption leaves out a size or the background
RELATION_SAID = 0.8  # chance that one of two objects names a relation
REFRESH_STEPS = 100
IMAGE_SHARE = 0.5  # of the scenes of T2V that I2V sees: their padded first frames cost another encoding


@dataclass(frozen=True)
class Hearing:
    """How often a model in training does not hear its video's caption: dropped, but the empty one; wrong, another's."""

    dropped: float = CAPTION_DROPOUT
    wrong: float = 0.0


DEAF = Hearing(dropped=0.35, wrong=0.22)  # teaches an I2V to ignore half of what it is told, the users' complaint


def build(image: bool) -> WanModel:
    """The host's module with the configuration that its UNETLoader infers from the file."""
    shape = CONFIG | {"in_dim": 36 if image else 16, "num_layers": LAYERS["I2V" if image else "T2V"]}
    return WanModel(**shape, device="cpu", dtype=torch.float32, operations=comfy.ops.disable_weight_init)


@torch.no_grad()
def initialise(model: WanModel, seed: int) -> None:
    """As Wan's own init_weights: Xavier for projections, 0.02 for text and time embeddings, a zero head."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            nn.init.xavier_uniform_(module.weight.flatten(1))
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm) and module.weight is not None:
            nn.init.ones_(module.weight)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
    for name, parameter in model.named_parameters():
        if "modulation" in name:
            parameter.normal_(0, model.dim**-0.5)
        elif name.startswith(("text_embedding", "time_embedding")) and parameter.ndim > 1:
            parameter.normal_(0, 0.02)
    nn.init.zeros_(model.head.head.weight)


def with_layers(weights: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Weights of a model of `count` blocks for those of another number. Added blocks are copies of the one before them
    with zeros for what they put out, so that the model answers as it did; of too many, evenly spaced ones stay."""
    blocks = 1 + max((int(key.split(".")[1]) for key in weights if key.startswith("blocks.")), default=-1)
    out = {key: value for key, value in weights.items() if not key.startswith("blocks.")}
    sources = [i * blocks // count for i in range(count)]
    for i, source in enumerate(sources):
        prefix, added = f"blocks.{source}.", source in sources[:i]
        for name, value in (
            (key.removeprefix(prefix), value) for key, value in weights.items() if key.startswith(prefix)
        ):
            out[f"blocks.{i}.{name}"] = torch.zeros_like(value) if added and name.startswith(BLOCK_OUTPUTS) else value
    return out


def from_t2v(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a T2V model for an I2V one: zeros for the mask and image channels."""
    embed = weights["patch_embedding.weight"]
    return weights | {
        "patch_embedding.weight": torch.cat((embed, embed.new_zeros(embed.shape[0], 20, *embed.shape[2:])), 1)
    }


def noise_levels(count: int, generator: torch.Generator) -> Tensor:
    """[count] noise levels, 0..1: the band's first, then the sampler's."""
    inside = round(BAND_SHARE * count)
    band, whole = (stratified(n, generator) for n in (inside, count - inside))
    normal = torch.special.ndtri(band.clamp(1e-4, 1 - 1e-4))
    return torch.cat(((BAND + normal).sigmoid(), shifted(whole, SHIFT)))


def caption_for(scene: Scene, rng: Random) -> str:
    """A caption to train on: true of `scene`, but that a relation, where one is named, is drawn at random."""
    named = replace(scene, relation=rng.choice(list(RELATIONS))) if scene.relation else scene
    return caption(named, rng, UNSAID, relation=rng.random() < RELATION_SAID)


def plain_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **options) -> Tensor:
    """softmax(q k^T / sqrt(d)) v in the tensors' own precision, [batch, tokens, heads x d] each."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    weights = (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


@contextmanager
def compiled(model: WanModel, wanted: bool):
    """Within, `model` is compiled, with plain attention: on a CPU a step takes 0.6 of its time, after half a minute of
    compiling."""
    if not wanted:
        yield
        return
    original, host_model.optimized_attention = host_model.optimized_attention, plain_attention
    model.compile(dynamic=False)
    try:
        yield
    finally:
        host_model.optimized_attention = original


def image_channels(image: Tensor) -> Tensor:
    """[batch, 4 + 16, time, height, width] of image latents: the mask of given frames, then the latents."""
    return torch.cat((given_mask(image), image), 1)


def captions_heard(captions: list[str], rng: Random, hearing: Hearing) -> list[str]:
    """For each video of a batch its caption, its neighbour's or the empty one, as `hearing` has it."""
    heard = []
    for i, own in enumerate(captions):
        chance = rng.random()
        if chance < hearing.dropped:
            heard.append("")
        elif chance < hearing.dropped + hearing.wrong:
            heard.append(captions[i - 1])
        else:
            heard.append(own)
    return heard


def make_loss(model: WanModel, clip, latents: Latents, plan: Plan, hearing: Hearing = Hearing()):
    """loss_of(step, progress) of `train`."""

    def loss_of(step: int, done: float) -> dict[str, Tensor]:
        if step % REFRESH_STEPS == 0:
            latents.refresh()
        rng = random_at(plan.seed, step, 11)
        scenes, batch = latents.batch(rng, plan.batch)
        text = mini_clip.encode_text(clip, captions_heard([caption_for(s, rng) for s in scenes], rng, hearing))
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        x0 = batch["latents"]
        noise = torch.randn(x0.shape, generator=generator)
        s = noise_levels(plan.batch, generator)
        x = noised(x0, noise, s)
        if "image" in batch:
            x = torch.cat((x, image_channels(batch["image"])), 1)
        with torch.autocast("cpu", torch.bfloat16):
            velocity = model(x, s * 1000, text)
        return weighted_losses(velocity_error(velocity, x0, noise), s, batch["cover"])

    return loss_of


def stored_as(key: str, weight: Tensor, eight_bits: bool) -> torch.dtype:
    """Matrices in bfloat16, or those of the blocks in float8_e4m3fn, as in many Wan files; vectors in float32."""
    if weight.ndim == 1:
        return torch.float32
    return torch.float8_e4m3fn if weight.ndim == 2 and key.startswith("blocks.") and eight_bits else torch.bfloat16


def export(weights: dict[str, Tensor], path: Path, metadata: dict[str, str], eight_bits: bool) -> None:
    """A file for UNETLoader, with the two facts it cannot infer."""
    transformer = {"num_heads": CONFIG["num_heads"], "text_dim": CONFIG["text_dim"]}
    save_weights(
        {k: v.to(stored_as(k, v, eight_bits)) for k, v in weights.items()},
        path,
        {"config": json.dumps({"transformer": transformer})} | metadata,
    )


def run(plan: Plan, out: Path, describe, start: Path | None = None, compile: bool = False) -> dict[str, float]:
    """Trains plan.name from random weights (I2V: from the T2V's, the deaf I2V: from the I2V's) or those of the file
    `start`, exports it to `out`, returns the held-out scores. ValueError if what it builds on is not there yet."""
    image, deaf = plan.name.startswith("mini-i2v"), plan.name == "mini-i2v-deaf"
    base = "mini_i2v" if deaf else "mini_t2v"
    needed = ["mini_vae", "mini_clip"] + [base] * image
    if absent := [name for name in needed if not (out / f"{name}.safetensors").exists()]:
        raise ValueError(
            f"{plan.name} builds on {', '.join(absent)}; train it first: python run.py train "
            f"{absent[0].replace('_', '-')}"
        )
    vae, clip = mini_vae.load(out / "mini_vae.safetensors"), mini_clip.load(out / "mini_clip.safetensors")
    folder = folder_of(plan.cache, vae, plan.seed)
    fill(folder, vae, plan.seed, plan.scenes, round(plan.scenes * (1.0 if deaf else IMAGE_SHARE)) if image else 0)
    if plan.name == "mini-latents":
        return {"scenes": plan.scenes}
    model = build(image)
    initialise(model, plan.seed)
    if image or start:
        source = start or out / f"{base}.safetensors"
        weights = load_file(source)
        weights = with_layers(weights if start or deaf else from_t2v(weights), len(model.blocks))
        require_fit(
            model, weights, source, f"Start from a {plan.name}." if start else f"Train {base.replace('_', '-')} anew."
        )
        model.load_state_dict(weights)
    latents = Latents(folder, plan.seed, image)
    path = out / f"{plan.name.replace('-', '_')}.safetensors"

    def finish(weights: dict[str, Tensor], state: State, clips: int = plan.held_out) -> dict[str, float]:
        export(weights, path, describe(state, {}), eight_bits=deaf or not image)
        scores = held_out_scores(
            path,
            out / "mini_vae.safetensors",
            clip,
            clips,
            cfg=1.0 if deaf else CFG,
            sheet=plan.cache / f"{plan.name}-samples.png",
        )
        export(weights, path, describe(state, scores | {"distinct_scenes": len(latents)}), eight_bits=deaf or not image)
        print(f"step {state.step}, {len(latents)} scenes:", scores, flush=True)
        return scores

    def glance(weights: dict[str, Tensor], state: State) -> None:
        finish(weights, state, min(plan.held_out, 48))

    with compiled(model, compile):
        weights, state = train(
            replace(plan),
            model,
            make_loss(model, clip, latents, plan, DEAF if deaf else Hearing()),
            glance if plan.export_minutes else None,
        )
    return finish(weights, state)
