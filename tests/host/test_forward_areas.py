"""Conditioning areas and context windows: the model sees a part of the video, and each row knows which."""

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_video_model import ConditioningSetAreaPercentageVideo

from nodes import ConditioningSetArea
from semantic_video.harness.sampling import seeded
from semantic_video.host.call import by_crop
from semantic_video.host.editing import edit_attention
from semantic_video.tests.host.guiders import at, basic_guider, cond, run

AREAS = {
    "none": ((), [((0, 9), (0, 6), (0, 8))]),
    "left and right": (
        ((ConditioningSetArea, 32, 48, 0, 0), (ConditioningSetArea, 32, 48, 32, 0)),
        [((0, 9), (0, 6), (0, 4)), ((0, 9), (0, 6), (4, 8))],
    ),
    "odd": (((ConditioningSetArea, 24, 24, 40, 8),), [((0, 9), (1, 4), (5, 8))]),
    "over the edge": (((ConditioningSetArea, 64, 48, 48, 16),), [((0, 9), (2, 6), (6, 8))]),
    "time": (
        (
            (ConditioningSetAreaPercentageVideo, 1.0, 1.0, 4 / 9, 0.0, 0.0, 0.0),
            (ConditioningSetAreaPercentageVideo, 1.0, 1.0, 4 / 9, 0.0, 0.0, 5 / 9),
        ),
        [((0, 4), (0, 6), (0, 8)), ((5, 9), (0, 6), (0, 8))],
    ),
    "time and place": (
        ((ConditioningSetAreaPercentageVideo, 0.5, 0.5, 4 / 9, 0.5, 0.5, 5 / 9),),
        [((5, 9), (3, 6), (4, 8))],
    ),
}


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("name", AREAS)
def test_each_row_knows_the_part_it_shows(toys, name, split, monkeypatch):
    """The input of the first step is the noise: the part of it that a row holds is the part it claims."""
    if split:
        monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    areas, expected = AREAS[name]
    noise, seen = seeded(1, 16, 9, 6, 8, seed=1), set()

    def watch(call, proceed):
        for row, crop in zip(call.forward.arguments["x"], call.forward.crops, strict=True):
            rows, columns = slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width)
            assert torch.equal(row, noise[0][:, list(crop.frames), rows, columns])
            assert crop.video == (6, 8)
            frames = (crop.frames[0], crop.frames[-1] + 1)
            seen.add((frames, (rows.start, rows.stop), (columns.start, columns.stop)))
        return proceed(call)

    model = edit_attention(toys("wan-t2v"), "watch", watch, sites=("text",))
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(sum((at("positive", *area) for area in areas), []) or cond("positive"), cond("negative"))
    guider.set_cfg(3.0)
    run(guider, height=6, width=8)
    assert seen == set(expected) | {((0, 9), (0, 6), (0, 8))}


def test_an_area_within_a_context_window(toys):
    from semantic_video.tests.host.stacking import windows

    noise, seen = seeded(1, 16, 9, 6, 8, seed=1), set()

    def watch(call, proceed):
        for row, crop in zip(call.forward.arguments["x"], call.forward.crops, strict=True):
            rows, columns = slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width)
            assert torch.equal(row, noise[0][:, list(crop.frames), rows, columns])
            seen.add((crop.frames, crop.left))
        return proceed(call)

    guider = basic_guider(edit_attention(windows(toys("wan-t2v")), "watch", watch, sites=("text",)), 7)
    guider.set_conds(at("positive", ConditioningSetArea, 32, 48, 32, 0))
    run(guider, height=6, width=8)
    assert seen == {((0, 1, 2, 3), 4), ((2, 3, 4, 5, 6), 4), ((4, 5, 6, 7, 8), 4)}


def test_rows_of_different_parts_are_edited_apart(toys, monkeypatch):
    """Left and right half in one batch: an edit that depends on the part gives what it gives call by call."""
    parts = []

    def by_place(call, proceed):
        parts.append((call.crop.left, len(call.q), call.batch))
        return proceed(call) * (1.0 + 0.1 * call.crop.left)

    def sampled(edit):
        guider = basic_guider(edit_attention(toys("wan-t2v"), "by_place", edit, sites=("text",)), 7)
        area = (ConditioningSetArea, 32, 48)
        guider.set_conds(at("positive", *area, 0, 0) + at("positive", *area, 32, 0) + at("positive", *area, 0, 0))
        return run(guider, height=6, width=8)

    batched = sampled(by_crop(by_place))
    assert sorted(set(parts)) == [(0, 2, (0, 2)), (4, 1, (1,))]
    with pytest.raises(RuntimeError, match="by_place: the rows of one attention call show different parts"):
        sampled(by_place)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, sampled(by_crop(by_place)), rtol=1e-4, atol=1e-4)


def test_a_part_that_another_pack_cuts_out_is_said_to_be_unknown(toys, caplog):
    from comfy.patcher_extension import WrappersMP

    seen = set()

    def watch(call, proceed):
        seen.add(call.forward.crops)
        return proceed(call)

    def tile(executor, x, *args, **kwargs):
        return torch.nn.functional.pad(executor(x[..., :4], *args, **kwargs), (0, x.shape[-1] - 4))

    model = toys("wan-t2v")
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "tiles", tile)
    model = edit_attention(model, "watch", watch, sites=("text",))
    run(basic_guider(model, 7), steps=2, height=6, width=8)
    [(crop,)] = seen
    assert (crop.frames, crop.left, crop.width, crop.video) == (tuple(range(9)), 0, 4, (6, 4))
    assert len([m for m in caplog.messages if "which part is not known" in m]) == 1
