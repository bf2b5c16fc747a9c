"""Which words are kept, and which tokens they are, in pieces of both kinds of tokenizers."""

import pytest

from semantic_video.kernels.keywords import byte_letters, byte_level, extract, find, parse, piece_bytes

SPACE = "\u2581"


def pieces(*parts, byte_level=False):
    return [piece_bytes(part, byte_level) for part in parts]


def test_content_words_stay():
    text = (
        "The ginger cat on the wooden table slowly stands up, stretches and walks towards the sunlit window. The cat's "
        "tail is red."
    )
    assert extract(text) == [
        "ginger",
        "cat",
        "wooden",
        "table",
        "stands",
        "up",
        "stretches",
        "walks",
        "sunlit",
        "window",
        "cat's",
        "tail",
        "red",
    ]
    assert extract("A red square moves to the left.") == ["red", "square", "moves", "left"]
    assert extract("It is on it.") == []
    assert extract("") == []
    assert extract("A fly and 3 x 4 flies") == ["fly", "flies"], "short words in -ly are no adverbs"


def test_lists_as_people_write_them():
    assert parse(" cat, red ball\n\n, jumps ") == ["cat", "red ball", "jumps"]
    assert parse("") == []


def test_sentencepiece_words():
    line = pieces(
        SPACE + "A",
        SPACE + "gi",
        "nger",
        SPACE + "cat",
        ",",
        SPACE + "a",
        SPACE + "cat",
        "erpi",
        "llar",
        SPACE + "and",
        SPACE + "a",
        SPACE + "CAT",
        ".",
    )
    assert find(line, "cat") == [[3], [11]], "whole words, in any case"
    assert find(line, "Ginger") == [[1, 2]]
    assert find(line, "ginger cat") == [[1, 2, 3]]
    assert find(line, "caterpillar") == [[6, 7, 8]]
    assert find(line, "dog") == []
    assert find(line, "c.t") == [], "no patterns"


def test_byte_level_words():
    """GPT-2's letters: a space is U+0120, U+00E9 is two bytes."""
    line = pieces("A", "\u0120caf", "\u00c3\u00a9", "\u0120and", "\u0120tea", byte_level=True)
    assert b"".join(line).decode() == "A caf\u00e9 and tea"
    assert find(line, "caf\u00e9") == [[1, 2]]
    assert find(line, "CAF\u00c9") == [[1, 2]]
    assert find(line, "tea") == [[4]]


def test_letters_that_are_cut_into_bytes():
    """U+1F408, a cat, as four pieces in both kinds; the word behind it is still found."""
    assert find(pieces("<0xF0>", "<0x9F>", "<0x90>", "<0x88>", SPACE + "runs"), "\U0001f408") == [[0, 1, 2, 3]]
    assert find(pieces("<0xF0>", "<0x9F>", SPACE + "runs"), "runs") == [[2]], (
        "half a letter does not shift what follows"
    )
    line = pieces("\u00f0", "\u0141", "\u0132", "\u012a", "\u0120runs", byte_level=True)
    assert find(line, "runs") == [[4]]
    assert find(line, "\U0001f408") == [[0, 1, 2, 3]]


def test_languages_without_spaces():
    line = pieces(SPACE, "\u7ea2\u8272", "\u7684", "\u732b")
    assert find(line, "\u732b") == [[3]]
    assert find(line, "\u7ea2\u8272") == [[1]]


def test_accents_are_text_in_sentencepiece_and_bytes_in_bpe():
    assert piece_bytes("\u00e9", byte_level=False) == "\u00e9".encode()
    assert piece_bytes("\u00e9", byte_level=True) == b"\xe9"
    assert piece_bytes("<|im_start|>", byte_level=True) == b"<|im_start|>"
    assert byte_level(["a", "\u0120cat"]) and not byte_level(["a", SPACE + "cat"])


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_has_one_letter(byte):
    from semantic_video.kernels.keywords import BYTES

    letters = [letter for letter, value in BYTES.items() if value == byte]
    assert len(letters) == 1
    if 0x21 <= byte <= 0x7E:
        assert letters == [chr(byte)]


def test_directions_are_what_a_prompt_asks_for():
    """Image-to-video ignores motion first of all; "moves" without its direction would say half of it."""
    for direction in ("left", "right", "up", "down"):
        assert extract(f"A ball moves {direction}.") == ["ball", "moves", direction]


def test_the_letters_are_those_of_gpt_2():
    """Written out: bytes that print are themselves, the other 68 are U+0100 to U+0143 in order."""
    letters = byte_letters()
    hidden = [*range(0x00, 0x21), *range(0x7F, 0xA1), 0xAD]
    assert len(letters) == 256 and len(hidden) == 68
    assert [letters[chr(0x100 + i)] for i in range(68)] == hidden
    assert all(letters[chr(byte)] == byte for byte in range(256) if byte not in hidden)


def test_words_of_two_letters_and_short_ones_in_ly():
    assert extract("an ox, a fly, a lily, sadly") == ["ox", "fly", "lily"]
