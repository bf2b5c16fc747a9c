"""Prompt Timeline on HunyuanVideo: joint attention against one dense mask, the token refiner once per text."""

from functools import partial

import pytest
import torch

from semantic_video.harness.sampling import Shot, conditioning, sample
from semantic_video.host.editing import edit_attention
from semantic_video.kernels.swin_renderer import window_spans
from semantic_video.patches import swin_renderer
from semantic_video.patches.prompt_timeline import PromptTimeline, apply
from semantic_video.patches.swin_renderer import SwinRenderer
from semantic_video.tests.host import naive
from semantic_video.tests.host.timelines import OWNERS, WORDS, close, columns, timeline

IMAGE = {"hunyuan-1.5": 6}  # tokens of SigLIP's view in front of all text
QUOTED = {"hunyuan-1.5": 3}  # tokens of quoted words, for each span
REFERENCE = {"hunyuan-i2v": 4}  # tokens between text and video
AREA = {"hunyuan-1.5": 16}  # of a frame; else 4


def owner_of_tokens(toy: str) -> tuple[list, list]:
    """For each token of the joint sequence the span whose text it is, and the span whose video it is; else None."""
    texts = [None] * IMAGE.get(toy, 0)
    texts += [span for span in range(3) for _ in range(QUOTED.get(toy, 0))]
    texts += [span for span, count in enumerate(WORDS) for _ in range(count)]
    texts += [None] * REFERENCE.get(toy, 0)
    videos = [owner for owner in OWNERS for _ in range(AREA.get(toy, 4))]
    return texts + [None] * len(videos), [None] * len(texts) + videos


def bias_of(toy: str) -> torch.Tensor:
    texts, videos = owner_of_tokens(toy)
    allowed = torch.ones(len(texts), len(texts), dtype=torch.bool)
    for query in range(len(texts)):
        of = texts[query] if texts[query] is not None else videos[query]
        if of is None:
            continue  # image and reference tokens see everything
        for key in range(len(texts)):
            other_text = texts[key] is not None and texts[key] != of
            other_video = texts[query] is not None and videos[key] is not None and videos[key] != of
            allowed[query, key] = not (other_text or other_video)
    return torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf")).view(1, 1, *allowed.shape)


def windows_bias(toy: str, block: int, text: int) -> torch.Tensor:
    """Windows of four latent frames behind `text` tokens, shifted in odd blocks."""
    area, frames = AREA.get(toy, 4), len(OWNERS)
    allowed = torch.ones(text + frames * area, text + frames * area, dtype=torch.bool)
    allowed[text:, text:] = False
    for start, end in window_spans(frames, 4, shifted=block % 2 == 1):
        rows = slice(text + start * area, text + end * area)
        allowed[rows, rows] = True
    return torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf")).view(1, 1, *allowed.shape)


def reference_model(model, toy, monkeypatch, windows=False):
    """Of positive rows: attention with the dense mask. The refiner gets one text at a time where it gets them all."""
    timeline_bias = bias_of(toy)

    def edit(call, proceed):
        out, bias = proceed(call), timeline_bias
        if windows:
            whole = windows_bias(toy, call.site.block, call.before)
            out = naive.attention(call.q, call.k, call.v, whole).flatten(2).to(out)
            bias = bias + windows_bias(toy, call.site.block, timeline_bias.shape[-1] - len(OWNERS) * AREA.get(toy, 4))
        for row in call.positive_rows:
            q, k, v = (x[row : row + 1] for x in (call.q, call.k, call.v))
            mask = 0 if call.mask is None else call.mask
            out[row] = naive.attention(q, k, v, mask + bias).flatten(2).to(out)[0]
        return out

    refiner = model.model.diffusion_model.txt_in
    whole = refiner.forward

    def one_by_one(x, timesteps, mask, transformer_options):
        if x.shape[1] != sum(WORDS):
            return whole(x, timesteps, mask, transformer_options)
        out = whole(x, timesteps, mask, transformer_options)
        for row, chunk in enumerate(transformer_options["cond_or_uncond"]):
            for text in columns() if chunk == 0 else ():
                own = None if mask is None else mask[row : row + 1, text]
                out[row, text] = whole(x[row : row + 1, text], timesteps[row : row + 1], own, transformer_options)[0]
        return out

    monkeypatch.setattr(refiner, "forward", one_by_one)
    return edit_attention(model, "reference", edit, sites=("joint",))


@pytest.mark.parametrize(
    "toy, negative_words",  # CFG in two calls, and in one, in which the host fails with a reference
    [("hunyuan-t2v", 7), ("hunyuan-t2v", 18), ("hunyuan-i2v", 7), ("hunyuan-1.5", 7), ("hunyuan-1.5", 18)],
)
def test_it_is_attention_with_one_dense_mask(toys, toy, negative_words, monkeypatch):
    model, shot = toys(toy), Shot(toy, negative_words=negative_words)
    positive, negative = timeline(shot), conditioning(shot, shot.negative_words, 21)
    got = sample(apply(model, positive, PromptTimeline()), shot, positive=positive, negative=negative)
    plain = sample(model, shot, positive=positive, negative=negative)
    with monkeypatch.context() as patch:
        expected = sample(reference_model(model, toy, patch), shot, positive=positive, negative=negative)
    close(got, expected)
    assert not torch.allclose(got, plain, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("toy", ["hunyuan-t2v", "hunyuan-1.5"])
def test_in_windows_of_swin_renderer_in_either_order(toys, toy, monkeypatch):
    """Windows of four of nine frames, which no span fits: the windows' mask and the timeline's together."""
    model, shot = toys(toy), Shot(toy, steps=2)
    positive, swin = timeline(shot), SwinRenderer(window=4)
    monkeypatch.setattr(swin_renderer, "TIMELINE", "none")  # windows that do not follow the spans
    first = swin_renderer.apply(apply(model, positive, PromptTimeline()), swin)
    last = apply(swin_renderer.apply(model, swin), positive, PromptTimeline())
    a, b = (sample(one, shot, positive=positive) for one in (first, last))
    assert torch.equal(a, b)
    with monkeypatch.context() as patch:
        close(a, sample(reference_model(model, toy, patch, windows=True), shot, positive=positive))


def test_masked_words_stay_masked(toys, monkeypatch):
    """The second text's last two words are padding, which the host masks; its two others have no mask."""
    model, shot = toys("hunyuan-t2v"), Shot("hunyuan-t2v")
    texts = [conditioning(shot, count, seed)[0] for seed, count in enumerate(WORDS, start=30)]
    texts[1][1]["attention_mask"] = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0]])
    positive = timeline(shot)
    whole = timeline_with(shot, texts)
    assert whole[0][1]["attention_mask"].tolist() == [[1] * 12 + [0, 0] + [1] * 4]
    got = sample(apply(model, whole, PromptTimeline()), shot, positive=whole)
    unmasked = sample(apply(model, positive, PromptTimeline()), shot, positive=positive)
    with monkeypatch.context() as patch:
        expected = sample(reference_model(model, "hunyuan-t2v", patch), shot, positive=whole)
    close(got, expected)
    assert not torch.allclose(got, unmasked, rtol=1e-3, atol=1e-3)


def timeline_with(shot, texts):
    from semantic_video.patches.timeline_text import joined, spoken_span

    spans = [one.span for one in timeline(shot)[0][1]["semantic_video_spans"]]
    parts = [spoken_span([text], span) for text, span in zip(texts, spans)]
    return joined(joined(parts[0], parts[1]), parts[2])


def test_the_refiner_sees_one_text_at_a_time(toys):
    """What reaches the first block is what each text alone would send there."""
    model, shot = toys("hunyuan-t2v"), Shot("hunyuan-t2v", steps=1, cfg=1.0)
    positive = timeline(shot)
    refiner, seen = model.model.diffusion_model.txt_in, []
    handle = model.model.diffusion_model.double_blocks[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["txt"].clone()), with_kwargs=True
    )
    try:
        sample(apply(model, positive, PromptTimeline()), shot, positive=positive)
    finally:
        handle.remove()
    sigma = model.get_model_object("model_sampling").sigma_max
    time = model.get_model_object("model_sampling").timestep(sigma).reshape(1).float()
    alone = [refiner(positive[0][0][:, text], time, None, transformer_options={}) for text in columns()]
    close(seen[0], torch.cat(alone, 1))
    assert not refiner._forward_hooks  # nothing stays behind


def test_pooled_vectors_are_averaged(toys):
    shot = Shot("hunyuan-t2v")
    pooled = [conditioning(shot, 3, seed)[0][1]["pooled_output"] for seed in (30, 31, 32)]
    torch.testing.assert_close(timeline(shot)[0][1]["pooled_output"], torch.stack(pooled).mean(0))


def test_other_editors_see_whole_calls(toys):
    model, shot = toys("hunyuan-t2v"), Shot("hunyuan-t2v")
    positive, lengths = timeline(shot), set()

    def watch(call, proceed):
        lengths.add((call.q.shape[1], call.before, call.frames))
        return proceed(call)

    install = partial(edit_attention, name="watch", edit=watch, sites=("joint",))
    alone = sample(apply(model, positive, PromptTimeline()), shot, positive=positive)
    for both in (apply(install(model), positive, PromptTimeline()), install(apply(model, positive, PromptTimeline()))):
        assert torch.equal(sample(both, shot, positive=positive), alone)
    assert lengths == {(54, 18, None), (43, 7, None)}
