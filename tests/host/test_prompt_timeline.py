"""Prompt Timeline on Wan's text attention: the host's own, once per text, of which each frame takes its own."""

import logging
from math import inf

import pytest
import torch

from semantic_video.harness.sampling import Shot, conditioning, sample
from semantic_video.harness.toy import STRAIGHT, TOYS
from semantic_video.host.editing import edit_attention
from semantic_video.host.schedule import Interval
from semantic_video.host.timeline import TIMELINE
from semantic_video.kernels.prompt_timeline import Span
from semantic_video.patches.prompt_timeline import PromptTimeline, apply
from semantic_video.patches.timeline_text import joined, spoken_span
from semantic_video.tests.host import naive
from semantic_video.tests.host.timelines import BORDERS, OWNERS, WORDS, close, each_frames_own_text, timeline


def formula(kind, q, k, v, options):
    if kind != "text":
        return naive.attention(q, k, v)
    out = naive.attention(q, k, v)
    if k.shape[1] == sum(WORDS):
        for row, chunk in enumerate(options["cond_or_uncond"]):
            if chunk == 0:
                one = slice(row, row + 1)
                out[one] = each_frames_own_text(q[one], k[one], v[one], OWNERS)
    return out


@pytest.mark.parametrize("negative_words", [7, sum(WORDS)])  # CFG in two calls, and in one
@pytest.mark.parametrize("toy", ["wan-t2v", "wan-i2v-clip", "wan-5b", "wan-vace"])
def test_each_frame_sees_its_text_alone(toys, toy, negative_words, monkeypatch):
    model, shot = toys(toy), Shot(toy, negative_words=negative_words)
    positive = timeline(shot)
    got = sample(apply(model, positive, PromptTimeline()), shot, positive=positive)
    naive.in_wan(monkeypatch, formula)
    close(got, sample(model, shot, positive=positive))


def test_one_span_is_an_ordinary_prompt(toys):
    for toy in STRAIGHT:
        model, shot = toys(toy), Shot(toy)
        positive = spoken_span(conditioning(shot, shot.words, 20), Span(0, inf))
        assert torch.equal(
            sample(apply(model, positive, PromptTimeline()), shot, positive=positive), sample(model, shot)
        )


@pytest.mark.parametrize("toy", TOYS)
def test_strength_zero_is_the_host(toys, toy):
    model, shot = toys(toy), Shot(toy)
    positive = timeline(shot)
    patched = apply(model, positive, PromptTimeline(strength=0.0))
    assert patched is model
    assert torch.equal(sample(patched, shot, positive=positive), sample(model, shot, positive=positive))


@pytest.mark.parametrize("toy", [name for name in TOYS if name.startswith("wan")])
def test_a_timeline_of_one_text_is_that_text(toys, toy):
    """Three spans that say the same; references see it three times, and a softmax over copies is that over one."""
    model, shot = toys(toy), Shot(toy)
    spans = [Span(a, b) for a, b in ((0, 0.6), (0.6, 1.3), (1.3, inf))]
    positive = None
    for span in spans:
        positive = joined(positive, spoken_span(conditioning(shot, 7, 20), span))
    assert positive[0][0].shape[1] == 21
    close(sample(apply(model, positive, PromptTimeline()), shot, positive=positive), sample(model, shot))


def test_the_parent_stays_and_the_interval_counts(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    positive = timeline(shot)
    before = sample(model, shot, positive=positive)
    patched = apply(model, positive, PromptTimeline())
    assert not torch.allclose(sample(patched, shot, positive=positive), before, rtol=1e-2, atol=1e-2)
    assert torch.equal(before, sample(model, shot, positive=positive))
    late = apply(model, positive, PromptTimeline(interval=Interval(0.999, 1.0)))
    assert torch.equal(before, sample(late, shot, positive=positive))


def test_the_model_knows_its_cuts(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    patched = apply(model, timeline(shot), PromptTimeline())
    assert patched.model_options["transformer_options"][TIMELINE] == (3, 6)
    assert TIMELINE not in model.model_options["transformer_options"]
    slow = apply(model, timeline(shot, borders=(0.01, 0.6, 0.61), words=(3, 3, 3, 3)), PromptTimeline(fps=4.0))
    assert slow.model_options["transformer_options"][TIMELINE] == (1,)  # the first frame's middle is 1/8 s, then 3/4 s


def test_a_hand_over_blends_outputs(toys, monkeypatch):
    """A quarter of a second around 0.6: the frame at 0.6875 is of the second span by 0.85."""
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=1, cfg=1.0)
    positive = timeline(shot, words=(6, 8), borders=(0.6,))

    def blended(kind, q, k, v, options):
        if kind != "text":
            return naive.attention(q, k, v)
        a, b = (naive.attention(q, k[:, one], v[:, one]) for one in (slice(0, 6), slice(6, 14)))
        share = torch.tensor([0.0, 0, 0, 0.85, 1, 1, 1, 1, 1]).repeat_interleave(4).view(1, -1, 1, 1)
        return a + share * (b - a)

    got = sample(apply(model, positive, PromptTimeline(hand_over=0.25)), shot, positive=positive)
    naive.in_wan(monkeypatch, blended)
    close(got, sample(model, shot, positive=positive))


def test_strength_blends_with_all_texts(toys, monkeypatch):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=1, cfg=1.0)
    positive = timeline(shot)

    def half(kind, q, k, v, options):
        whole = naive.attention(q, k, v)
        return (whole + each_frames_own_text(q, k, v, OWNERS)) / 2 if kind == "text" else whole

    got = sample(apply(model, positive, PromptTimeline(strength=0.5)), shot, positive=positive)
    naive.in_wan(monkeypatch, half)
    close(got, sample(model, shot, positive=positive))


def test_tokens_outside_the_video_see_all_texts(toys, monkeypatch):
    """A reference token row in front, in-context frames behind."""
    for toy, front in (("wan-reference", 4), ("wan-in-context", 0), ("wan-phantom", 0)):
        model, shot = toys(toy), Shot(toy, steps=1, cfg=1.0)
        positive = timeline(shot)
        got = sample(apply(model, positive, PromptTimeline()), shot, positive=positive)

        def formula(kind, q, k, v, options, front=front):
            return each_frames_own_text(q, k, v, OWNERS, front) if kind == "text" else naive.attention(q, k, v)

        with monkeypatch.context() as patch:
            naive.in_wan(patch, formula)
            close(got, sample(model, shot, positive=positive))


def test_text_that_conditioning_concat_adds_is_seen_by_all(toys, monkeypatch):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=1, cfg=1.0)
    [[text, extras]] = timeline(shot, words=(6, 8), borders=(0.6,))
    positive = [[torch.cat((text, conditioning(shot, 5, 40)[0][0]), 1), extras]]
    got = sample(apply(model, positive, PromptTimeline()), shot, positive=positive)

    def shared(kind, q, k, v, options):
        out = naive.attention(q, k, v)
        for own, frames in (((0, 6), slice(0, 12)), ((6, 14), slice(12, 36))) if kind == "text" else ():
            seen = [*range(*own), *range(14, 19)]
            out[:, frames] = naive.attention(q[:, frames], k[:, seen], v[:, seen])
        return out

    naive.in_wan(monkeypatch, shared)
    close(got, sample(model, shot, positive=positive))


def test_it_stacks_with_others_in_both_orders(toys):
    """An editor that needs whole calls runs outside, a foreign override inside."""
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    positive, lengths, foreign = timeline(shot), set(), set()

    def watch(call, proceed):
        lengths.add(call.q.shape[1])
        return proceed(call)

    def override(func, q, k, v, *args, **kwargs):
        foreign.add((q.shape[1], k.shape[1]))
        return func(q, k, v, *args, **kwargs)

    alone = sample(apply(model, positive, PromptTimeline()), shot, positive=positive)
    watched = edit_attention(model, "watch", watch, sites=("text",))
    for both in (
        apply(watched, positive, PromptTimeline()),
        edit_attention(apply(model, positive, PromptTimeline()), "watch", watch, sites=("text",)),
    ):
        both.model_options["transformer_options"]["optimized_attention_override"] = override
        assert torch.equal(sample(both, shot, positive=positive), alone)
    assert lengths == {36}
    assert {(12, words) for words in WORDS} <= foreign


@pytest.mark.parametrize(
    "spans, message",
    [
        (((0, 0.6), (0.6, 1.0)), "span 0.6-1: is the last, but the video's 33 frames last 2.0625 s at 16 fps"),
        (((0, 0.6), (0.8, inf)), "spans 0-0.6 and 0.8-: nothing is said"),
    ],
)
def test_spans_that_do_not_fit_the_video_are_refused(toys, spans, message):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    positive = None
    for number, span in enumerate(spans):
        positive = joined(positive, spoken_span(conditioning(shot, 5, number), Span(*span)))
    with pytest.raises(ValueError, match=message):
        sample(apply(model, positive, PromptTimeline()), shot, positive=positive)


def test_what_has_no_effect_is_said_once(toys, caplog):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    positive = timeline(shot, borders=(0.6, 5.0))
    with caplog.at_level(logging.WARNING):
        sample(apply(model, positive, PromptTimeline()), shot, positive=positive)
        sample(apply(model, positive, PromptTimeline()), shot)
    late, absent = [record.message for record in caplog.records]
    assert "span 5- has no latent frame of this video, whose 33 frames last 2.0625 s" in late
    assert "no conditioning of this run has a timeline" in absent


def test_borders_are_those_of_the_helpers():
    middles = [1 / 32, *(3 / 16 + i / 4 for i in range(8))]
    assert [sum(middle >= border for border in BORDERS) for middle in middles] == OWNERS
