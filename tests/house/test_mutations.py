"""The list of mutations stays true: each stands in its file, breaks only behaviour, and names tests that there are."""

import ast
import os
from pathlib import Path

import pytest

from semantic_video.cli import mutation_forks
from semantic_video.cli.mutate import ROOT, changed_lines, main, read_list, score, verdict
from semantic_video.cli.mutation_sample import draw, interval, own_tests, wilson

LISTED = read_list([])


@pytest.mark.parametrize("mutation", LISTED, ids=lambda m: f"{Path(m.file).stem}: {m.why}")
def test_each_stands_in_its_file(mutation):
    whole = (ROOT / mutation.file).read_text(encoding="utf-8")
    ast.parse(whole.replace(mutation.old, mutation.new))
    assert mutation.old != mutation.new
    assert mutation.tests
    for test in mutation.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8") or not name, test


def test_a_word_chooses():
    assert {m.file for m in read_list(["strength", "VAP"])} == {"patches/video_prompt.py"}
    listed = read_list(["mutations/families.py"])
    assert {"kernels/swin_sound.py", "host/refiner.py"} <= {m.file for m in listed} and len(listed) < len(LISTED) / 2
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


def test_a_sample_is_the_same_for_one_seed():
    names = [f"x_{i}" for i in range(50)]
    drawn = draw(names, 8, seed=3)
    assert drawn == draw(reversed(names), 8, seed=3) and drawn != draw(names, 8, seed=4)
    assert len(set(drawn)) == 8 and set(drawn) <= set(names)
    assert draw(names, 80, seed=3) == sorted(names)
    with pytest.raises(ValueError, match="mutate --sample 0: must be at least 1"):
        draw(names, 0, seed=3)


def test_a_sample_draws_each_alike():
    """Of 2,000 seeds, each of 10 names is in a sample of 3 about 600 times (deviation 20)."""
    counts = dict.fromkeys(range(10), 0)
    for seed in range(2000):
        for name in draw(range(10), 3, seed):
            counts[name] += 1
    assert sum(counts.values()) == 6000
    assert all(520 <= count <= 680 for count in counts.values())


@pytest.mark.parametrize("killed, size", [(0, 10), (5, 10), (9, 10), (10, 10), (81, 263), (36, 40)])
def test_the_interval_solves_wilsons_equation(killed, size):
    """Its ends are the shares p of which |killed / size - p| is 1.96 standard deviations of p."""
    for p in wilson(killed, size):
        assert size * (killed / size - p) ** 2 == pytest.approx(1.959964**2 * p * (1 - p), abs=1e-9)
    low, high = wilson(killed, size)
    assert 0 <= low <= killed / size <= high + 1e-12 <= 1 + 1e-12 and low < high


def test_intervals_that_are_known():
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I, method 3
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)  # the same
    assert interval(15, 148) == "95 % interval 6.2% to 16.0%"  # the same: 0.0624 to 0.1605
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_tests_of_a_file():
    host = "tests/host/test_"
    assert own_tests("patches/alg.py") == [f"{host}{name}.py" for name in ("adherence", "alg", "limits")]
    assert "tests/kernels/test_video_prompt.py" in own_tests("patches/video_prompt_keys.py")
    assert own_tests("patches/queries.py") == [f"{host}dymos.py", f"{host}queries.py", f"{host}text_contrast.py"]
    assert own_tests("patches/clip_mask.py") == [f"{host}clip_mask.py", f"{host}clip_mask_values.py"]
    assert own_tests("kernels/alg.py") == ["tests/kernels/test_alg.py"]
    assert own_tests("kernels/steps.py") == ["tests/kernels"]
    for file in sorted((ROOT / "patches").glob("[!_]*.py")):
        tests = own_tests(f"patches/{file.name}")
        assert tests != ["tests/host"] and all((ROOT / test).is_file() for test in tests), file.name


@pytest.mark.parametrize(
    ("with_it", "without", "verdict"),
    [
        ((0, ""), [], ("survived", "")),
        ((1, "t::a"), [0], ("killed", "t::a")),
        ((1, "t::a"), [1], ("unclear", "t::a")),  # a test that fails anyway
        ((1, "t::a"), [None], ("unclear", "t::a")),
        ((2, "t"), [], ("unclear", "t")),  # cannot be collected
        ((5, ""), [], ("unclear", "")),  # no test
        ((-11, ""), [], ("unclear", "")),
        ((None, ""), [0], ("killed", "time")),
        ((None, ""), [None], ("unclear", "time")),  # tests that take long anyway
    ],
)
def test_a_mutation_is_killed_by_what_passes_without_it(monkeypatch, with_it, without, verdict):
    asked, answers = [], iter(without)

    def forked(mutation, tests, seconds):
        asked.append((mutation, tests, seconds))
        return with_it if mutation else (next(answers), "")

    monkeypatch.setattr(mutation_forks, "forked", forked)
    assert mutation_forks.verdict_of("m", ["t", "u"]) == verdict
    again = [("", ["t::a"] if with_it[1] else ["t", "u"], mutation_forks.SECONDS // 2)] * len(without)
    assert asked == [("m", ["t", "u"], mutation_forks.SECONDS), *again]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_says_which_test_failed(tmp_path, monkeypatch):
    """A function that a mutation, named in the environment, breaks; quick tests come before those that sample."""
    (tmp_path / "test_it.py").write_text(
        "import os\nimport pytest\n\n@pytest.fixture\ndef toys():\n    return 1\n\n"
        "def test_model(toys):\n    assert os.environ['MUTANT_UNDER_TEST'] != 'broken'\n\n"
        "def test_quick():\n    assert os.environ['MUTANT_UNDER_TEST'] != 'broken'\n"
    )
    monkeypatch.chdir(tmp_path)
    assert mutation_forks.forked("broken", ["test_it.py"], 60) == (1, "test_it.py::test_quick")
    assert mutation_forks.forked("", ["test_it.py"], 60) == (0, "")
    assert mutation_forks.verdict_of("broken", ["test_it.py"]) == ("killed", "test_it.py::test_quick")
