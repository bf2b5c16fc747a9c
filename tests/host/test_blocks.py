"""Lists of blocks as people write them."""

import pytest

from semantic_video.patches.blocks import blocks_of, parse_blocks, write_blocks


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("", set()),
        (" , ,", set()),
        ("0", {0}),
        ("9", {9}),
        ("0-3,8", {0, 1, 2, 3, 8}),
        (" 2 - 4 , 4-5,0 ", {0, 2, 3, 4, 5}),
        ("3-3", {3}),
        ("0-9", set(range(10))),
    ],
)
def test_what_is_read(text, blocks):
    assert parse_blocks(text, 10) == blocks_of("blocks", text, 10) == blocks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,x", "'x' is not a block or a range of blocks. Write numbers and ranges such as 0-3,38."),
        ("1 2", "'1 2' is not a block"),
        ("-1", "'-1' is not a block"),
        ("1-2-3", "'1-2-3' is not a block"),
        ("10", "'10' is out of range: this model has blocks 0 to 9, and a range runs upwards."),
        ("8-10", "'8-10' is out of range"),
        ("3-2", "'3-2' is out of range"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(ValueError) as refused:
        parse_blocks(text, 10)
    assert str(refused.value).startswith(message)
    with pytest.raises(ValueError) as named:
        blocks_of("weak", text, 10)
    assert str(named.value) == f"weak: {refused.value}"


def test_what_is_written_is_read():
    assert write_blocks([0, 2, 3, 4, 9]) == "0,2-4,9"
    assert parse_blocks(write_blocks([7, 1, 2]), 10) == {1, 2, 7}
