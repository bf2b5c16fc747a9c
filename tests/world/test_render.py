"""The renderer: frames and truth agree, batches change nothing, edges are anti-aliased."""

from random import Random

import pytest
import torch

from semantic_video.miniworld.render import render, signed_distance
from semantic_video.miniworld.scene import (
    BACKGROUNDS,
    COLOURS,
    GROWTH,
    SHAPES,
    Scene,
    Thing,
    sample_scene,
    sample_scenes,
)


def one(shape="circle", motion="still", radius=0.17, **more):
    return Scene((Thing(shape, "red", "large", 0.5, 0.5, radius, motion, **more),), "black")


def test_shapes_and_ranges():
    truth = render(sample_scenes(4, 0), frames=5, size=32)
    assert (
        truth.frames.shape == (4, 5, 32, 32, 3) and truth.frames.dtype == torch.float32 and truth.frames.is_contiguous()
    )
    assert (
        truth.masks.shape == (4, 2, 5, 32, 32)
        and truth.boxes.shape == (4, 2, 5, 4)
        and truth.visible.shape == (4, 2, 5)
    )
    assert (
        truth.centres.shape == (4, 2, 5, 2) and truth.radius.shape == (4, 2, 5) and truth.colours.shape == (4, 2, 5, 3)
    )
    assert truth.frames.min() >= 0 and truth.frames.max() <= 1 and truth.masks.min() >= 0 and truth.masks.max() <= 1
    assert not truth.visible[0, 1].any() and not truth.masks[0, 1].any()  # a scene of one in a batch of two


def test_frames_are_the_masks_painted():
    scenes = sample_scenes(40, 1, "any")
    truth = render(scenes)
    for i, scene in enumerate(scenes):
        picture = torch.tensor(BACKGROUNDS[scene.background]).expand(21, 64, 64, 3)
        for mask, colour in zip(truth.masks[i], truth.colours[i], strict=True):
            picture = torch.lerp(picture, colour[:, None, None].expand_as(picture), mask.unsqueeze(-1))
        torch.testing.assert_close(truth.frames[i], picture)
        assert not (truth.masks[i].min(0).values > 0).any()  # objects never overlap: truth is never hidden


def test_masks_fill_their_boxes():
    truth = render(sample_scenes(60, 2, "any"))
    for mask, box in zip(truth.masks[truth.visible], truth.boxes[truth.visible] * 64, strict=True):
        inside = (mask > 0.5).nonzero()
        seen = torch.stack([*(inside.min(0).values.flip(0)), *(inside.max(0).values.flip(0) + 1)])
        assert (seen - box).abs().max() < 1.5  # the tip of a triangle covers less than half of its pixel


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_is_the_area(shape):
    mask = render([one(shape)], 1).masks[0, 0, 0]
    fine = render([one(shape)], 1, size=1024).masks[0, 0, 0]
    assert float(mask.mean()) == pytest.approx(float(fine.mean()), rel=0.02)
    assert ((mask > 0.05) & (mask < 0.95)).sum() > 8  # soft edges


@pytest.mark.parametrize("shape", SHAPES)
def test_signed_distance_inside_is_the_distance_to_the_outline(shape):
    axis = torch.linspace(-1, 1, 401, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    d = signed_distance(shape, x, y, torch.tensor(0.8, dtype=torch.float64))
    points = torch.stack((x, y), -1)
    outline = points[d.abs() < 0.003]
    for i in torch.randint(0, 401 * 401, (200,), generator=torch.Generator().manual_seed(0)).tolist():
        here, value = points.flatten(0, 1)[i], float(d.flatten()[i])
        if value < 0 and shape != "cross":  # a union's distance is exact only outside
            assert float((outline - here).norm(dim=-1).min()) == pytest.approx(-value, abs=0.01)


def test_a_batch_is_its_scenes():
    scenes = sample_scenes(8, 3, objects=(2,))
    together = render(scenes, 9)
    for i, scene in enumerate(scenes):
        assert torch.equal(together.frames[i], render([scene], 9).frames[0])


def test_motions_are_what_they_say():
    def state(motion, frames=21, **more):
        return render([one(motion=motion, radius=0.1, speed=0.3, **more)], frames, 8)

    moved = {
        m: (t.centres[0, 0, -1] - t.centres[0, 0, 0]).tolist()
        for m in ("left", "right", "up", "down")
        for t in [state(m)]
    }
    assert moved == {
        "left": pytest.approx([-0.3, 0]),
        "right": pytest.approx([0.3, 0]),
        "up": pytest.approx([0, -0.3]),
        "down": pytest.approx([0, 0.3]),
    }
    diagonal = state("diagonal", heading="down left").centres[0, 0]
    assert (diagonal[-1] - diagonal[0]).tolist() == pytest.approx([-0.3, 0.3])
    orbit = state("circle", phase=1.0).centres[0, 0]
    assert (orbit[20] - orbit[0]).norm() < 1e-5 and (orbit[10] - orbit[0]).norm() == pytest.approx(0.3)
    assert float(state("grow").radius[0, 0, -1]) == pytest.approx(0.1 * GROWTH)
    assert float(state("shrink").radius[0, 0, -1]) == pytest.approx(0.1 / GROWTH)
    assert state("blink").visible[0, 0].int().tolist() == [1] * 5 + [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4
    colours = state("change", to_colour="blue").colours[0, 0]
    assert colours[0].tolist() == pytest.approx(COLOURS["red"]) and colours[-1].tolist() == pytest.approx(
        COLOURS["blue"]
    )


@pytest.mark.parametrize("motion", ["left", "grow", "change", "diagonal"])
def test_a_long_clip_is_the_short_one_slowed_down(motion):
    scene = sample_scene(Random(4), motion=motion)
    short, long = render([scene], 21), render([scene], 81)
    torch.testing.assert_close(short.frames[0], long.frames[0, ::4], atol=1e-4, rtol=0)


@pytest.mark.parametrize("motion", ["circle", "blink"])
def test_a_long_clip_of_a_cycle_begins_like_the_short_one(motion):
    scene = sample_scene(Random(4), motion=motion)
    assert torch.equal(render([scene], 84).frames[:, :21], render([scene], 21).frames)


def test_nothing_to_render_is_refused():
    for wrong in (([], 21), ([one()], 0)):
        with pytest.raises(ValueError, match="cannot render"):
            render(*wrong)
