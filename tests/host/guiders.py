"""Conditionings that are told apart by their text, and every guider of the host over them."""

import comfy.samplers
import torch
from comfy_extras import nodes_custom_sampler as guiders
from comfy_extras.nodes_perpneg import Guider_PerpNeg

from semantic_video.harness.sampling import Shot, conditioning, seeded

CONDS = {"positive": 20, "negative": 21, "middle": 22, "empty": 23}  # seeds


def cond(name, words=7, **changes):
    [[text, extra]] = conditioning(Shot("wan-t2v"), words, CONDS[name])
    return [[text, extra | changes]]


def run(guider, steps=1, frames=9, height=4, width=4, channels=16):
    noise = seeded(1, channels, frames, height, width, seed=1)
    sigmas = comfy.samplers.calculate_sigmas(guider.model_patcher.get_model_object("model_sampling"), "simple", steps)
    return guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, seed=1)


def named_rows(forward):
    """(name, row) of each batch row, the name by the text it carries."""
    context, words = forward.arguments["context"], forward.layout.text
    names = {name: conditioning(Shot("wan-t2v"), words, seed)[0][0] for name, seed in CONDS.items()}
    return {
        (next(name for name, text in names.items() if torch.equal(text[0], row)), kind)
        for row, kind in zip(context, forward.rows, strict=True)
    }


def cfg_guider(model, words):
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(cond("positive"), cond("negative", words))
    guider.set_cfg(3.0)
    return guider


def basic_guider(model, words):
    guider = guiders.Guider_Basic(model)
    guider.set_conds(cond("positive"))
    return guider


def dual_cfg_guider(model, words, nested=False):
    guider = guiders.Guider_DualCFG(model)
    guider.set_conds(cond("positive"), cond("middle", words), cond("negative", words))
    guider.set_cfg(3.0, 2.0, nested)
    return guider


def dual_model_guider(model, words):
    guider = guiders.Guider_DualModel(model, model.clone())
    guider.set_conds(cond("positive"), cond("negative", words))
    guider.set_cfg(3.0)
    return guider


def perp_neg_guider(model, words):
    guider = Guider_PerpNeg(model)
    guider.set_conds(cond("positive"), cond("negative", words), cond("empty", words))
    guider.set_cfg(3.0, 1.0)
    return guider


TWO = {("positive", 0), ("negative", 1)}


def at(name, node, *where):
    return node().append(cond(name), *where, 1.0)[0]
