"""Prompt Timeline on MiniMax H3 and LTX: masked attention over texts that the model has refined one by one."""

import pytest
import torch

from semantic_video.harness.sampling import Shot, conditioning, sample
from semantic_video.harness.toy import NEWER
from semantic_video.host.editing import edit_attention
from semantic_video.host.timeline import SPANS
from semantic_video.patches import swin_renderer
from semantic_video.patches.prompt_timeline import PromptTimeline, apply
from semantic_video.patches.swin_renderer import SwinRenderer
from semantic_video.tests.host.test_swin_timeline import reference as windows_reference
from semantic_video.tests.host.timelines import WORDS, close, timeline

# fps and the span of each latent frame: its middle in seconds against borders of 0.6 and 1.3
H3 = {name: (16.0, [0, 0, 0, 1, 1, 1, 1, 2, 2]) for name in ("h3", "h3-both") if name in NEWER}
LTX = dict.fromkeys(("ltxv-guides", "ltxv", "ltxav23"), (32.0, [0, 0, 0, 1, 1, 1, 2, 2, 2]))
ALL = H3 | LTX
UNPROCESSED = "unprocessed_ltxav_embeds"


def refined(model, conditioning):
    """As the host takes it when each text has been through its refiner or connector alone; and tokens of each."""
    [[text, extra]] = conditioning
    module, extra = model.model.diffusion_model, {key: value for key, value in extra.items() if key != SPANS}
    options = {"unprocessed": True} if extra.pop(UNPROCESSED, False) else {}
    texts = text.split(WORDS, 1)
    if hasattr(module, "preprocess_text_embeds"):
        texts = [module.preprocess_text_embeds(one, **options) for one in texts]
    return [[torch.cat(texts, 1), extra]], [one.shape[1] for one in texts]


def reference(model, owners, words):
    """A frame sees the text of its span; on joint attention that text sees itself and the span's frames, besides all
    that is neither text nor video."""
    texts = torch.tensor([span for span, count in enumerate(words) for _ in range(count)])

    def edit(call, proceed):
        layout = call.forward.layout
        area = layout.height * layout.width
        video = torch.tensor(owners).repeat_interleave(area)
        queries, keys = (torch.full((x.shape[1],), -1) for x in (call.q, call.k))
        queries[call.before : call.before + len(video)] = video
        keys[: len(texts)] = texts
        allowed = (queries[:, None] == keys) | (queries < 0)[:, None] | (keys < 0)
        if call.site.kind == "joint":
            allowed[: len(texts), : len(texts)] = texts[:, None] == texts
            allowed[: len(texts), call.before : call.before + len(video)] = texts[:, None] == video
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)[None, None].to(call.q)
        return proceed(call.replace(mask=mask if call.mask is None else mask + call.mask))

    return edit_attention(model, "texts", edit, sites=("text", "joint"))


@pytest.mark.parametrize("name", ALL)
def test_each_frame_sees_its_text_alone(toys, name):
    (fps, owners), model, shot = ALL[name], toys(name), Shot(name, cfg=1.0, steps=1)
    positive = timeline(shot)
    before = sample(model, shot, positive=positive)
    got = sample(apply(model, positive, PromptTimeline(fps)), shot, positive=positive)
    alone, words = refined(model, positive)
    close(got, sample(reference(model, owners, words), shot, positive=alone))
    assert not torch.allclose(got, before, rtol=1e-2, atol=1e-2)
    assert torch.equal(before, sample(model, shot, positive=positive)), "the model itself refines as ever"


@pytest.mark.parametrize("name", [name for name in ("h3", "ltxv") if name in ALL])
def test_windows_follow_the_spans(toys, name):
    """In either order; each window sees one frame before it."""
    (fps, owners), model, shot = ALL[name], toys(name), Shot(name, cfg=1.0, steps=1)
    positive = timeline(shot)
    cuts = [0, *(i for i in range(1, 9) if owners[i] != owners[i - 1]), 9]
    told = apply(model, positive, PromptTimeline(fps))
    got = sample(swin_renderer.apply(told, SwinRenderer()), shot, positive=positive)
    alone, words = refined(model, positive)
    expected = windows_reference(reference(model, owners, words), list(zip(cuts, cuts[1:])))
    close(got, sample(expected, shot, positive=alone))
    other = apply(swin_renderer.apply(model, SwinRenderer()), positive, PromptTimeline(fps))
    assert torch.equal(got, sample(other, shot, positive=positive))


@pytest.mark.parametrize("name", [name for name in ("h3", "ltxav23") if name in ALL])
def test_with_a_negative_prompt(toys, name):
    """Which is no timeline, and sees what it always saw."""
    fps, model, shot = ALL[name][0], toys(name), Shot(name, cfg=3.0, steps=1)
    positive = timeline(shot)
    got = sample(apply(model, positive, PromptTimeline(fps)), shot, positive=positive)
    one = shot.but(cfg=1.0)
    alone = sample(apply(model, positive, PromptTimeline(fps)), one, positive=positive)
    other = sample(model, one, positive=conditioning(shot, shot.negative_words, 21))
    close(got, other + 3.0 * (alone - other))
