"""The one loss of everything that is trained beside a frozen MODEL: kernels/flow_matching.py with noise levels, x_s,
conditionings and the prediction asked of the host for that very model, through its `apply_model` and all its patches.

    s = sigma of the model's own schedule at stratified uniform fractions of it

What is trained is so what is sampled: a model of another shift, or one patched by ModelSamplingSD3, is trained on the
noise levels that its sampler will visit. Changed in 0.2.0: experts of users' own backbones were trained at shift 8
whatever the backbone's, past `apply_model`; and the SSG Adapter's trainings on MiniWorld weighted objects by
1 + 3 (1 - s), the mini experts and DiTs by today's formula. Folders of users' videos know no objects: their losses are
as before.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, autocast

from ..host.families import family_of
from ..host.frozen_model import batch_groups, cat_conds, denoised, sigmas_at
from ..kernels.flow_matching import denoised_error, stratified, weighted_losses
from .parallel import processes, share


@dataclass(frozen=True)
class Batch:
    """latents: as the model sees them, [n, channels, frames, height, width]; conds: of each video (`model_conds`);
    cover: 1 where an object is, [n, 1, frames, height, width], or None; options: more transformer options, each with a
    row for each video."""

    latents: Tensor
    conds: list[dict]
    cover: Tensor | None = None
    options: dict[str, Tensor] = field(default_factory=dict)


def noise_levels(model, count: int, generator: torch.Generator) -> Tensor:
    """[count] noise levels of MODEL, from high to low."""
    return sigmas_at(model.get_model_object("model_sampling"), stratified(count, generator))


def losses(model, batch: Batch, seed: int, dtype: torch.dtype | None = torch.bfloat16) -> dict[str, Tensor]:
    """ "loss" of one batch and, where objects are known, "objects". seed: of noise and its levels; dtype: of autocast,
    None for none. In one of several processes, its part of them: their mean over all processes is that of the batch."""
    x0, sampling = batch.latents, model.get_model_object("model_sampling")
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(x0.shape, generator=generator).to(x0)
    sigma = noise_levels(model, len(x0), generator).to(x0)
    x = sampling.noise_scaling(sigma, noise, x0)
    sound = family_of(model).silence(x0)  # noised as the video is
    if sound is not None:
        sound = sampling.noise_scaling(sigma, torch.randn(sound.shape, generator=generator).to(x0), sound)
    error, mine = x0.new_zeros(len(x0), 1, *x0.shape[2:]), share(len(x0))
    for group in batch_groups([batch.conds[i] for i in mine]):
        rows = [mine[i] for i in group]
        conds = cat_conds([batch.conds[i] for i in rows], x.device)
        options = {name: value[rows] for name, value in batch.options.items()}
        heard = None if sound is None else sound[rows]
        with autocast(x.device.type, dtype, enabled=dtype is not None):
            predicted = denoised(model, x[rows], sigma[rows], conds, options, heard)
        error[rows] = denoised_error(predicted, x0[rows], sigma[rows])
    return {name: value * processes() for name, value in weighted_losses(error, sigma, batch.cover).items()}
