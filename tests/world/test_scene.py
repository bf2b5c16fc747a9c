"""Scenes: the same from the same seed, splits apart in combinations, relations true and alone true in every frame."""

import itertools
import math

import pytest

from semantic_video.miniworld.caption import caption
from semantic_video.miniworld.render import render
from semantic_video.miniworld.scene import (
    COLOURS,
    DOMINANCE,
    GRID,
    MOTIONS,
    PHASES,
    RELATIONS,
    SHAPES,
    TRAVEL,
    held_out_relation,
    held_out_thing,
    is_held_out,
    sample_pair,
    sample_scene,
    sample_scenes,
)


def combinations(scene):
    """The combinations a split is decided by."""
    found = {(t.colour, t.shape, t.motion) for t in scene.things}
    return found | {(scene.things[0].colour, scene.relation, scene.things[1].colour)} if scene.relation else found


def test_a_seed_is_a_scene():
    assert sample_scenes(20, 3) == sample_scenes(20, 3)
    assert sample_scenes(20, 3) != sample_scenes(20, 4)
    # in every process and version
    assert caption(sample_scene(0)) == "a small purple cross moves down on a brown background"
    assert (
        caption(sample_scene(1, "heldout", 2))
        == "a large yellow cross grows, right of a small cyan cross on a brown background"
    )


def test_places_and_paths_are_few():
    things = [t for scene in sample_scenes(1200, 8, "any") for t in scene.things]
    assert all((GRID * t.x).is_integer() and (GRID * t.y).is_integer() and t.speed == TRAVEL for t in things)
    turns = {PHASES * t.phase / (2 * math.pi) for t in things if t.motion == "circle"}
    assert len(turns) == PHASES and all(abs(turn - round(turn)) < 1e-9 for turn in turns)
    assert len({(t.x, t.y) for t in things}) > 100


def test_splits_share_no_combination():
    seen = set().union(*map(combinations, sample_scenes(1500, 0, "train")))
    for scene in sample_scenes(400, 1, "heldout"):
        assert is_held_out(scene)
        assert combinations(scene) - seen
    assert not any(is_held_out(s) for s in sample_scenes(300, 2, "train"))


def test_training_still_sees_every_pair_of_words():
    triples = [t for t in itertools.product(COLOURS, SHAPES, MOTIONS) if not held_out_thing(*t)]
    assert 0.78 < len(triples) / (len(COLOURS) * len(SHAPES) * len(MOTIONS)) < 0.82
    for i, j in ((0, 1), (0, 2), (1, 2)):
        words = (COLOURS, SHAPES, MOTIONS)
        assert len({(t[i], t[j]) for t in triples}) == len(words[i]) * len(words[j])
    related = [t for t in itertools.product(COLOURS, RELATIONS, COLOURS) if t[0] != t[2] and not held_out_relation(*t)]
    assert len({t[:2] for t in related}) == len(COLOURS) * len(RELATIONS)
    assert len({(t[0], t[2]) for t in related}) == len(COLOURS) * (len(COLOURS) - 1)


@pytest.mark.parametrize("frames", [21, 84])
def test_one_relation_and_only_one_is_true_in_every_frame(frames):
    scenes = sample_scenes(150, 5, "any", (2,))
    truth = render(scenes, frames, size=8)
    for scene, centres, boxes in zip(scenes, truth.centres, truth.boxes, strict=True):
        offset = centres[0] - centres[1]
        sx, sy = RELATIONS[scene.relation]
        along, across = offset[:, 0] * sx + offset[:, 1] * sy, (offset[:, 0] * sy).abs() + (offset[:, 1] * sx).abs()
        assert (along >= DOMINANCE * across - 1e-5).all()
        a, b = boxes
        on = truth.visible[scenes.index(scene), 0]
        near, far = (a, b) if sx + sy < 0 else (b, a)
        axis = 0 if sx else 1
        assert (far[on, axis] - near[on, axis + 2] > 0.04).all()


@pytest.mark.parametrize(
    ("relation", "axis", "first"),
    [("left of", 0, True), ("right of", 0, False), ("above", 1, True), ("below", 1, False)],
)
def test_relations_mean_what_they_mean_on_the_screen(relation, axis, first):
    """Read from pixels: the column, or the row counted from the top, where each object's mask lies."""
    masks = render([sample_scene(4, "any", 2, "still", relation)], 1).masks[0, :, 0]
    subject, other = (m.nonzero()[:, 1 - axis].float().mean() for m in masks)
    assert (subject < other) == first


@pytest.mark.parametrize("frames", [1, 21, 168])
def test_objects_stay_in_the_frame(frames):
    truth = render(sample_scenes(200, 6, "any"), frames, size=8)
    shown = truth.boxes[truth.visible]
    assert shown.min() > 0.015
    assert shown.max() < 0.985


def test_a_long_clip_keeps_moving():
    for motion in set(MOTIONS) - {"still"}:
        truth = render([sample_scene(7, motion=motion)], 168, size=8)
        state = [truth.centres, truth.radius.unsqueeze(-1), truth.colours, truth.visible.float().unsqueeze(-1)]
        middle = [s[0, 0, 168 * 2 // 5 : 168 * 3 // 5] for s in state]
        assert any((m.amax(0) - m.amin(0)).max() > 0.005 for m in middle), motion


def test_pairs_share_the_motion_and_nothing_else():
    for seed in range(60):
        split = ("train", "heldout")[seed % 2]
        first, second = sample_pair(seed, split)
        a, b = first.things[0], second.things[0]
        assert (a.motion, a.heading, a.to_colour, a.speed, a.phase) == (
            b.motion,
            b.heading,
            b.to_colour,
            b.speed,
            b.phase,
        )
        assert (
            a.colour != b.colour
            and a.shape != b.shape
            and (a.x, a.y) != (b.x, b.y)
            and first.background != second.background
        )
        assert is_held_out(first) == is_held_out(second) == (split == "heldout")
        assert b.to_colour != b.colour
    assert render(list(sample_pair(3)), size=8).boxes.max() < 1


def test_words_can_be_asked_for():
    assert sample_scene(0, motion="blink").things[0].motion == "blink"
    assert sample_scene(0, "heldout", 2, relation="above").relation == "above"
    for wrong in (
        {"split": "test"},
        {"objects": 3},
        {"motion": "jump"},
        {"relation": "above"},
        {"objects": 2, "relation": "near"},
    ):
        with pytest.raises(ValueError, match=f"{list(wrong)[-1]} is .* use one of"):
            sample_scene(0, **wrong)


def test_two_objects_never_share_a_colour():
    for scene in sample_scenes(200, 9, "any", (2,)):
        a, b = scene.things
        assert a.colour != b.colour and b.colour != a.to_colour and a.to_colour != a.colour
