"""Stories: the same from the same seed, one event after another, captions true of their spans, nothing out of frame."""

from statistics import mean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from semantic_video.miniworld.caption import parse
from semantic_video.miniworld.render import render
from semantic_video.miniworld.scene import TRAVEL, facts_of, is_held_out
from semantic_video.miniworld.story import (
    EVENTS,
    MOST_EVENTS,
    Story,
    joined_caption,
    render_stories,
    sample_stories,
    sample_story,
    story_captions,
)


def does(scene):
    thing = scene.things[0]
    return thing.motion, thing.heading


def test_a_seed_is_a_story():
    assert sample_stories(6, 3) == sample_stories(6, 3) != sample_stories(6, 4)
    # in every process and version: a held-out set is a number, and is stored nowhere
    assert story_captions(sample_story(0, "heldout")) == FIRST


FIRST = [
    "a small blue cross blinks on a black background",
    "a small blue cross grows on a black background",
    "a large blue cross shrinks on a black background",
    "a small blue cross stays still on a black background",
]


@given(some.integers(0, 10**6), some.sampled_from(["train", "heldout", "any"]), some.integers(1, MOST_EVENTS))
def test_events_are_one_after_another(seed, split, events):
    story = sample_story(seed, split, events)
    assert len(story.scenes) == events and story.frames == 24 * events - 3
    assert [end - start for start, end in story.spans] == [21] + [24] * (events - 1)
    assert story.borders == [24 * i - 3 for i in range(1, events)]
    assert len({does(scene) for scene in story.scenes}) == events, "each once"
    if split != "any":
        assert any(map(is_held_out, story.scenes)) == (split == "heldout")
    things = [scene.things[0] for scene in story.scenes]
    assert len({(t.shape, s.background) for t, s in zip(things, story.scenes, strict=True)}) == 1
    for a, b in zip(things, things[1:], strict=False):
        assert b.colour == (a.to_colour or a.colour)
        assert b.size == {"grow": "large", "shrink": "small"}.get(a.motion, a.size)
        assert abs(b.x - a.x) <= TRAVEL + 1e-6 and abs(b.y - a.y) <= TRAVEL + 1e-6


def test_captions_say_each_span_and_what_is_said_at_once_fits_the_text_encoder():
    for seed, story in enumerate(sample_stories(60, 2, "heldout")):
        for number in (None, seed):
            said = [parse(text) for text in story_captions(story, number)]
            assert said == [facts_of(scene) for scene in story.scenes]
        words = joined_caption(story, seed).replace(",", "").split()
        assert len(words) <= 30
        assert joined_caption(story).startswith(story_captions(story)[0].split(" on a ")[0])


def test_the_truth_is_that_of_its_scenes():
    """Each span equals a clip of its scene, which begins where the span before ended."""
    stories = sample_stories(24, 5, "any")
    truth = render_stories(stories, 16)
    for story, centres, radius, visible in zip(
        stories, truth.centres[:, 0], truth.radius[:, 0], truth.visible[:, 0], strict=True
    ):
        for number, (scene, (start, end)) in enumerate(zip(story.scenes, story.spans, strict=True)):
            thing = scene.things[0]
            first = start if number == 0 else start - 1
            assert centres[first].tolist() == pytest.approx([thing.x, thing.y], abs=1e-5)
            assert float(radius[first]) == pytest.approx(thing.radius, abs=1e-5)
            assert visible[start] and visible[end - 1], "it can be seen at the borders"
            if thing.motion == "blink":
                lead = 1 if number == 0 else 4
                wanted = [1] * (lead + 4) + [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4
                assert visible[start:end].int().tolist() == wanted
            elif thing.motion != "circle" and number:
                clip = render([scene], end - start + 1, 16)
                torch.testing.assert_close(centres[start:end], clip.centres[0, 0, 1:])
                torch.testing.assert_close(radius[start:end], clip.radius[0, 0, 1:])
        assert centres.diff(dim=0).norm(dim=-1).max() < 3.3 / 64, "no jumps"


def test_stories_move_as_much_as_scenes_do():
    from semantic_video.miniworld.guards import dynamic_degree
    from semantic_video.miniworld.scene import sample_scenes

    told = mean(map(dynamic_degree, render_stories(sample_stories(24, 1, "heldout")).frames))
    shown = mean(map(dynamic_degree, render(sample_scenes(24, 1, "heldout", (1,))).frames))
    assert 0.8 < told / shown < 1.25


@pytest.mark.parametrize("events", [1, 2, EVENTS, 8])
def test_objects_stay_in_the_frame(events):
    truth = render_stories(sample_stories(40, 6, "any", events), 8)
    shown = truth.boxes[truth.visible]
    assert shown.min() > 0.015 and shown.max() < 0.985


def test_what_is_no_story_is_refused():
    with pytest.raises(ValueError, match="split is 'test'; use one of train"):
        sample_story(0, "test")
    for events in (0, MOST_EVENTS + 1):
        with pytest.raises(ValueError, match=f"events is {events}; a story has 1 to"):
            sample_story(0, events=events)
    for wrong in ([], [sample_story(0), sample_story(0, events=2)]):
        with pytest.raises(ValueError, match="stories have .* give at least one, and of one length"):
            render_stories(wrong)
    assert isinstance(sample_story(0, events=1), Story)
