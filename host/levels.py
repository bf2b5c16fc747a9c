"""Single passes of a model at chosen noise levels, outside a sampler's run but in its surroundings: loading,
conditioning, inpainting masks, context windows and every patch act as they do when sampling.
"""

from collections.abc import Callable

import comfy.model_management
import comfy.sample
import comfy.samplers
import torch
from comfy.sampler_helpers import prepare_mask
from torch import Tensor

from .own_windows import taking_steps_together

Predict = Callable[[str], Tensor]  # name of a conditioning -> denoised latent [1, channels, frames, height, width]
Visit = Callable[[Predict, Tensor, int], None]  # predict, noised latent, index of the level


class OneAtATime(comfy.samplers.CFGGuider):
    """A guider that predicts with one conditioning at a time, by name."""

    name = ""

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        conds = [self.conds[self.name]]
        return comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options or {})[0]


def visit_levels(model, conds: dict[str, list], latent: dict, levels: list[float], visit: Visit, seed: int = 0) -> None:
    """Calls `visit` at each of `levels`, fractions of the schedule (0 = first step), with the LATENT noised to there.

    Of an empty latent (zeros) the first level's noise is all there is, and each further level starts from what the
    first conditioning predicted at the one before: a short run of its own. Of a batch the first video is taken.
    """
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"])[:1]
    sampling = model.get_model_object("model_sampling")
    sigmas = torch.tensor([float(sampling.percent_to_sigma(level)) for level in levels] + [0.0])
    noise = comfy.sample.prepare_noise(samples, seed)
    mask = latent.get("noise_mask")
    video, video_mask = (x.unbind()[0] if getattr(x, "is_nested", False) else x for x in (samples, mask))
    free = video if mask is None else video * prepare_mask(video_mask, video.shape, video.device)
    follow = not free.any()  # a start image may stand where the mask is 0

    def walk(denoiser, x, sigmas, extra_args=None, callback=None, disable=None, **_):
        clean = denoiser.latent_image
        for i, sigma in enumerate(sigmas[:-1]):
            comfy.model_management.throw_exception_if_processing_interrupted()
            noised = sampling.noise_scaling(sigma, denoiser.noise, clean)
            last = {}

            def predict(name: str, noised=noised, sigma=sigma, last=last) -> Tensor:
                guider.name = name
                out = denoiser(noised, sigma * noised.new_ones(len(noised)), **(extra_args or {}))
                last.setdefault("denoised", out)
                return out

            visit(predict, noised, i)
            if follow and last:
                clean = last["denoised"]
        return x

    guider = OneAtATime(taking_steps_together(model))
    guider.inner_set_conds(conds)
    sampler = comfy.samplers.KSAMPLER(walk)
    guider.sample(noise, samples, sampler, sigmas, denoise_mask=mask, disable_pbar=True, seed=seed)
