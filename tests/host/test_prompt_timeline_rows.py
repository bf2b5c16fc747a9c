"""Which rows of the batch a timeline is of: several prompts, areas, masks, context windows, other packs."""

import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras import nodes_custom_sampler as guiders

from nodes import ConditioningSetArea, ConditioningSetMask
from semantic_video.harness.sampling import Shot, conditioning, sample
from semantic_video.harness.toy import TOYS
from semantic_video.host.editing import edit_attention
from semantic_video.patches.prompt_timeline import PromptTimeline, apply
from semantic_video.tests.host import naive
from semantic_video.tests.host.guiders import run
from semantic_video.tests.host.nag import NAG_CONTEXT, with_nag
from semantic_video.tests.host.stacking import windows
from semantic_video.tests.host.timelines import BORDERS, close, columns, each_frames_own_text, timeline

SHOT = Shot("wan-t2v")
FIRST, SECOND = timeline(SHOT), timeline(SHOT, words=(5, 13), borders=(1.0,), first_seed=50)
ORDINARY = conditioning(SHOT, 18, 21)
PROMPTS = {"first": FIRST, "second": SECOND, "ordinary": ORDINARY}


def outputs(model, conds, height=4, width=8):
    """What the diffusion model gave at the first step, by (prompt, width seen)."""
    seen = {}

    def probe(executor, x, timestep, context, *args, **kwargs):
        out = executor(x, timestep, context, *args, **kwargs)
        for text, row in zip(context, out):
            [name] = [name for name, known in PROMPTS.items() if torch.equal(known[0][0][0], text)]
            seen.setdefault((name, row.shape[-1]), []).append(row)
        return out

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "probe", probe)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*conds)
    guider.set_cfg(3.0)
    run(guider, height=height, width=width)
    return seen


def alone(model, prompt, height=4, width=8):
    guider = guiders.Guider_Basic(model)
    guider.set_conds(prompt)
    kept = []

    def probe(executor, *args, **kwargs):
        kept.append(executor(*args, **kwargs))
        return kept[-1]

    guider.model_patcher.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "probe", probe)
    run(guider, height=height, width=width)
    return kept[0][0]


def area(prompt, x):
    return ConditioningSetArea().append(prompt, 32, 32, x, 0, 1.0)[0]


def patched(toys):
    return apply(toys("wan-t2v"), FIRST, PromptTimeline())


@pytest.fixture(params=["batched", "split"])
def calls(request, monkeypatch):
    if request.param == "split":
        monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)


@pytest.mark.parametrize(
    "conds", [(FIRST, SECOND), (ORDINARY, FIRST), (FIRST, ORDINARY)], ids=["two", "negative", "positive"]
)
def test_each_prompt_is_what_it_is_alone(toys, conds, calls):
    seen = outputs(patched(toys), conds)
    plain = toys("wan-t2v")
    assert len(seen) == 2
    for (name, _), [row] in seen.items():
        close(row, alone(patched(toys), PROMPTS[name]))
        same = torch.allclose(row, alone(plain, PROMPTS[name]), rtol=1e-2, atol=1e-2)
        assert same == (name == "ordinary")


def test_regions_have_timelines_of_their_own(toys, calls):
    """Two halves, and a negative prompt of which the host makes copies for each, under the uuid of the region's."""
    seen = outputs(patched(toys), (area(FIRST, 0) + area(SECOND, 32), ORDINARY))
    assert {key: len(rows) for key, rows in seen.items()} == {
        ("first", 4): 1,
        ("second", 4): 1,
        ("ordinary", 4): 2,
        ("ordinary", 8): 1,
    }
    for name, x in (("first", 0), ("second", 32)):
        close(seen[name, 4][0], alone(patched(toys), area(PROMPTS[name], x)))
    rows = seen["ordinary", 4]
    for x in (0, 32):
        expected = alone(toys("wan-t2v"), area(ORDINARY, x))
        assert any(torch.allclose(row, expected, rtol=1e-3, atol=1e-4) for row in rows)


def test_a_copy_of_a_negative_timeline_is_a_timeline(toys, calls):
    """The positive prompt has an area, the negative a timeline: its copy for that area is one too."""
    seen = outputs(patched(toys), (area(ORDINARY, 0), FIRST))
    [whole], [copy] = seen["first", 8], seen["first", 4]
    close(whole, alone(patched(toys), FIRST))
    close(copy, alone(patched(toys), area(FIRST, 0)))


def test_masked_prompts_keep_their_timelines(toys, calls):
    mask = torch.zeros(1, 32, 64)
    mask[..., :32] = 1
    left, right = (
        ConditioningSetMask().append(prompt, m, "default", 1.0)[0] for prompt, m in ((FIRST, mask), (SECOND, 1 - mask))
    )
    seen = outputs(patched(toys), (left + right, ORDINARY))
    for name in ("first", "second"):
        close(seen[name, 8][0], alone(patched(toys), PROMPTS[name]))


@pytest.mark.parametrize("toy", ["wan-t2v", "hunyuan-t2v"])
def test_context_windows_around_it(toys, toy, monkeypatch):
    """Of 13 frames a window sees 8 and, but for the first, the one before: each the text of its place in the video."""
    shot = Shot(toy, frames=13)
    model, positive = windows(toys(toy), length=8, overlap=2), timeline(shot)
    got = sample(apply(model, positive, PromptTimeline()), shot, positive=positive)
    if toy != "wan-t2v":  # values: in windows of the whole video it is test_prompt_timeline_joint's
        assert torch.isfinite(got).all()
        return
    seen = set()

    def formula(kind, q, k, v, options):
        out = naive.attention(q, k, v)
        window = options["context_window"]
        frames = [
            f for f in (getattr(window, "causal_anchor_index", -1), *window.index_list) if f is not None and f >= 0
        ]
        owners = [sum((4 * f - 1) / 16 >= border for border in BORDERS) for f in frames]
        seen.add(tuple(frames))
        for row, chunk in enumerate(options["cond_or_uncond"]) if kind == "text" else ():
            if chunk == 0:
                one = slice(row, row + 1)
                out[one] = each_frames_own_text(q[one], k[one], v[one], owners)
        return out

    naive.in_wan(monkeypatch, formula)
    close(got, sample(model, shot, positive=positive))
    assert len(seen) > 1 and {len(frames) for frames in seen} == {8, 9}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("toy", ["wan-t2v", "hunyuan-t2v"])
def test_half_precision_keeps_its_dtype(toys, toy, dtype):
    model, shot = toys(toy, dtype=dtype), Shot(toy, steps=2)
    positive = timeline(shot)
    got = sample(apply(model, positive, PromptTimeline(hand_over=0.3)), shot, positive=positive)
    exact = sample(apply(toys(toy), positive, PromptTimeline(hand_over=0.3)), shot, positive=positive)
    assert (got - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("toy", TOYS)
def test_a_batch_of_two_videos_is_two(toys, toy):
    shot = Shot(toy, batch=2, steps=1)
    if "ref_latent" in TOYS[toy].conds or toy in ("wan-in-context", "wan-reference"):
        pytest.skip("the host takes one reference for one video")
    positive = timeline(shot)
    model = apply(toys(toy), positive, PromptTimeline())
    both = sample(model, shot, positive=positive)
    assert both.shape[0] == 2 and torch.isfinite(both).all()


def test_beside_nag(toys):
    """With the negative prompt in a call of its own the rows are known, and NAG's own prompt is left as it is; with
    both in one they are not."""
    nag = with_nag(toys("wan-t2v"), NAG_CONTEXT)
    split = SHOT.but(negative_words=7, steps=1)
    alone = sample(apply(toys("wan-t2v"), FIRST, PromptTimeline()), split, positive=FIRST)
    assert not torch.allclose(sample(apply(nag, FIRST, PromptTimeline()), split, positive=FIRST), alone)
    with pytest.raises(RuntimeError, match="^Prompt Timeline: another patch .* Remove that patch or this one"):
        sample(apply(nag, FIRST, PromptTimeline()), SHOT.but(negative_words=18), positive=FIRST)


def test_text_that_was_cut_is_named(toys):
    [[text, extras]] = FIRST
    cut = [[text[:, :10], extras]]
    with pytest.raises(RuntimeError, match="model sees 10 text tokens, but the timeline's spans have 18"):
        sample(patched(toys), SHOT, positive=cut)


def test_keys_of_a_part_are_its_own_text(toys):
    """No call of the host's attention gets more than one span's text, so that a mask is never needed."""
    seen = []

    def override(func, q, k, v, *args, mask=None, **kwargs):
        seen.append((k.shape[1], mask))
        return func(q, k, v, *args, mask=mask, **kwargs)

    model = patched(toys)
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    sample(model, SHOT.but(steps=1, cfg=1.0), positive=FIRST)
    lengths = {one.stop - one.start for one in columns()}
    assert {keys for keys, _ in seen} == lengths | {36} and all(mask is None for _, mask in seen)


def test_two_timelines_on_one_model_the_later_acts(toys):
    """As for a negative prompt with a timeline of its own: the node of the positive comes last."""
    model = edit_attention(toys("wan-t2v"), "other", lambda call, proceed: proceed(call), sites=("text",))
    once = apply(model, FIRST, PromptTimeline())
    twice = apply(apply(model, SECOND, PromptTimeline(strength=0.5)), FIRST, PromptTimeline())
    a, b = (sample(one, SHOT, positive=FIRST, negative=SECOND) for one in (once, twice))
    assert torch.equal(a, b)
