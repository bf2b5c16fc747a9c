"""The Plan Adapter part by part: where it acts, which part of a plan a call sees, what is added, and for whom."""

from types import SimpleNamespace

import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.harness.toy_plans import toy_plan
from semantic_video.host.families import wan
from semantic_video.host.layout import Crop, Layout
from semantic_video.kernels.plan_adapter import Place
from semantic_video.patches import plan_adapter as patch
from semantic_video.patches.plan_adapter import PlanGuide, acts, added, groups_of, require_compatible

SPEC = SimpleNamespace(family="wan", width=48, heads=2, blocks=(1, 3))


def call_of(queries=20, before=3, after=5, block=3, stream="double", **more):
    site = SimpleNamespace(block=block, stream=stream)
    return SimpleNamespace(q=seeded(3, queries, 2, 4), before=before, after=after, site=site, **more)


def test_where_it_acts():
    assert acts(call_of(), SPEC) and acts(call_of(block=1), SPEC)
    assert acts(call_of(queries=9), SPEC), "one query of the video"
    for other in (call_of(block=2), call_of(stream="side"), call_of(queries=8)):
        assert not acts(other, SPEC)


def test_rows():
    call = call_of(positive_rows=[0, 2])
    assert PlanGuide(toy_plan()).rows(call) == [0, 1, 2]
    assert PlanGuide(toy_plan(), passes="conditional").rows(call) == [0, 2]


@pytest.mark.parametrize("total", [0, 30])
@pytest.mark.parametrize(
    ("crop", "place"),
    [
        (Crop((2, 3, 4), 0, 0, 8, 12, (8, 12)), (0.0, 0.0, 4, 6)),
        (Crop((2, 3, 4), 8, 6, 8, 12, (24, 36)), (4.0, 2.0, 12.0, 12.0)),
    ],
)
def test_which_part_of_a_plan_is_seen(monkeypatch, crop, place, total):
    """Cells of the latent as tokens of 2 x 3 of them; a model that is called outside a sampler shows all."""
    asked = []
    monkeypatch.setattr(patch, "groups", lambda *given: asked.append(given) or "groups")
    layout, options = Layout(3, 4, 6, patch=(2, 3)), {"a": 1}
    family = SimpleNamespace(
        rope_axis=lambda given, told: (
            ((1.0, 2.0, 3.0), (0.5, 0.25, 0.125)) if (given, told) == (layout, options) else 1 / 0
        ),
        first_frames=wan.first_frames,
    )
    forward = SimpleNamespace(layout=layout, family=family, run=SimpleNamespace(total_frames=total), options=options)
    assert groups_of(SPEC, torch.Size((4, 2, 3)), forward, crop) == "groups"
    top, left, height, width = place
    wanted = Place((2, 3, 4), top, left, height, width, (1.0, 2.0, 3.0), (0.5, 0.25, 0.125))
    assert asked == [(SPEC, (4, 2, 3), wan.first_frames(total or 3), wanted)]


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 2]])
def test_what_is_added(monkeypatch, rows):
    """To the video's queries, two parts of them here, of some rows; the attention's own result stays as it is."""
    forward = SimpleNamespace(layout=Layout(3, 2, 2))
    call = call_of(forward=forward)
    first, second = seeded(len(rows), 8, 8, seed=1), seeded(len(rows), 4, 8, seed=2)
    asked = []

    def branch_parts(module, block, q, tokens, seen, area, attend):
        asked.append((module, block, tokens, seen, area, attend))
        assert torch.equal(q, call.q[rows, 3:15])
        return [(slice(0, 8), first), (slice(8, 12), second)]

    monkeypatch.setattr(patch, "branch_parts", branch_parts)
    out = seeded(3, 20, 8, seed=3)
    kept = out.clone()
    got = added(out, call, rows, "module", "tokens", "seen", 0.5)
    assert asked == [("module", 3, "tokens", "seen", 4, patch.attend)] and torch.equal(out, kept)
    kept[rows, 3:11] += 0.5 * first
    kept[rows, 11:15] += 0.5 * second
    assert torch.equal(got, kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "hunyuan"}, "adapter: made for HunyuanVideo, this model is Wan"),
        ({"width": 96}, "adapter: made for a Wan of width 96 with 2 heads, this model has 48 with 2"),
        ({"heads": 3}, "adapter: made for a Wan of width 48 with 3 heads, this model has 48 with 2"),
        ({"blocks": (0, 4)}, "adapter: made for a model with a block 4, this one has 4"),
    ],
)
def test_models_that_it_was_not_made_for(toys, changes, message):
    model = toys("wan-t2v")
    assert require_compatible(model, SimpleNamespace(**vars(SPEC) | {"blocks": (0, 3)})) is wan
    with pytest.raises(ValueError, match=f"^{message}"):
        require_compatible(model, SimpleNamespace(**vars(SPEC) | changes))
