"""Mini VAE: the host's Wan 2.1 VAE at width 16, trained on rendered scenes.

Two phases (our choice): the whole autoencoder, crops first and whole frames later; then its latents are shifted and
scaled to the statistics the host assumes of Wan latents, the encoder is frozen (so that the DiTs can start on these
latents), and the decoder goes on alone.

    loss = mean(w |x' - x|) + mean(w (x' - x)^2) + beta KL(q(z|x), N(0, 1))        w: objects count more than background
"""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from comfy.latent_formats import Wan21
from comfy.ldm.wan.vae import Resample, ResidualBlock, RMS_norm, WanVAE
from safetensors.torch import load_file
from torch import Tensor, nn

from ..host.weights import save_weights
from ..miniworld.caption import caption
from ..miniworld.oracle import judge
from ..miniworld.render import render
from ..miniworld.scene import sample_scenes
from ..training.loop import train
from ..training.plan import Plan, State, random_at
from .data import video_batch

WIDTH = 16
KL_WEIGHT = 5e-4
ENCODER_SHARE = 0.6  # of the time, for the phase in which the encoder learns too
LATENT_NOISE = 0.05  # in the second phase, relative to the latents' deviation: samplers are not exact


def build(width: int = WIDTH) -> WanVAE:
    """The host's module with the configuration its VAELoader infers."""
    return WanVAE(
        dim=width,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
    )


class Normalise(torch.autograd.Function):
    """x / |x| over channels (dim 1), times gain: the host's RMS_norm with its own backward pass, which saves a quarter
    of a step on a CPU."""

    @staticmethod
    def forward(ctx, x: Tensor, gain: Tensor) -> Tensor:
        inverse = x.float().square().sum(1, keepdim=True).add_(1e-12).rsqrt_().to(x.dtype)
        unit = x * inverse
        ctx.save_for_backward(unit, inverse, gain)
        return unit * gain

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        unit, inverse, gain = ctx.saved_tensors
        of_gain = (grad * unit).sum([i for i in range(grad.ndim) if i != 1]).view_as(gain)
        of_unit = grad * gain
        return (of_unit - unit * (of_unit * unit).sum(1, keepdim=True)) * inverse, of_gain


@contextmanager
def quick_norms():
    """The host's norms are `Normalise` within."""
    original, RMS_norm.forward = (
        RMS_norm.forward,
        lambda self, x: Normalise.apply(x, self.gamma.to(x.dtype) * self.scale),
    )
    try:
        yield
    finally:
        RMS_norm.forward = original


@torch.no_grad()
def initialise(vae: WanVAE, seed: int) -> None:
    """Weights that treat a video as separate pictures at first: the earlier temporal taps start at zero, up- and
    downsampling in time start as repetition and mean, residual branches start small."""
    torch.manual_seed(seed)
    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            taps = module.weight[0, 0, -1] if module.weight.ndim == 5 else module.weight[0, 0]
            nn.init.normal_(module.weight, 0, (module.weight.shape[1] * taps.numel()) ** -0.5)
            nn.init.zeros_(module.bias)
            if module.weight.ndim == 5 and module.weight.shape[2] == 3:
                module.weight[:, :, :2] = 0
    for module in vae.modules():
        if isinstance(module, ResidualBlock):
            module.residual[-1].weight.mul_(0.3)
        elif isinstance(module, Resample) and hasattr(module, "time_conv"):
            weight = module.time_conv.weight.zero_()
            same = torch.eye(weight.shape[1])
            if module.mode == "upsample3d":
                weight[:, :, 2] = same.repeat(2, 1)[..., None, None]
            else:
                weight[:, :, 1:] = 0.5 * same[..., None, None, None].expand(-1, -1, 2, 1, 1)
    for head in (vae.encoder.head[2], vae.decoder.head[2]):
        head.weight.mul_(0.7)
    vae.conv1.bias[16:] = -3  # the noise of the latents starts small


def encode(vae: WanVAE, video: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance of the latents of video [batch, 3, time, height, width], -1..1. The host's own encode drops
    the variance."""
    caught = {}
    hook = vae.conv1.register_forward_hook(lambda module, args, out: caught.update(out=out))
    try:
        mean = vae.encode(video)
    finally:
        hook.remove()
    return mean, caught["out"].chunk(2, 1)[1].clamp(-12, 6)


def reconstruction_loss(out: Tensor, video: Tensor, weight: Tensor) -> Tensor:
    error = out.float() - video
    return ((error.abs() + error.square()) * weight).sum() / weight.sum() / 3


def schedule(rng, phase: str, done: float, batch: int) -> tuple[int, int, int]:
    """(videos, frames, side) of a batch: pictures first, then videos. Without long ones colours drift after the frames
    seen in training."""
    if phase == "encoder" and done < 0.15:
        return 4 * batch, 1, 32
    short, long = (
        [(batch, 5, 32), (batch // 4, 5, 64)],
        [(batch // 2, 21, 32), (batch // 4, 13, 64), (batch // 8, 21, 64)],
    )
    choices = [*short, *long] if phase == "encoder" and done < 0.5 else [(4 * batch, 1, 32), short[0], *long, long[0]]
    count, frames, side = rng.choice(choices)
    return max(count, 1), frames, side


def make_loss(vae: WanVAE, plan: Plan, phase: str):
    """loss_of(step, progress) of `train`."""
    deviation = Wan21().latents_std

    def loss_of(step: int, done: float) -> dict[str, Tensor]:
        rng = random_at(plan.seed, step, len(phase))
        batch = video_batch(rng, *schedule(rng, phase, done, plan.batch))
        with torch.autocast("cpu", torch.bfloat16), quick_norms():
            if phase == "encoder":
                mean, log_variance = (x.float() for x in encode(vae, batch.video))
                kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
                out = vae.decode(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
            else:
                with torch.no_grad():
                    mean = vae.encode(batch.video)
                kl = torch.zeros(())
                out = vae.decode(mean + LATENT_NOISE * rng.random() * deviation * torch.randn_like(mean))
        fit = reconstruction_loss(out, batch.video, batch.weight)
        return {"loss": fit + KL_WEIGHT * kl, "fit": fit, "kl": kl}

    return loss_of


@torch.no_grad()
def latent_statistics(vae: WanVAE, seed: int = 1, clips: int = 64) -> tuple[Tensor, Tensor]:
    """Mean and deviation [16] of the latents of training scenes. Channels that carry little keep their small
    deviation."""
    latents = (
        torch.cat([vae.encode(video) for video in _videos(sample_scenes(clips, seed), 8)]).transpose(0, 1).flatten(1)
    )
    deviation = latents.std(1)
    return latents.mean(1), deviation.clamp(min=0.3 * deviation.max())


@torch.no_grad()
def fold_statistics(vae: WanVAE, mean: Tensor, deviation: Tensor) -> None:
    """Moves latents of this mean and deviation [16] to those the host assumes, inside the 1x1x1 convolutions around
    them; what the VAE does to pictures is unchanged."""
    host_mean, host_deviation = (x.flatten() for x in (Wan21().latents_mean, Wan21().latents_std))
    gain = host_deviation / deviation
    vae.conv1.weight[:16] *= gain.view(-1, 1, 1, 1, 1)
    vae.conv1.bias[:16] = (vae.conv1.bias[:16] - mean) * gain + host_mean
    weight = vae.conv2.weight.clone()
    vae.conv2.weight.copy_(weight / gain.view(1, -1, 1, 1, 1))
    vae.conv2.bias += weight[:, :, 0, 0, 0] @ (mean - host_mean / gain)


def _videos(scenes, batch: int, frames: int = 21):
    for i in range(0, len(scenes), batch):
        yield render(scenes[i : i + batch], frames).frames.movedim(-1, 1) * 2 - 1


@torch.no_grad()
def held_out_scores(vae: WanVAE, clips: int = 200) -> dict[str, float]:
    """PSNR in dB of whole 21-frame videos of held-out scenes: mean over videos, the 5th percentile, and over the
    objects' pixels alone; and the share of objects that the oracle still reads, a bound on what a model that
    works in these latents can show."""
    scores, objects, legible = [], [], []
    scenes = sample_scenes(clips, 1234, "heldout")
    for i, video in enumerate(_videos(scenes, 8)):
        decoded = vae.decode(vae.encode(video)).clamp(-1, 1)
        legible += [
            judge(frames, caption(scene))["object"]
            for scene, frames in zip(scenes[8 * i :], (decoded.movedim(1, -1) + 1) / 2)
        ]
        error = (decoded - video).div(2).square().mean(1)
        mask = render(scenes[8 * i : 8 * i + 8]).masks.amax(1)
        scores.append(-10 * error.flatten(1).mean(1).log10())
        objects.append((error * mask).flatten(1).sum(1) / mask.flatten(1).sum(1))
    scores = torch.cat(scores)
    return {
        "clips": clips,
        "psnr_db": round(float(scores.mean()), 2),
        "psnr_db_p5": round(float(scores.quantile(0.05)), 2),
        "psnr_db_objects": round(float(-10 * torch.cat(objects).mean().log10()), 2),
        "object": round(sum(legible) / clips, 3),
    }


def export(weights: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Half precision file for VAELoader."""
    save_weights({k: v.half() for k, v in weights.items()}, path, metadata)


def load(path: Path) -> WanVAE:
    """A frozen VAE from an exported file."""
    weights = load_file(path)
    vae = build(weights["decoder.head.0.gamma"].shape[0])
    vae.load_state_dict({k: v.float() for k, v in weights.items()})
    return vae.eval().requires_grad_(False)


def run(plan: Plan, out: Path, describe, width: int = WIDTH) -> dict[str, float]:
    """Trains, exports to out/mini_vae.safetensors, returns the held-out scores. describe(state, scores) makes the
    file's metadata."""
    vae = build(width)
    initialise(vae, plan.seed)
    path = out / "mini_vae.safetensors"

    def phase(share: float, name: str) -> Plan:
        return replace(
            plan,
            name=f"{plan.name}-{name}",
            minutes=plan.minutes and plan.minutes * share,
            steps=plan.steps and round(plan.steps * share),
        )

    def finish(weights: dict[str, Tensor], state: State, clips: int = min(plan.held_out, 48)) -> dict[str, float]:
        done = build(width)
        done.load_state_dict(weights)
        scores = held_out_scores(done.eval(), clips)
        export(weights, path, describe(state, scores))
        return scores

    weights, state = train(phase(ENCODER_SHARE, "encoder"), vae, make_loss(vae, plan, "encoder"))
    vae.load_state_dict(weights)
    fold_statistics(vae, *latent_statistics(vae, clips=min(plan.held_out, 64)))
    print("after the encoder phase:", finish(vae.state_dict(), state), flush=True)
    vae.encoder.requires_grad_(False)
    vae.conv1.requires_grad_(False)
    decoder = replace(phase(1 - ENCODER_SHARE, "decoder"), rate=plan.rate / 2)
    weights, last = train(decoder, vae, make_loss(vae, plan, "decoder"), finish if plan.export_minutes else None)
    return finish(weights, State(state.step + last.step, state.seconds + last.seconds), plan.held_out)
