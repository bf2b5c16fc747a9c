"""Captions: a small grammar with synonyms that says facts in English, and reads them back.

    caption := [place ","] thing [does] [relation thing] [place]
             | [place ","] thing relation thing does [place]
             | [place ","] thing [does] "," thing [place]
    thing   := article [size] colour shape
    place   := "on a white background"

As in "a small red circle moves left below a blue square", "a tiny crimson disc beneath a blue box drifts left" and
"a small red circle moves left, a blue square".

`describe` says exactly the facts it is given and `parse` is its inverse: parse(describe(facts)) == facts.
"""

import re
from dataclasses import replace
from random import Random

from .scene import BACKGROUNDS, COLOURS, DIAGONALS, Facts, Scene, ThingFacts, facts_of

# The first word of each row is the plain one, used where no seed is given.
SHAPE_WORDS = {
    "circle": ("circle", "disc", "ball"),
    "square": ("square", "box"),
    "triangle": ("triangle", "wedge"),
    "cross": ("cross", "plus"),
}
COLOUR_WORDS = {c: (c,) for c in COLOURS} | {
    "red": ("red", "crimson"),
    "cyan": ("cyan", "turquoise"),
    "purple": ("purple", "violet"),
}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
BACKGROUND_WORDS = {b: (b,) for b in BACKGROUNDS} | {"gray": ("gray", "grey")}
RELATION_WORDS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
}
MOTION_WORDS = {
    "still": ("stays still", "does not move", "rests"),
    **{d: tuple(f"{verb} {d}" for verb in ("moves", "slides", "drifts")) for d in ("left", "right", "up", "down")},
    **{d: tuple(f"{verb} diagonally {d}" for verb in ("moves", "slides", "drifts")) for d in DIAGONALS},
    "circle": ("moves in a circle", "circles around", "goes round and round"),
    "grow": ("grows", "gets bigger", "expands"),
    "shrink": ("shrinks", "gets smaller", "contracts"),
    "blink": ("blinks", "flashes", "turns on and off"),
    **{
        f"change {c}": tuple(f"{verb} {word}" for word in words for verb in ("turns", "becomes", "changes colour to"))
        for c, words in COLOUR_WORDS.items()
    },
}
PLACE_WORDS = ("on a {} background", "against a {} background")


def words() -> list[str]:
    """Every word of the grammar, sorted, without punctuation."""
    tables = (SHAPE_WORDS, COLOUR_WORDS, SIZE_WORDS, BACKGROUND_WORDS, RELATION_WORDS, MOTION_WORDS)
    phrases = (
        [p for table in tables for row in table.values() for p in row] + [p.format("") for p in PLACE_WORDS] + ["an"]
    )
    return sorted({w for p in phrases for w in p.split()})


def phrase(thing: ThingFacts, rng: Random | None = None) -> str:
    """A noun phrase, "a small red circle": the words by which an object finds its region. rng None: the plain words."""
    said = [_pick(SIZE_WORDS[thing.size], rng)] if thing.size else []
    said += [_pick(COLOUR_WORDS[thing.colour], rng), _pick(SHAPE_WORDS[thing.shape], rng)]
    return " ".join(["an" if said[0][0] in "aeiou" else "a", *said])


def doing(thing: ThingFacts, rng: Random | None = None) -> str:
    """What a thing does, "moves left"; "" where that is not said."""
    if not thing.motion:
        return ""
    change = f"change {thing.to_colour}" if thing.motion == "change" else thing.motion
    return _pick(MOTION_WORDS[thing.heading or change], rng)


def place_of(facts: Facts, rng: Random | None = None) -> str:
    """Where it is, "on a white background"; "" where that is not said."""
    return _pick(PLACE_WORDS, rng).format(_pick(BACKGROUND_WORDS[facts.background], rng)) if facts.background else ""


def describe(facts: Facts, rng: Random | None = None) -> str:
    """A caption that says exactly `facts`; rng draws synonyms and word order, None takes the plain ones.

    ValueError if there is not one thing without a relation, or two, or if a motion is asked of the second, of which the
    grammar says none.
    """
    if not (len(facts.things) == 1 and not facts.relation or len(facts.things) == 2 and not facts.things[1].motion):
        raise ValueError(f"cannot say {facts}; give one thing without a relation, or two and no motion of the second")
    subject = facts.things[0]
    does = doing(subject, rng)
    second = phrase(facts.things[1], rng) if len(facts.things) == 2 else ""
    related = f"{_pick(RELATION_WORDS[facts.relation], rng)} {second}" if facts.relation else second
    place = place_of(facts, rng)
    # "moves left left of" would not read
    comma = second and not facts.relation or does and facts.relation in ("left of", "right of")
    orders = [[phrase(subject, rng), does, "," * bool(comma), related]] + [
        [phrase(subject, rng), related, does]
    ] * bool(facts.relation and does)
    said = _pick(orders, rng) + [place]
    if place and rng and rng.random() < 0.25:
        said = [place, ",", *said[:-1]]
    return " ".join(filter(None, said)).replace(" ,", ",")


def caption(
    scene: Scene, seed: int | Random | None = None, drop: float = 0.0, motion: bool = True, relation: bool = True
) -> str:
    """A full caption of `scene`. seed None: plain words; drop: chance (needs a seed) that a size or the background goes
    unsaid; motion False: what the subject does goes unsaid, as where a reference clip is to show it; relation False:
    where it is to the other object goes unsaid."""
    rng = Random(seed) if isinstance(seed, int) else seed
    facts = facts_of(scene)
    if not relation:
        facts = replace(facts, relation=None)
    if not motion:
        facts = replace(
            facts, things=(replace(facts.things[0], motion=None, heading="", to_colour=""), *facts.things[1:])
        )
    if rng and drop:
        things = tuple(replace(t, size=None if rng.random() < drop else t.size) for t in facts.things)
        facts = replace(facts, things=things, background=None if rng.random() < drop else facts.background)
    return describe(facts, rng)


def object_captions(scene: Scene, seed: int | Random | None = None) -> list[str]:
    """One noun phrase per object, in the order of the renderer's masks."""
    rng = Random(seed) if isinstance(seed, int) else seed
    return [phrase(t, rng) for t in facts_of(scene).things]


def parse(text: str) -> Facts:
    """The facts a caption or noun phrase of the grammar says; what it leaves unsaid is None. ValueError on any other
    text."""
    match = _CAPTION.fullmatch(" ".join(text.lower().split()).rstrip("."))
    if not match:
        raise ValueError(
            f"cannot read caption {text!r}; write for example 'a small red circle moves left below a blue square'"
        )
    said = {name: value for name, value in match.groupdict().items() if value}

    def get(table: str, *names: str) -> str | None:
        return next((_INVERSE[table][said[n]] for n in names if n in said), None)

    motion, heading, to_colour = get("motion", "does", "does_last"), "", ""
    if motion in DIAGONALS:
        motion, heading = "diagonal", motion
    elif motion and motion.startswith("change "):
        motion, to_colour = motion.split()
    things = [
        ThingFacts(get("shape", "shape"), get("colour", "colour"), get("size", "size"), motion, heading, to_colour)
    ]
    if other := next((p for p in ("other_", "second_") if p + "shape" in said), None):
        things.append(
            ThingFacts(get("shape", other + "shape"), get("colour", other + "colour"), get("size", other + "size"))
        )
    return Facts(tuple(things), get("relation", "relation"), get("background", "place", "place_last"))


def _pick(options, rng: Random | None):
    return rng.choice(options) if rng else options[0]


def _any(table: str, name: str) -> str:
    """A named regular expression group of every word in the table."""
    return f"(?P<{name}>{'|'.join(map(re.escape, sorted(_INVERSE[table], key=len, reverse=True)))})"


_TABLES = {
    "shape": SHAPE_WORDS,
    "colour": COLOUR_WORDS,
    "size": SIZE_WORDS,
    "background": BACKGROUND_WORDS,
    "relation": RELATION_WORDS,
    "motion": MOTION_WORDS,
}
_INVERSE = {name: {word: key for key, row in table.items() for word in row} for name, table in _TABLES.items()}


def _thing_pattern(prefix: str) -> str:
    size, colour, shape = (_any(name, prefix + name) for name in ("size", "colour", "shape"))
    return f"an? (?:{size} )?{colour} {shape}"


def _place_pattern(name: str) -> str:
    return "(?:on|against) a " + _any("background", name) + " background"


_CAPTION = re.compile(
    f"(?:{_place_pattern('place')}, )?{_thing_pattern('')}(?: {_any('motion', 'does')})?"
    f"(?:,? {_any('relation', 'relation')} {_thing_pattern('other_')}(?: {_any('motion', 'does_last')})?"
    f"|, {_thing_pattern('second_')})?"
    f"(?: {_place_pattern('place_last')})?"
)
