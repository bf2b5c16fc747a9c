"""The list of mutations stays true: each stands in its file, breaks only behaviour, and names tests that there are."""

import ast
from pathlib import Path

import pytest

from semantic_video.cli.mutate import ROOT, changed_lines, main, read_list, score, verdict

LISTED = read_list([])


@pytest.mark.parametrize("mutation", LISTED, ids=lambda m: f"{Path(m.file).stem}: {m.why}")
def test_each_stands_in_its_file(mutation):
    whole = (ROOT / mutation.file).read_text(encoding="utf-8")
    ast.parse(whole.replace(mutation.old, mutation.new))
    assert mutation.old != mutation.new
    assert mutation.tests and all((ROOT / test.partition("::")[0]).exists() for test in mutation.tests)


def test_a_word_chooses():
    assert {m.file for m in read_list(["strength", "VAP"])} == {"patches/video_prompt.py"}
    with pytest.raises(ValueError, match="mutate list nonsense: none such"):
        read_list(["nonsense"])


def test_rooms_that_are_none():
    for name in ("kernel", "../elsewhere"):
        with pytest.raises(ValueError, match=f"mutate {name}: no such room or file"):
            main([name])


def test_what_is_printed():
    from collections import Counter

    assert [verdict(code) for code in (1, 0, 36, 33, None)] == [
        "killed",
        "survived",
        "killed",
        "no test reaches",
        "unclear",
    ]
    assert score("x.py", Counter(killed=3, survived=1)) == "x.py: 75.0% killed (3 killed, 1 survived)"
    assert changed_lines("--- a\n+++ b\n@@ -1 +1 @@\n same\n-old\n+new") == "-old\n+new"
