"""Texts of a timeline in one CONDITIONING: what is joined how, which keys are whose, and what is no prompt."""

from math import inf

import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.host.timeline import SPANS
from semantic_video.kernels.prompt_timeline import Span
from semantic_video.patches.timeline_text import GLYPHS, TAGS, Spoken, columns_of, encoded, joined, spoken_span

FIRST, SECOND, THIRD = Span(0, 1), Span(1, 2), Span(2, inf)


def cond(words, seed=0, dtype=torch.float32, **extras):
    return [[seeded(1, words, 4, seed=seed).to(dtype), extras]]


def test_a_span_remembers_its_words():
    [[text, extras]] = spoken_span(cond(5, **{GLYPHS: torch.zeros(1, 3, 8)}), FIRST)
    assert extras[SPANS] == (Spoken(FIRST, 5, 3),) and text.shape == (1, 5, 4)
    assert spoken_span(cond(5), SECOND)[0][1] == {SPANS: (Spoken(SECOND, 5, 0),)}


def test_texts_stand_one_behind_the_other():
    """In the first one's dtype; what is no text is the first one's, or the later one's where that has none."""
    one = spoken_span(cond(2, 1, torch.float16, note="a"), FIRST)
    two = spoken_span(cond(3, 2, note="b", more="c"), SECOND)
    [[text, extras]] = joined(joined(None, one), two)
    assert torch.equal(text, torch.cat((one[0][0], two[0][0].half()), 1))
    assert (extras["note"], extras["more"]) == ("a", "c")
    assert extras[SPANS] == (Spoken(FIRST, 2), Spoken(SECOND, 3))
    assert "pooled_output" not in extras and "attention_mask" not in extras and GLYPHS not in extras


def test_pooled_vectors_are_the_mean_over_spans():
    pooled = [seeded(1, 6, seed=i) for i in range(3)]
    parts = [spoken_span(cond(2, pooled_output=x), span) for x, span in zip(pooled, (FIRST, SECOND, THIRD))]
    whole = joined(joined(parts[0], parts[1]), parts[2])[0][1]["pooled_output"]
    torch.testing.assert_close(whole, torch.stack(pooled).mean(0))
    other = joined(parts[0], joined(parts[1], parts[2]))[0][1]["pooled_output"]
    torch.testing.assert_close(other, torch.stack(pooled).mean(0))
    half = [spoken_span(cond(2, pooled_output=x), FIRST) for x in (pooled[0].half(), pooled[1])]
    got = joined(*half)[0][1]["pooled_output"]
    assert torch.equal(got, ((pooled[0].half().float() + pooled[1]) / 2).half())
    for a, b, kept in ((None, pooled[1], None), (pooled[0], None, pooled[0])):
        out = joined(spoken_span(cond(2, pooled_output=a), FIRST), spoken_span(cond(2, pooled_output=b), SECOND))
        assert out[0][1]["pooled_output"] is kept
    lone = joined(spoken_span(cond(2), FIRST), spoken_span(cond(2, pooled_output=pooled[1]), SECOND))
    assert lone[0][1]["pooled_output"] is pooled[1]


def test_masks_tags_and_quoted_words():
    mask, tags, quoted = torch.tensor([[1, 0]]), torch.tensor([0, 1]), seeded(1, 2, 8)
    one = spoken_span(cond(2, attention_mask=mask, **{TAGS: tags, GLYPHS: quoted}), FIRST)
    two = spoken_span(cond(3, **{TAGS: torch.tensor([1, 1, 0]), GLYPHS: quoted[:, :1]}), SECOND)
    extras = joined(one, two)[0][1]
    assert extras["attention_mask"].tolist() == [[1, 0, 1, 1, 1]]
    assert extras[TAGS].tolist() == [0, 1, 1, 1, 0]
    assert torch.equal(extras[GLYPHS], torch.cat((quoted, quoted[:, :1]), 1))
    assert [one.glyphs for one in extras[SPANS]] == [2, 1]
    extras = joined(two, one)[0][1]
    assert extras["attention_mask"].tolist() == [[1, 1, 1, 1, 0]]
    bare = spoken_span(cond(4), THIRD)
    extras = joined(one, bare)[0][1]
    assert extras[TAGS] is tags and torch.equal(extras[GLYPHS], quoted)
    assert joined(bare, one)[0][1][TAGS] is tags


def test_which_keys_are_whose():
    plain = (Spoken(FIRST, 2), Spoken(SECOND, 3))
    assert columns_of(plain, 0, 0, 5) == [(slice(0, 2),), (slice(2, 5),)]
    assert columns_of(plain, 4, 0, 11) == [(slice(4, 6),), (slice(6, 9),)], "two words were added"
    quoting = (Spoken(FIRST, 2, 1), Spoken(SECOND, 3, 0), Spoken(THIRD, 1, 2))
    assert columns_of(quoting, 4, 3, 13) == [
        (slice(4, 5), slice(7, 9)),
        (slice(5, 5), slice(9, 12)),
        (slice(5, 7), slice(12, 13)),
    ]
    assert columns_of(quoting, 0, 0, 6) == [(slice(0, 2),), (slice(2, 5),), (slice(5, 6),)], "a pass without them"
    assert len(columns_of(quoting, 0, 5, 11)) == 3, "quoted words that were added"


@pytest.mark.parametrize(("image", "quoted", "text", "seen"), [(0, 0, 4, 4), (4, 0, 8, 4), (0, 2, 6, 4), (0, 1, 9, 8)])
def test_texts_that_are_not_all_there(image, quoted, text, seen):
    spoken = (Spoken(FIRST, 2, 1), Spoken(SECOND, 3, 1))
    message = f"^Prompt Timeline: the model sees {seen} text tokens, but the timeline's spans have 5. A node behind"
    with pytest.raises(RuntimeError, match=message):
        columns_of(spoken, image, quoted, text)


@pytest.mark.parametrize(
    ("conditioning", "message"),
    [
        (cond(2) * 2, "span 1-2 holds 2 prompts"),
        ([], "span 1-2 holds 0 prompts"),
        ([["words", {}]], r"span 1-2 holds no text \(words\)"),
        ([[torch.zeros(2, 4), {}]], r"span 1-2 holds no text \(\(2, 4\)\)"),
        ([[torch.zeros(1, 0, 4), {}]], r"span 1-2 holds no text \(\(1, 0, 4\)\)"),
        ([[torch.full((1, 2, 4), torch.inf), {}]], "span 1-2 contains NaN or infinite values"),
        (cond(2, hooks=1, area=2), "span 1-2 has area, hooks, which would be set for all spans"),
        (spoken_span(cond(2), FIRST), "span 1-2 is a timeline already. Connect it to 'timeline' instead"),
    ],
)
def test_what_is_no_span(conditioning, message):
    with pytest.raises(ValueError, match=f"^conditioning: {message}"):
        spoken_span(conditioning, SECOND)


@pytest.mark.parametrize("shape", [(1, 3, 5), (2, 3, 4)])
def test_spans_of_another_encoder(shape):
    later = spoken_span([[torch.zeros(shape), {}]], SECOND)
    message = (
        f"^conditioning: span 1-2 has features of shape .{shape[0]}, 3, {shape[2]}., the timeline .1, 2, 4.. Encode"
    )
    with pytest.raises(ValueError, match=message):
        joined(spoken_span(cond(2), FIRST), later)


def test_each_text_is_encoded_alone():
    class Clip:
        def tokenize(self, text):
            return text.split()

        def encode_from_tokens_scheduled(self, tokens):
            return [[torch.tensor([[[float(len(word))] for word in tokens]]), {}]]

    [[text, extras]] = encoded(Clip(), [Span(0, 1, "a cat"), Span(1, inf, "it jumps far")])
    assert text.flatten().tolist() == [1, 3, 2, 5, 3]
    assert [(one.span.text, one.tokens) for one in extras[SPANS]] == [("a cat", 2), ("it jumps far", 3)]
