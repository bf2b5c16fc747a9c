"""Words of a prompt as tokens and as keys, with a vocabulary written out."""

from types import SimpleNamespace

import pytest

from semantic_video.host.text_tokens import PromptTokens
from semantic_video.patches.prompt_words import keyword_tokens, text_columns, text_keys, video_tokens, word_tokens

SPACED = ("\u2581a", "\u2581red", "\u2581ba", "ll", "\u2581and", "\u2581a", "\u2581ball", "</s>")  # SentencePiece
BYTES = ("a", "\u0120red", "\u0120ba", "ll", "\u0120and", "\u0120a", "\u0120ball", "<|end|>")  # GPT-2's


def tokens_of(pieces, first=9):
    return PromptTokens(tuple(range(len(pieces))), pieces, frozenset(pieces), first, 0, len(pieces), None)


@pytest.mark.parametrize("pieces", [SPACED, BYTES], ids=["SentencePiece", "bytes"])
def test_all_places_of_a_word(pieces):
    tokens = tokens_of(pieces)
    assert word_tokens("words", tokens, ["ball", "red ball", "A"]) == [[2, 3, 6], [1, 2, 3], [0, 5]]
    with pytest.raises(
        ValueError, match=r"^words: 'dog' does not stand in the prompt \(\"a red ball and a ball"
    ) as refused:
        word_tokens("words", tokens, ["ball", "dog"])
    end = pieces[-1]
    said = (
        f"words: 'dog' does not stand in the prompt (\"a red ball and a ball{end}\"). Write words as they stand there."
    )
    assert str(refused.value) == said


def test_letters_cut_in_two_are_shown_as_unknown():
    """A prompt that ends within a letter of two bytes."""
    with pytest.raises(ValueError) as refused:
        word_tokens("words", tokens_of(("\u2581it", "<0xC3>")), ["dog"])
    assert '("it\ufffd")' in str(refused.value)


def test_keywords_given_and_found():
    tokens = tokens_of(SPACED)
    assert keyword_tokens(tokens, "a red ball and a ball", []) == [1, 2, 3, 6]
    assert keyword_tokens(tokens, "a red ball and a ball", ["and", "red"]) == [1, 4]
    with pytest.raises(ValueError, match='^keywords: none given, and none found in "and a". Write words of the prompt'):
        keyword_tokens(tokens, "and a", [])
    with pytest.raises(ValueError, match="^keywords: 'dog' does not stand in the prompt"):
        keyword_tokens(tokens, "a red ball and a ball", ["dog"])


def call_of(kind, queries=30, keys=12, before=9, after=4, references=2):
    size = SimpleNamespace
    forward = size(layout=size(before=references))
    tensors = {"q": size(shape=(1, queries)), "k": size(shape=(1, keys))}
    return size(**tensors, site=size(kind=kind), before=before, after=after, forward=forward)


def test_keys_and_queries_of_a_call():
    assert text_keys(call_of("text")) == 12 and text_keys(call_of("joint")) == 7
    tokens = tokens_of(SPACED, first=7)
    assert text_columns(call_of("text"), tokens, [0, 3]) == [5, 8]
    assert text_columns(call_of("joint"), tokens, [0, 3]) == [0, 3]
    assert video_tokens(call_of("text")) == slice(9, 26) and video_tokens(call_of("text", before=0, after=0)) == slice(
        0, 30
    )
