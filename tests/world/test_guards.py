"""Guards: frozen, looping, stitched and drifting videos are each caught, and truth is not."""

from statistics import mean, median

import pytest
import torch

from semantic_video.miniworld.guards import dynamic_degree, identity_drift, loop_score, seam_strength
from semantic_video.miniworld.oracle import observe
from semantic_video.miniworld.render import render
from semantic_video.miniworld.scene import COLOURS, Scene, Thing, facts_of, sample_scene

ONE_WAY = ("left", "right", "up", "down", "diagonal", "grow", "shrink")
LONG = 84


@pytest.fixture(scope="module")
def long_world():
    """One-way motions, one and two objects, at four times the nominal length."""
    scenes = [sample_scene(i, "any", 1 + i % 2, motion=ONE_WAY[i % 7]) for i in range(28)]
    return scenes, render(scenes, LONG).frames


def noisy(frames):
    return frames + 0.05 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))


def frozen(frames):
    return frames[:1].expand_as(frames)


def looped(frames):
    return frames[: LONG // 4].repeat(4, 1, 1, 1)


def test_dynamic_degree(long_world):
    _, long = long_world
    short = render([sample_scene(i, motion=m) for i, m in enumerate(ONE_WAY)]).frames
    rests = render([sample_scene(i, motion="still") for i in range(4)], LONG).frames
    # the same path at a quarter of the speed
    assert mean(map(dynamic_degree, short)) > 2 * mean(map(dynamic_degree, long)) > 0.05
    assert min(map(dynamic_degree, short)) > 0.02
    for still in (*rests, *map(frozen, long)):
        assert dynamic_degree(still) == 0
        assert dynamic_degree(noisy(still)) < 0.005


def test_loop_score(long_world):
    _, frames = long_world
    assert max(map(loop_score, frames)) < 0.05
    assert max(loop_score(noisy(f)) for f in frames) < 0.15
    assert min(loop_score(looped(f)) for f in frames) > 0.95
    assert min(loop_score(f[:28].repeat(3, 1, 1, 1)) for f in frames) > 0.95
    assert median(loop_score(noisy(looped(f))) for f in frames) > 0.8
    assert min(loop_score(g) for f in frames for g in (frozen(f), noisy(frozen(f)))) == 1  # a frozen video must not win
    there_and_back = [torch.cat((f[::2], f[::2].flip(0))) for f in frames]
    assert median(map(loop_score, there_and_back)) < 0.2  # a pendulum shows new pictures for half of the clip


def test_a_looser_loop_scores_less(long_world):
    _, frames = long_world
    clip = frames[0]
    levels = [torch.lerp(clip, looped(clip), w) for w in (0.0, 0.5, 1.0)]
    a, b, c = map(loop_score, levels)
    assert a < 0.05 and c > 0.95 and a <= b <= c


def test_seam_strength(long_world):
    scenes, frames = long_world
    borders = [21, 42, 63]
    clean = [seam_strength(f, borders) for f in frames]
    assert 0.5 < median(clean) < 1.3 and max(clean) < 2.5
    stitched = [torch.cat((f[:42], g[42:])) for f, g in zip(frames, frames.roll(1, 0), strict=True)]
    assert min(seam_strength(f, [42]) for f in stitched) > 5
    assert min(seam_strength(noisy(f), [42]) for f in stitched) > 1.5
    assert median(seam_strength(f, [20]) for f in stitched) < 1.5  # away from the seam
    jumped = [torch.cat((f[:42], f[46:], f[-4:])) for f in frames]  # a jump of four frames' path
    assert median(seam_strength(f, [42]) for f in jumped) > 2 * median(clean)
    for wrong in ([], [0], [LONG]):
        with pytest.raises(ValueError, match="window borders"):
            seam_strength(frames[0], wrong)


def test_truth_keeps_its_identity(long_world):
    scenes, frames = long_world
    drift = [identity_drift(f, facts_of(s)) for s, f in zip(scenes, frames, strict=True)]
    assert mean(drift) < 0.03
    assert median(drift) < 0.01
    assert mean(identity_drift(noisy(f), facts_of(s)) for s, f in zip(scenes, frames, strict=True)) < 0.05


@pytest.mark.parametrize(
    "change",
    [{"shape": "cross"}, {"shape": "triangle"}, {"shape": "square"}, {"colour": "yellow"}, {"colour": "purple"}],
)
def test_a_swap_midway_is_drift(change):
    thing = {
        "shape": "circle",
        "colour": "blue",
        "size": "large",
        "x": 0.3,
        "y": 0.5,
        "radius": 0.17,
        "motion": "right",
        "speed": 0.4,
    }
    before, after = (render([Scene((Thing(**(thing | more)),), "gray")], LONG).frames[0] for more in ({}, change))
    assert identity_drift(before) < 0.02
    assert identity_drift(torch.cat((before[:42], after[42:]))) > 0.9


def test_fading_colour_is_drift_in_proportion():
    clip = render([sample_scene(2, motion="left")], LONG).frames[0]
    gray = clip.mean(-1, keepdim=True)
    fade = torch.linspace(0, 1, LONG)[:, None, None, None]
    a, b, c = (identity_drift(torch.lerp(clip, gray.expand_as(clip), fade * w)) for w in (0.0, 0.2, 0.4))
    assert a < 0.02 < b < c


def test_an_announced_change_of_colour_is_no_drift():
    scene = sample_scene(1, motion="change")
    report = observe(render([scene], LONG).frames[0])
    assert identity_drift(report, facts_of(scene)) < 0.05
    assert identity_drift(report) > 0.9
    others = [c for c in COLOURS if c not in (scene.things[0].colour, scene.things[0].to_colour)]
    announced = facts_of(sample_scene(1, motion="change"))
    wrong = announced.things[0].__class__(**(vars(announced.things[0]) | {"to_colour": others[0]}))
    assert identity_drift(report, announced.__class__((wrong,))) > 0.9


def test_an_object_that_is_lost_has_drifted():
    clip = render([sample_scene(2, motion="left")], LONG).frames[0].clone()
    clip[60:] = clip[0, 0, 0]
    assert identity_drift(clip) == 1
    assert identity_drift(torch.zeros(21, 64, 64, 3)) == 1
