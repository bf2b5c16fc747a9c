"""What a call of the model is of: which conditioning each batch row belongs to, under every guider and beside patches
that call the attention with a part of the batch; and runs over a part of the schedule."""

import comfy.samplers
import pytest
import torch
from comfy_extras import nodes_custom_sampler as guiders

from semantic_video.harness.sampling import Shot, sample, seeded
from semantic_video.host.editing import edit_attention
from semantic_video.host.schedule import Interval
from semantic_video.tests.host.guiders import (
    TWO,
    basic_guider,
    cfg_guider,
    cond,
    dual_cfg_guider,
    dual_model_guider,
    named_rows,
    perp_neg_guider,
    run,
)
from semantic_video.tests.host.nag import NAG_CONTEXT, with_nag


def watching(model):
    seen, calls = set(), []

    def watch(call, proceed):
        seen.update(named_rows(call.forward))
        calls.append((call.rows, call.positive_rows))
        return proceed(call)

    return edit_attention(model, "watch", watch, sites=("text",)), seen, calls


@pytest.mark.parametrize("words", [7, 9], ids=["batched", "split"])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (basic_guider, {("positive", 0)}),
        (cfg_guider, TWO),
        (dual_cfg_guider, TWO | {("middle", 0)}),
        (lambda *args: dual_cfg_guider(*args, nested=True), TWO | {("middle", 0)}),
        (dual_model_guider, TWO),
        (perp_neg_guider, TWO | {("empty", 1)}),
    ],
    ids=["basic", "cfg", "dual cfg", "dual cfg nested", "dual model", "perp neg"],
)
def test_a_row_is_what_the_guider_calls_it(toys, make, expected, words):
    model, seen, calls = watching(toys("wan-t2v"))
    result = run(make(model, words))
    assert seen == expected
    assert all(positive == [i for i, row in enumerate(rows) if row == 0] for rows, positive in calls)
    assert torch.equal(result, run(make(toys("wan-t2v"), words)))


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("in_negative", [True, False])
def test_copies_that_the_host_makes_for_areas_keep_their_conditioning(toys, split, in_negative, monkeypatch):
    """For an area in one conditioning the host adds one to the other, under the same uuid."""
    if split:
        monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    seen, count = set(), []

    def watch(call, proceed):
        if call.site.block == 0:
            seen.update(named_rows(call.forward))
            count.extend(call.rows)
        return proceed(call)

    for make in (comfy.samplers.CFGGuider, lambda model: guiders.Guider_DualModel(model, model.clone())):
        for name in ("positive", "negative"):
            guider = make(edit_attention(toys("wan-t2v"), "watch", watch, sites=("text",)))
            conds = {"positive": cond("positive"), "negative": cond("negative")}
            if name == "negative" and not in_negative:
                continue
            conds[name] = conds[name] + cond(name, area=(4, 2, 0, 2), strength=1.0)
            guider.set_conds(**conds)
            guider.set_cfg(3.0)
            run(guider)
    assert seen == TWO
    assert set(count) == {0, 1}


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_rows_of_a_call_that_is_not_the_models_own_are_not_guessed(toys, cfg):
    model, shot, known = with_nag(toys("wan-t2v"), NAG_CONTEXT), Shot("wan-t2v", cfg=cfg, steps=1), []

    def note(call, proceed):
        known.append(call.batch)
        return proceed(call)

    def index(call, proceed):
        known.append(call.positive_rows)
        return proceed(call)

    assert torch.equal(
        sample(edit_attention(model, "note", note, sites=("text",)), shot),
        sample(model, shot),
    )
    assert known == ([(0,), None] if cfg == 1.0 else [None, None, None]) * 4
    with pytest.raises(RuntimeError, match=r"^index: another patch \(KJNodes WanVideoNAG is one\) calls the text"):
        sample(edit_attention(model, "index", index, sites=("text",)), shot)
    # in a pass of the negative alone there is no positive row to guess
    if cfg == 3.0:
        passed = []

        def negative_only(call, proceed):
            if call.forward.rows == (1,):
                passed.append(call.positive_rows)
            return proceed(call)

        longer = with_nag(toys("wan-t2v"), seeded(1, 9, 32, seed=61))
        sample(edit_attention(longer, "negative_only", negative_only, sites=("text",)), shot.but(negative_words=9))
        assert passed
        assert not any(passed)


def test_a_second_prompt_is_no_side_block(toys):
    """VACE's own blocks bear the number of the block that they follow; they begin with a self-attention."""
    streams = []

    def watch(call, proceed):
        streams.append((call.site.kind, call.site.block, call.site.stream, call.batch))
        return proceed(call)

    model = edit_attention(with_nag(toys("wan-vace"), NAG_CONTEXT), "watch", watch, sites=("self", "text"))
    sample(model, Shot("wan-vace", steps=1, cfg=1.0))
    main = [("self", "double", (0,)), ("text", "double", (0,)), ("text", "double", None)]
    side = [("self", "side", (0,)), ("text", "side", (0,))]
    expected = main + side + main + main + side + main
    assert [(kind, stream, batch) for kind, _, stream, batch in streams] == expected
    assert [block for _, block, _, _ in streams] == [0] * 5 + [1] * 3 + [2] * 5 + [3] * 3


@pytest.mark.parametrize(
    ("interval", "part", "level"),
    [
        ((0.0, 0.1), {"start_step": 4}, "INFO"),
        ((0.9, 1.0), {"last_step": 4}, "INFO"),
        ((0.9, 0.95), {}, "WARNING"),
        ((0.5, 0.5), {"start_step": 4}, "WARNING"),
        ((0.51, 0.52), {"start_step": 3}, "WARNING"),
        ((0.0, 0.1), {"last_step": 4}, None),
    ],
)
def test_an_expert_outside_its_part_is_no_mistake(toys, caplog, interval, part, level):
    """Patched on both experts of Wan 2.2, the interval lies in the run of one of them."""
    model = toys("wan-t2v")
    patched = edit_attention(
        model, "x", lambda call, proceed: proceed(call), sites=("text",), interval=Interval(*interval)
    )
    with caplog.at_level("INFO"):
        sample(patched, Shot("wan-t2v", steps=8, **part))
    of_x = [r for r in caplog.records if "] x" in r.message and "it looked on" not in r.message]
    said = [(r.levelname, "acts in the other part" in r.message) for r in of_x]
    assert said == ([] if level is None else [(level, level == "INFO")])
    assert all("Widen" not in r.message for r in caplog.records if r.levelname == "INFO")
