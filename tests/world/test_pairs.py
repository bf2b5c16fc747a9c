"""Pairs for video prompts: captions that leave the motion to the reference, references that could be exchanged, scores
that tell them apart."""

from dataclasses import replace

import pytest
import torch

from semantic_video.miniworld.caption import caption, parse
from semantic_video.miniworld.pairs import does, fits, following, held_out_pairs, other_reference, pair_scores
from semantic_video.miniworld.render import render
from semantic_video.miniworld.scene import facts_of, sample_scenes

PAIRS = held_out_pairs(40)


@pytest.mark.parametrize("objects", [1, 2])
def test_captions_without_the_motion_say_all_the_rest(objects):
    for seed, scene in enumerate(sample_scenes(100, 3, "any", (objects,))):
        whole = facts_of(scene)
        expected = replace(
            whole, things=(replace(whole.things[0], motion=None, heading="", to_colour=""), *whole.things[1:])
        )
        assert parse(caption(scene, motion=False)) == parse(caption(scene, seed, motion=False)) == expected
        assert parse(caption(scene, seed, 0.5, motion=False)).things[0].motion is None
        assert parse(caption(scene)) == whole


def test_truth_follows_its_reference_and_no_other():
    for seed, (reference, target) in enumerate(PAIRS):
        other = other_reference(target, seed)
        clip = render([target]).frames[0]
        own, swapped = pair_scores(clip, target, reference), pair_scores(clip, target, other)
        assert (own["transfer"], own["object"], own["background"], swapped["transfer"]) == (1.0, 1.0, 1.0, 0.0)
        assert own["first frame"] > 50


def test_a_target_can_follow_the_other_reference():
    for seed, (_, target) in enumerate(PAIRS):
        other = other_reference(target, seed)
        scene = following(target, other)
        assert does(scene) == does(other) != does(target)
        assert fits(scene) and fits(target)
        truth = render([scene, target])
        # it starts from the same first frame
        torch.testing.assert_close(truth.frames[0, 0], truth.frames[1, 0], rtol=0, atol=1e-4)
        assert pair_scores(truth.frames[0], target, other)["transfer"] == 1.0
        thing, seen = target.things[0], other.things[0]
        assert (
            thing.shape != seen.shape
            and thing.colour not in (seen.colour, seen.to_colour)
            and target.background != other.background
        )


def test_a_frozen_clip_follows_nothing_that_moves():
    for reference, target in PAIRS:
        frozen = render([target]).frames[0, :1].repeat(21, 1, 1, 1)
        scores = pair_scores(frozen, target, reference)
        assert scores["transfer"] == float(does(reference)[0] == "still")
        assert scores["object"] == 1.0 and scores["dynamic degree"] == 0.0
