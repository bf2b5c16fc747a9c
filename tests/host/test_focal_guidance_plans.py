"""Focal Guidance part by part: limits, which blocks do what, what a run must have, regions and anchors on tokens."""

import re
from types import SimpleNamespace

import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.host.families import wan
from semantic_video.host.text_tokens import PICTURES
from semantic_video.kernels.focal_guidance import clip_region
from semantic_video.patches.focal_guidance import (
    Plan,
    check_run,
    image_anchor,
    plan_blocks,
    region_of_tokens,
)
from semantic_video.tests.host.focal_reference import focal

MASK = torch.ones(1, 4, 4)
EVERY = frozenset(range(5))


@pytest.mark.parametrize(
    ("name", "least", "most", "called"),
    [
        ("cache", -1.0, 1.0, "cache"),
        ("anchor", 0.0, 1.0, "anchor"),
        ("strength", 0.0, 1.0, "strength"),
        ("weight", 1e-6, 1e6, "keyword_weight"),
    ],
)
def test_numbers_up_to_their_limits(name, least, most, called):
    for value in (least, most):
        assert getattr(focal(region=MASK, **{name: value}), name) == value
    for value in (least - 0.01, *([most + 0.01] if name != "weight" else [0.0])):
        with pytest.raises(ValueError, match=f"^{called} {re.escape(str(value))}: must be "):
            focal(region=MASK, **{name: value})


@pytest.mark.parametrize("region", [torch.ones(4, 4), torch.ones(1, 1, 4, 4), torch.ones(1, 0, 4), MASK * torch.inf])
def test_regions_that_are_none(region):
    with pytest.raises(ValueError, match=rf"^region: shape \({', '.join(map(str, region.shape))}\), empty or with NaN"):
        focal(region=region)


def test_what_acts():
    for options, words, columns, active in (
        ({"weight": 1.0}, False, False, False),
        ({"weight": 2.0}, True, False, True),
        ({"weight": 2.0, "strength": 0.0}, True, False, False),
        ({"weight": 1.0, "anchor": 0.1, "region": MASK}, True, False, True),
        ({"weight": 1.0, "cache": 0.1}, False, False, True),
        ({"weight": 1.0, "cache": -0.1, "cache_of": "keywords"}, True, True, True),
        ({"weight": 1.0, "cache_of": "keywords"}, False, False, False),
    ):
        config = focal(**options)
        assert (config.words, config.columns, config.active) == (words, columns, active), options
    with pytest.raises(ValueError, match="^cache_of 'words': choose one of whole map, keywords"):
        focal(cache_of="words")


@pytest.mark.parametrize(
    ("blocks", "sources", "cache", "plan"),
    [
        ("", "", 0.0, Plan(EVERY, frozenset(), frozenset(), -1)),
        ("1,3", "0", 0.0, Plan(frozenset({1, 3}), frozenset(), frozenset(), -1)),
        ("", "1-2", 0.5, Plan(EVERY, frozenset({1, 2}), frozenset({3, 4}), 4)),
        ("3", "0,2", -0.5, Plan(frozenset({3}), frozenset({0, 2}), frozenset({3}), 3)),
        ("1,3", "0,2,4", 0.5, Plan(frozenset({1, 3}), frozenset({0, 2, 4}), frozenset({1, 3}), 3)),
    ],
)
def test_which_blocks_do_what(blocks, sources, cache, plan):
    assert plan_blocks(focal(blocks=blocks, source_blocks=sources, cache=cache), 5) == plan


def run_of(conds=(), size=(9, 4, 6), texts=()):
    return SimpleNamespace(
        conds=set(conds), size=size, texts=texts, total_frames=size[0], first_frames=wan.first_frames
    )


@pytest.mark.parametrize(("rows", "columns"), [(4, 6), (100, 136), (100, 164), (40, 60)])
def test_regions_of_nearly_the_video_s_proportions(rows, columns):
    """Of a video 1.5 times as wide as high, less than a tenth off."""
    check_run(focal(region=torch.ones(1, rows, columns)), None, run_of())


@pytest.mark.parametrize(("rows", "columns"), [(6, 4), (100, 134), (100, 166), (4, 4)])
def test_regions_of_other_proportions(rows, columns):
    message = f"^region: {columns} x {rows}, but the video has the proportions 6 : 4. Give the mask those"
    with pytest.raises(ValueError, match=message):
        check_run(focal(region=torch.ones(1, rows, columns)), None, run_of())


def test_every_text_of_a_run_is_checked():
    checked = []
    tokens = SimpleNamespace(check=lambda context, image: checked.append((context, image)))
    check_run(focal(), tokens, run_of(texts=["a", "b"]))
    for name in sorted(PICTURES):
        check_run(focal(), tokens, run_of([name, "other"], texts=["c"]))
    check_run(focal(), None, run_of(texts=["d"]))
    assert checked == [("a", False), ("b", False)] + [("c", True)] * len(PICTURES)


def test_anchors_need_features():
    check_run(focal(anchor=0.5, region=torch.ones(1, 4, 6)), None, run_of(["clip_vision_output"]))
    with pytest.raises(ValueError, match="^anchor: no conditioning carries CLIP features of a start image"):
        check_run(focal(anchor=0.5, region=torch.ones(1, 4, 6)), None, run_of(["other"]))


def test_anchors_need_a_region_in_what_clip_has_seen():
    """Refused before the first step, not in the first that acts."""
    edge = torch.zeros(1, 48, 72)
    edge[:, :, :8] = 1
    check_run(focal(anchor=0.5, region=edge, fit="squash"), None, run_of(["clip_vision_output"]))
    with pytest.raises(ValueError, match="^region: nothing of it is in what CLIP has seen .*'center crop'"):
        check_run(focal(anchor=0.5, region=edge, fit="center crop"), None, run_of(["clip_vision_output"]))


def crop_of(frames, whole=True, top=0, left=0, height=4, width=4, video=(4, 4)):
    return SimpleNamespace(
        frames=frames, whole_picture=whole, top=top, left=left, height=height, width=width, video=video
    )


def call_of(crop, frames, total=9, v=None):
    layout = SimpleNamespace(frames=frames, height=2, width=2)
    family = SimpleNamespace(first_frames=lambda latents: [0, *range(1, 8 * latents, 8)])  # eight video frames each
    forward = SimpleNamespace(layout=layout, run=SimpleNamespace(total_frames=total), family=family)
    return SimpleNamespace(forward=forward, crop=crop, v=v)


def test_regions_on_tokens():
    """One mask for all frames, or those of the frames that are seen; what is outside of 0 to 1 is cut off."""
    one = torch.tensor([[2.0, -1.0], [0.5, 0.25]])
    config = focal(region=one[None].repeat_interleave(2, 1).repeat_interleave(2, 2))
    found = region_of_tokens(config, call_of(crop_of((3, 4)), 2))
    assert found.tolist() == [[1.0], [0.0], [0.5], [0.25]] * 2
    each = torch.linspace(0, 0.8, 9).view(9, 1, 1).expand(9, 4, 4)
    found = region_of_tokens(focal(region=each), call_of(crop_of((2, 5)), 2))
    torch.testing.assert_close(found, torch.tensor([[0.2]] * 4 + [[0.5]] * 4))
    video = torch.linspace(0, 0.64, 65).view(65, 1, 1).expand(65, 4, 4)
    found = region_of_tokens(focal(region=video), call_of(crop_of((2, 5)), 2))
    torch.testing.assert_close(found, torch.tensor([[0.16]] * 4 + [[0.4]] * 4), msg="of each its last video frame")
    found = region_of_tokens(focal(region=each), call_of(crop_of(tuple(range(9))), 9, total=0))
    torch.testing.assert_close(found, each[:, :2, :2].reshape(-1, 1), msg="outside a sampler the call is the video")


def test_regions_of_a_conditioning_s_area():
    """The lower right quarter of the video, on four tokens."""
    mask = torch.arange(64.0).view(1, 8, 8) / 64
    crop = crop_of((0,), False, top=4, left=4, height=4, width=4, video=(8, 8))
    found = region_of_tokens(focal(region=mask), call_of(crop, 1))
    expected = torch.nn.functional.avg_pool2d(mask[:, 4:, 4:], 2).reshape(-1, 1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("tokens", [257, 514])
@pytest.mark.parametrize("fit", ["squash", "center crop"])
def test_anchors_are_means_of_the_first_image(tokens, fit):
    """Of its 16 x 16 patches; a class token comes first, a last frame's own image after it."""
    v, region = seeded(3, tokens, 2, 4, seed=1), 3 * seeded(1, 12, 20, seed=2)
    config = focal(anchor=0.5, region=region, fit=fit)
    got = image_anchor(config, call_of(None, 1, v=v), [0, 2])
    weights = clip_region(region[0].clamp(0, 1), 16, fit)
    expected = torch.stack([torch.einsum("phd,p->hd", v[row, 1:257], weights / weights.sum()) for row in (0, 2)])
    torch.testing.assert_close(got, expected)
