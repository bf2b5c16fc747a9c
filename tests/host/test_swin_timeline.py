"""Windows that follow a timeline of prompts, and windows that look back: masked attention, written out."""

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_video_model import ConditioningSetAreaPercentageVideo

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT, TOYS
from semantic_video.host.editing import edit_attention
from semantic_video.host.timeline import TIMELINE
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.guiders import at, basic_guider, run
from semantic_video.tests.host.stacking import windows

CLOSE = dict(rtol=1e-3, atol=1e-4)


def told(model, *starts):
    """As Prompt Timeline leaves it."""
    model = model.clone()
    model.model_options["transformer_options"][TIMELINE] = starts
    return model


def masked(call, proceed, spans_of, look_back=1, anchors=()):
    """spans_of(call): [(first frame, one past the last)] of each window."""
    frames, before = call.forward.layout.frames, call.before
    area = (call.q.shape[1] - before - call.after) // frames
    allowed = torch.ones(call.q.shape[1], call.k.shape[1], dtype=torch.bool)
    video = allowed[before : before + frames * area, before : before + frames * area]
    video[:] = False
    for first, last in spans_of(call):
        rows = video[first * area : last * area]
        rows[:, max(0, first - look_back) * area : last * area] = True
        for anchor in anchors:
            rows[:, anchor * area : (anchor + 1) * area] = True
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)[None, None].to(call.q.dtype)
    return proceed(call.replace(mask=mask if call.mask is None else mask + call.mask))


def reference(model, spans, **options):
    spans_of = spans if callable(spans) else lambda call: spans
    return edit_attention(
        model, "reference", lambda call, proceed: masked(call, proceed, spans_of, **options), sites=("self", "joint")
    )


@pytest.mark.parametrize("name", TOYS)
def test_windows_are_the_parts_and_one_frame_before_them(toys, name):
    """No shift, and of a video that would fit into one window; the node may stand before or after the timeline's."""
    model, shot = toys(name), Shot(name)
    expected = sample(reference(model, [(0, 3), (3, 7), (7, 9)]), shot)
    got = sample(apply(told(model, 3, 7), SwinRenderer()), shot)
    torch.testing.assert_close(got, expected, **CLOSE)
    assert torch.equal(got, sample(told(apply(model, SwinRenderer()), 3, 7), shot))
    assert not torch.allclose(got, sample(model, shot), rtol=1e-2, atol=1e-2)


SEVENS = [(0, 6), (6, 13), (13, 20), (20, 26), (26, 33), (33, 40)]  # parts of 20, in three


@pytest.mark.parametrize(
    ("start", "config", "spans", "options"),
    [
        (22, {}, [(0, 11), (11, 22), (22, 40)], {}),  # 22 are more than the trained 21, 18 are not
        (21, {}, [(0, 21), (21, 40)], {}),
        (20, {"window": 8}, SEVENS, {}),
        (20, {"window": 8, "shift": False, "look_back": 0}, SEVENS, {"look_back": 0}),
        (20, {"window": 8, "look_back": 3}, SEVENS, {"look_back": 3}),
        (20, {"window": 8, "anchors": "first frame"}, SEVENS, {"anchors": (0,)}),
    ],
)
def test_long_parts_are_cut_evenly(toys, start, config, spans, options):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", frames=40, height=2, width=2, steps=2)
    got = sample(apply(told(model, start), SwinRenderer(**config)), shot)
    torch.testing.assert_close(got, sample(reference(model, spans, **options), shot), **CLOSE)


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
@pytest.mark.parametrize("causal", [True, False])
def test_a_context_window_is_cut_where_the_video_is(toys, name, causal):
    """Starts count in the whole video; the frame that the host puts in front belongs to the part it is of."""
    model, shot = windows(toys(name), length=6, overlap=2, causal_window_fix=causal), Shot(name, frames=13, steps=2)
    cuts = set()

    def spans(call):
        parts = [sum(start <= frame for start in (4, 9)) for frame in call.forward.frames]
        inner = [i for i in range(1, len(parts)) if parts[i] != parts[i - 1]]
        cuts.update(inner)
        return list(zip([0, *inner], [*inner, len(parts)]))

    expected = sample(reference(model, spans), shot)
    torch.testing.assert_close(sample(apply(told(model, 4, 9), SwinRenderer()), shot), expected, **CLOSE)
    assert len(cuts) > 1


def test_areas_in_time_of_one_batch_are_cut_each_at_its_own_frames(toys, monkeypatch):
    model = apply(told(toys("wan-t2v"), 2, 7), SwinRenderer())

    def sampled():
        guider = basic_guider(model, 7)
        node = ConditioningSetAreaPercentageVideo
        first, last = (at("positive", node, 1.0, 1.0, 4 / 9, 0.0, 0.0, z) for z in (0.0, 5 / 9))
        guider.set_conds(first + last)
        return run(guider)

    batched = sampled()
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, sampled(), **CLOSE)


@pytest.mark.parametrize("starts", [(), (9,), (40, 50)])
def test_a_timeline_without_a_border_in_the_video_cuts_nothing(toys, starts):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    assert torch.equal(sample(model, shot), sample(apply(told(model, *starts), SwinRenderer()), shot))


@pytest.mark.parametrize("name", STRAIGHT)
def test_shifted_windows_look_back_where_told_to(toys, name):
    model, shot = toys(name), Shot(name)

    def shifted(call):
        return [(0, 2), (2, 6), (6, 9)] if call.site.block % 2 else [(0, 4), (4, 9)]

    expected = sample(reference(model, shifted, look_back=2), shot)
    torch.testing.assert_close(sample(apply(model, SwinRenderer(window=4, look_back=2)), shot), expected, **CLOSE)
    alone = sample(apply(model, SwinRenderer(window=4)), shot)
    assert torch.equal(alone, sample(apply(model, SwinRenderer(window=4, look_back=0)), shot)), "not unless told"
    torch.testing.assert_close(alone, sample(reference(model, shifted, look_back=0), shot), **CLOSE)


def test_a_negative_look_back_is_refused():
    with pytest.raises(ValueError, match="look_back -2: must not be negative; -1 chooses for you"):
        SwinRenderer(look_back=-2)


def test_strength_0_leaves_a_timeline_alone(toys):
    model = told(toys("wan-t2v"), 3)
    assert apply(model, SwinRenderer(strength=0.0)) is model
