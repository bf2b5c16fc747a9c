"""The stories' oracle: right on truth, at chance on other stories, worse step by step on worse pictures; and each way
in which a long video fails is seen by the score that is to see it."""

from dataclasses import replace
from statistics import mean

import pytest
import torch

from semantic_video.miniworld.oracle import observe
from semantic_video.miniworld.render import render
from semantic_video.miniworld.story import Story, render_stories, sample_stories
from semantic_video.miniworld.story_scores import joined, story_scores

COUNT = 16


@pytest.fixture(scope="module")
def told():
    """Stories of both splits and their frames."""
    stories = sample_stories(COUNT // 2, 21, "train") + sample_stories(COUNT // 2, 22, "heldout")
    return stories, render_stories(stories).frames


@pytest.fixture(scope="module")
def truth(told):
    return [story_scores(frames, story) for story, frames in zip(*told, strict=True)]


def of(rows, name):
    return mean(row[name] for row in rows)


def test_truth_is_right(truth):
    for name in ("event", "event 1", "event 4", "story", "object", "background"):
        assert of(truth, name) >= 0.99, name
    assert of(truth, "same object") == of(truth, "join") == 1.0
    assert of(truth, "elsewhere") == 0.0
    assert of(truth, "speckle") == pytest.approx(1.0)


def expected(truth: Story, said: Story) -> float:
    """Events of `said` that happen in `truth` in their span, to an object of the colour that is said."""
    pairs = [(a.things[0], b.things[0]) for a, b in zip(truth.scenes, said.scenes, strict=True)]
    right = [
        (a.colour, a.motion, a.heading, a.to_colour) == (b.colour, b.motion, b.heading, b.to_colour) for a, b in pairs
    ]
    return mean(right)


def test_other_stories_score_at_chance(told):
    stories, frames = told
    others = stories[1:] + stories[:1]
    rows = [story_scores(f, story) for f, story in zip(frames, others, strict=True)]
    chance = mean(expected(a, b) for a, b in zip(stories, others, strict=True))
    assert of(rows, "event") == pytest.approx(chance, abs=0.01) and chance < 0.05
    assert of(rows, "story") == 0.0
    assert of(rows, "object") < 0.2
    assert of(rows, "same object") == 1.0 and of(rows, "join") == 1.0, "these ask the video alone"


def test_noisy_truth_scores_worse_step_by_step(told):
    stories, frames = told
    stories, frames = stories[::3], frames[::3]  # both splits
    levels = []
    for level in (0.1, 0.4, 0.9):
        generator = torch.Generator().manual_seed(0)
        noisy = frames + level * torch.randn(frames.shape, generator=generator)
        levels.append([story_scores(f, s) for f, s in zip(noisy, stories, strict=True)])
    for name in ("event", "object", "same object", "join"):
        values = [of(rows, name) for rows in levels]
        assert values[0] >= 0.95, (name, values)
        assert all(b <= a + 0.05 for a, b in zip(values, values[1:], strict=False)), (name, values)
        assert values[-1] < 0.6, (name, values)


def test_events_in_another_order_are_not_the_story(told):
    stories, frames = told
    for story, clip in list(zip(stories, frames, strict=True))[::4]:
        turned = replace(story, scenes=story.scenes[1:] + story.scenes[:1])
        row = story_scores(clip, turned)
        assert row["story"] == 0.0 and row["event"] <= 0.25
        assert row["elsewhere"] >= 0.75


def test_a_window_that_tells_it_all_again_is_seen(told):
    """The whole story in every span, four times too fast."""
    stories, frames = told
    for story, clip in list(zip(stories, frames, strict=True))[::4]:
        fast = clip[::4][:24]
        again = torch.cat((fast[:21], fast, fast, fast))
        row = story_scores(again, story)
        assert row["event"] <= 0.25 and row["story"] == 0.0
        assert row["join"] < 1 or row["seam"] < 3


def moved(clip, pixels):
    return torch.roll(clip, pixels, dims=2)


def test_an_object_that_jumps_at_a_border_has_not_joined(told):
    """By five pixels where it moves one; a circling one moves more than two by itself. One pixel is no jump."""
    stories, frames = told
    boxes = render_stories(stories).boxes[:, 0]
    shown = 0
    for story, clip, box in zip(stories, frames, boxes, strict=True):
        if "circle" in {s.things[0].motion for s in story.scenes} or box[45:, 2].max() > 1 - 5 / 64:
            continue
        shown += 1
        if shown > 3:
            break
        for pixels, share in ((1, 1.0), (5, 2 / 3)):
            jumped = torch.cat((clip[:45], moved(clip[45:], pixels)))
            assert story_scores(jumped, story)["join"] == pytest.approx(share), (pixels, story)
    assert shown > 3


def test_a_jump_spread_by_the_decoder_has_not_joined():
    story = next(s for s in sample_stories(50, 3, "any") if s.scenes[1].things[0].motion in ("left", "right"))
    clip = render_stories([story]).frames[0]
    spread = torch.cat((clip[:20], moved(clip[20:21], 2), moved(clip[21:22], 4), moved(clip[22:], 6)))
    assert story_scores(clip, story)["join"] == 1.0
    assert story_scores(spread, story)["join"] == pytest.approx(2 / 3)


def test_an_object_away_at_the_border_may_have_gone_on():
    story = next(s for s in sample_stories(50, 3, "any") if s.scenes[1].things[0].motion in ("left", "right"))
    clip = render_stories([story]).frames[0].clone()
    clip[19:24] = clip[0, 0, 0]
    before, after = (observe(clip[a:b]).tracks[0] for a, b in story.spans[:2])
    assert joined(before, after)
    assert not joined(before, None) and not joined(None, after)


@pytest.mark.parametrize("part", ["shape", "colour"])
def test_another_object_midway_is_not_the_same(told, part):
    stories, frames = told
    shapes = {"circle": "cross", "cross": "square", "square": "triangle", "triangle": "circle"}
    for i in range(0, COUNT, 4):
        if part == "colour":
            used = {t for s in stories[i].scenes for t in (s.things[0].colour, s.things[0].to_colour, s.background)}
            other = next(c for c in ("red", "yellow", "blue", "green", "pink") if c not in used)
            changed = [
                replace(s, things=(replace(s.things[0], colour=other, to_colour="red"),)) for s in stories[i].scenes
            ]
        else:
            changed = [
                replace(s, things=(replace(s.things[0], shape=shapes[s.things[0].shape]),)) for s in stories[i].scenes
            ]
        swapped = render_stories([replace(stories[i], scenes=tuple(changed))]).frames[0]
        clip = torch.cat((frames[i][:45], swapped[45:]))
        row = story_scores(clip, stories[i])
        assert row["same object"] == 0.0 and row["object"] <= 0.5


def test_speckle_at_the_borders_is_seen(told):
    stories, frames = told
    generator = torch.Generator().manual_seed(0)
    dots = (torch.rand(64, 64, 1, generator=generator) < 0.03).float() * 0.2
    for story, clip in list(zip(stories, frames, strict=True))[::6]:
        ground = clip[0, 0, 0]
        grainy = clip + dots * (0.5 - ground).sign()
        assert story_scores(grainy, story)["speckle"] == pytest.approx(1.0, abs=0.2), "everywhere alike"
        spotted = clip.clone()
        for border in story.borders:
            spotted[border] = grainy[border]
        assert story_scores(spotted, story)["speckle"] > 3


def test_a_frozen_story_shows_no_event_but_rest(told):
    stories, frames = told
    for story, clip in list(zip(stories, frames, strict=True))[::4]:
        row = story_scores(clip[:1].expand_as(clip), story)
        rests = sum(s.things[0].motion == "still" for s in story.scenes)
        assert row["event"] <= rests / 4
        assert row["dynamic degree"] == 0 and row["loop"] == 1 and row["join"] == 1


def test_another_length_is_refused(told):
    stories, frames = told
    with pytest.raises(ValueError, match="the video has 81 frames, the story 93"):
        story_scores(frames[0][:81], stories[0])


@pytest.mark.parametrize("motion", ["circle", "blink"])
def test_a_cycle_at_another_pace_is_not_as_said(motion):
    """And is, where the truth itself is so slow."""
    from semantic_video.miniworld.oracle import judge
    from semantic_video.miniworld.scene import facts_of, sample_scene

    scene = sample_scene(4, motion=motion)
    said, name = facts_of(scene), "motion" if motion == "circle" else "attribute"
    for frames, stretch in ((21, 1.0), (93, 1.0), (93, 1.3), (93, 4.6)):
        clip = render([scene], frames, stretch=stretch).frames[0]
        assert judge(clip, said)[name] == float(stretch < 1.6), (frames, stretch)
        assert judge(clip, said, stretch)[name] == 1.0
        assert judge(clip, said, 4.6)[name] == float(stretch > 2.9)
    quick = render([scene], 93).frames[0][::2]
    assert judge(quick, said)[name] == 0.0
