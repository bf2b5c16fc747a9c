"""Captions: what is said is what is read, for every caption of the grammar."""

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_video.miniworld import caption as grammar
from semantic_video.miniworld.caption import caption, describe, object_captions, parse, phrase, words
from semantic_video.miniworld.scene import (
    BACKGROUNDS,
    COLOURS,
    DIAGONALS,
    MOTIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    Facts,
    ThingFacts,
    facts_of,
    sample_scenes,
)

MOVES = [(None, "", "")] + [(m, "", "") for m in MOTIONS if m not in ("diagonal", "change")]
MOVES += [("diagonal", d, "") for d in DIAGONALS] + [("change", "", c) for c in COLOURS]

looks = {
    "shape": st.sampled_from(SHAPES),
    "colour": st.sampled_from(list(COLOURS)),
    "size": st.sampled_from([None, *SIZES]),
}
subjects = st.builds(
    lambda move, **look: ThingFacts(**look, motion=move[0], heading=move[1], to_colour=move[2]),
    st.sampled_from(MOVES),
    **looks,
)
others = st.builds(ThingFacts, **looks)
grounds = st.sampled_from([None, *BACKGROUNDS])
everything = st.one_of(
    st.builds(lambda a, g: Facts((a,), None, g), subjects, grounds),
    st.builds(lambda a, b, r, g: Facts((a, b), r, g), subjects, others, st.sampled_from([None, *RELATIONS]), grounds),
)


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(everything, st.one_of(st.none(), st.integers(0, 10**6).map(Random)))
def test_round_trip(facts, rng):
    assert parse(describe(facts, rng)) == facts


def test_round_trip_of_every_frame_of_a_sentence():
    """All motions x one thing, two, and two with each relation x backgrounds, with sizes and without, plain and with
    synonyms."""
    rng = Random(0)
    for move, relation, ground, size in itertools.product(
        MOVES, ["alone", None, *RELATIONS], [None, *BACKGROUNDS], [None, *SIZES]
    ):
        subject = ThingFacts("circle", "orange", size, *move)
        facts = (
            Facts((subject,), None, ground)
            if relation == "alone"
            else Facts((subject, ThingFacts("cross", "cyan", size)), relation, ground)
        )
        assert parse(describe(facts)) == facts
        assert parse(describe(facts, rng)) == facts


def test_round_trip_of_every_noun_phrase():
    for size, colour, shape in itertools.product([None, *SIZES], COLOURS, SHAPES):
        thing = ThingFacts(shape, colour, size)
        assert {parse(phrase(thing, Random(i))) for i in range(12)} == {Facts((thing,))}


def test_no_word_means_two_things():
    tables = (
        grammar.SHAPE_WORDS,
        grammar.COLOUR_WORDS,
        grammar.SIZE_WORDS,
        grammar.BACKGROUND_WORDS,
        grammar.RELATION_WORDS,
        grammar.MOTION_WORDS,
    )
    for table in tables:
        said = [word for row in table.values() for word in row]
        assert len(said) == len(set(said))
    assert (set(grammar.SHAPE_WORDS), set(grammar.COLOUR_WORDS), set(grammar.SIZE_WORDS)) == (
        set(SHAPES),
        set(COLOURS),
        set(SIZES),
    )


def test_plain_captions_read_well():
    assert (
        describe(parse("a tiny crimson disc beneath a blue box drifts left"))
        == "a small red circle moves left below a blue square"
    )
    assert describe(
        parse("an orange plus slides right, to the left of a huge violet wedge against a grey background")
    ) == ("an orange cross moves right, left of a large purple triangle on a gray background")
    assert describe(parse("A red circle turns cyan.")) == "a red circle turns cyan"


@pytest.mark.parametrize(
    ("word", "relation"),
    [
        ("left of", "left of"),
        ("to the right of", "right of"),
        ("above", "above"),
        ("over", "above"),
        ("below", "below"),
        ("under", "below"),
        ("beneath", "below"),
    ],
)
def test_words_of_place_mean_what_they_mean(word, relation):
    assert parse(f"a red disc {word} a blue box").relation == relation


@pytest.mark.parametrize(
    ("does", "motion"),
    [
        ("drifts up", "up"),
        ("slides down", "down"),
        ("moves left", "left"),
        ("moves right", "right"),
        ("gets bigger", "grow"),
        ("contracts", "shrink"),
        ("flashes", "blink"),
        ("rests", "still"),
        ("moves diagonally down left", "diagonal"),
        ("becomes violet", "change"),
        ("circles around", "circle"),
    ],
)
def test_verbs_mean_what_they_mean(does, motion):
    subject = parse(f"a red disc {does}").things[0]
    assert (subject.motion, subject.heading, subject.to_colour) == (
        motion,
        "down left" if motion == "diagonal" else "",
        "purple" if motion == "change" else "",
    )


def test_captions_are_true_and_seeded():
    rng = Random(1)
    for i, scene in enumerate(sample_scenes(300, 4, "any")):
        truth = facts_of(scene)
        assert parse(caption(scene)) == parse(caption(scene, rng)) == truth
        assert caption(scene, i) == caption(scene, i)
        said = parse(caption(scene, rng, drop=0.5))
        assert said.background in (None, truth.background) and all(
            a.size in (None, b.size) for a, b in zip(said.things, truth.things, strict=True)
        )
        assert [parse(p).things[0].colour for p in object_captions(scene, rng)] == [t.colour for t in scene.things]


def test_the_vocabulary_is_complete():
    rng, known = Random(2), set(words())
    used = {w.strip(",") for s in sample_scenes(2000, 5, "any") for w in caption(s, rng, drop=0.3).split()}
    assert used == known


@pytest.mark.parametrize(
    "text",
    ["", "a circle", "a red dog moves left", "a red circle moves left below", "a red circle moves left moves right"],
)
def test_foreign_text_is_refused(text):
    with pytest.raises(ValueError, match="cannot read caption"):
        parse(text)


def test_facts_that_cannot_be_said_are_refused():
    a, b = ThingFacts("circle", "red"), ThingFacts("square", "blue", motion="left")
    for facts in (Facts((a, b), "above"), Facts((a,), "above"), Facts((a, b)), Facts((a, a, a))):
        with pytest.raises(ValueError, match="cannot say"):
            describe(facts)
