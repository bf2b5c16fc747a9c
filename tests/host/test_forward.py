"""What a call of the model is of: which conditioning each batch row belongs to, under every guider, and beside patches
that call the attention with a part of the batch."""

import comfy.ldm.modules.attention as host_attention
import comfy.samplers
import pytest
import torch
from comfy_extras import nodes_custom_sampler as guiders
from comfy_extras.nodes_perpneg import Guider_PerpNeg
from comfy_extras.nodes_video_model import ConditioningSetAreaPercentageVideo

from nodes import ConditioningSetArea
from semantic_video.harness.sampling import Shot, conditioning, sample, seeded
from semantic_video.host.call import by_crop
from semantic_video.host.editing import edit_attention
from semantic_video.host.schedule import Interval

CONDS = {"positive": 20, "negative": 21, "middle": 22, "empty": 23}  # seeds


def cond(name, words=7, **changes):
    [[text, extra]] = conditioning(Shot("wan-t2v"), words, CONDS[name])
    return [[text, extra | changes]]


def run(guider, steps=1, frames=9, height=4, width=4, channels=16):
    noise = seeded(1, channels, frames, height, width, seed=1)
    sigmas = comfy.samplers.calculate_sigmas(guider.model_patcher.get_model_object("model_sampling"), "simple", steps)
    return guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, seed=1)


def named_rows(forward):
    """(name, row) of each batch row, the name by the text it carries."""
    context, words = forward.arguments["context"], forward.layout.text
    names = {name: conditioning(Shot("wan-t2v"), words, seed)[0][0] for name, seed in CONDS.items()}
    return {
        (next(name for name, text in names.items() if torch.equal(text[0], row)), kind)
        for row, kind in zip(context, forward.rows, strict=True)
    }


def watching(model):
    seen, calls = set(), []

    def watch(call, proceed):
        seen.update(named_rows(call.forward))
        calls.append((call.rows, call.positive_rows))
        return proceed(call)

    return edit_attention(model, "watch", watch, sites=("text",)), seen, calls


def cfg_guider(model, words):
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(cond("positive"), cond("negative", words))
    guider.set_cfg(3.0)
    return guider


def basic_guider(model, words):
    guider = guiders.Guider_Basic(model)
    guider.set_conds(cond("positive"))
    return guider


def dual_cfg_guider(model, words, nested=False):
    guider = guiders.Guider_DualCFG(model)
    guider.set_conds(cond("positive"), cond("middle", words), cond("negative", words))
    guider.set_cfg(3.0, 2.0, nested)
    return guider


def dual_model_guider(model, words):
    guider = guiders.Guider_DualModel(model, model.clone())
    guider.set_conds(cond("positive"), cond("negative", words))
    guider.set_cfg(3.0)
    return guider


def perp_neg_guider(model, words):
    guider = Guider_PerpNeg(model)
    guider.set_conds(cond("positive"), cond("negative", words), cond("empty", words))
    guider.set_cfg(3.0, 1.0)
    return guider


TWO = {("positive", 0), ("negative", 1)}


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


# ---- another pack calls the text attention on parts of the batch, as KJNodes WanVideoNAG does


def with_nag(model, context, attention=None, scale=3.0):
    """A stand-in: cross_attn.forward replaced in every block, the batch cut in two at CFG, the first half attending
    once more, to a negative prompt of its own."""
    model = model.clone()

    def host(q, k, v, heads, options):
        return host_attention.optimized_attention(q, k, v, heads=heads, transformer_options=options)

    attention = attention or host

    def forward_of(own):
        def attend(x, text, options):
            q = own.norm_q(own.q(x))
            return attention(q, own.norm_k(own.k(text)), own.v(text), own.num_heads, options)

        def forward(x, context_, transformer_options=None, **kwargs):
            halves = x.chunk(2) if len(x) > 1 else (x,)
            texts = context_.chunk(2) if len(x) > 1 else (context_,)
            positive = attend(halves[0], texts[0], transformer_options)
            negative = attend(halves[0], own_context.expand(len(halves[0]), -1, -1), transformer_options)
            out = [scale * positive - (scale - 1) * negative]
            out += [attend(*pair, transformer_options) for pair in zip(halves[1:], texts[1:])]
            return own.o(torch.cat(out))

        return forward

    module = model.model.diffusion_model
    own_context = module.text_embedding(context)
    for i, block in enumerate(module.blocks):
        model.add_object_patch(f"diffusion_model.blocks.{i}.cross_attn.forward", forward_of(block.cross_attn))
    return model


NAG_CONTEXT = seeded(1, 7, 32, seed=60)


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


# ---- conditioning areas and context windows: the model sees a part of the video


def at(name, node, *where):
    return node().append(cond(name), *where, 1.0)[0]


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


# ---- intervals and runs over a part of the schedule


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
    said = [(r.levelname, "acts in the other part" in r.message) for r in caplog.records if "] x" in r.message]
    assert said == ([] if level is None else [(level, level == "INFO")])
    assert all("Widen" not in r.message for r in caplog.records if r.levelname == "INFO")
