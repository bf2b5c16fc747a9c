"""Where and when the SSG Adapter acts: masks, frames, context windows, passes and steps."""

import comfy.samplers
import pytest
import torch

from semantic_video.harness.sampling import Shot, sample, seeded
from semantic_video.harness.toy import STRAIGHT
from semantic_video.host.editing import edit_attention
from semantic_video.host.schedule import Interval
from semantic_video.patches import ssg_adapter
from semantic_video.patches.ssg_adapter import apply
from semantic_video.patches.ssg_guide import Guide
from semantic_video.tests.host.ssg_reference import IMAGE, NEAR, outputs_of
from semantic_video.tests.host.stacking import windows


def added(model, adapter, guide, shot):
    """What the branch adds to the attention of the adapter's first block at the first step, [rows, frames, height,
    width, channels], and the rows."""
    seen = {}

    def before(call, proceed):
        seen.setdefault("before", proceed(call))
        return proceed(call)

    def after(call, proceed):
        out = proceed(call)
        if call.site.block == adapter.model.spec.blocks[0] and "after" not in seen:
            seen.update(after=out, call=call)
        elif call.site.block < adapter.model.spec.blocks[0]:
            seen.clear()
        return out

    sites = {"sites": ("text", "joint")}
    inner = edit_attention(model, "before", before, **sites)
    sample(edit_attention(apply(inner, adapter, guide), "after", after, **sites), shot)
    call, layout = seen["call"], seen["call"].forward.layout
    difference = seen["after"] - seen["before"]
    video = difference[:, call.before : difference.shape[1] - call.after]
    assert not difference[:, : call.before].any(), "text and reference tokens do not look"
    return video.unflatten(1, (layout.frames, layout.height, layout.width)), call.forward.rows


@pytest.mark.parametrize("name", STRAIGHT)
def test_a_mask_weights_every_token(toys, adapters, name):
    model, shot, adapter = toys(name), Shot(name, steps=1), adapters(name, blocks=(0,))
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1.0
    whole, masked = (added(model, adapter, Guide(IMAGE, m), shot)[0] for m in (None, mask))
    middle = whole.shape[3] // 2
    assert whole[..., :middle, :].any()
    assert not masked[..., :middle, :].any()
    torch.testing.assert_close(masked[..., middle:, :], whole[..., middle:, :], rtol=1e-3, atol=1e-6)
    halved = added(model, adapter, Guide(IMAGE, 0.5 * torch.ones(1, 8, 8)), shot)[0]
    torch.testing.assert_close(halved, 0.5 * added(model, adapter, Guide(IMAGE), shot)[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("count", [9, 33])
def test_a_mask_per_frame(toys, adapters, count):
    model, shot, adapter = toys("wan-t2v"), Shot("wan-t2v", steps=1), adapters(blocks=(0,))
    mask = torch.zeros(count, 8, 8)
    mask[3 if count == 9 else 12] = 1.0
    difference, _ = added(model, adapter, Guide(IMAGE, mask), shot)
    assert [bool(frame.any()) for frame in difference[0]] == [frame == 3 for frame in range(9)]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("count", [1, 9, 33])
def test_context_windows_take_their_part(toys, adapters, causal, count, monkeypatch):
    mask = (torch.arange(count) / max(count - 1, 1)).view(-1, 1, 1).expand(-1, 4, 4)
    features, real, seen = IMAGE + torch.arange(count).view(-1, 1, 1), ssg_adapter.prompt_and_weights, {}

    def watch(module, guide, call):
        prompt, weight = real(module, guide, call)
        seen[call.forward.frames] = [round(8 * float(w.mean()), 3) for w in weight]
        assert len(prompt.tokens) == len(weight)
        return prompt, weight

    monkeypatch.setattr(ssg_adapter, "prompt_and_weights", watch)
    model = windows(toys("wan-t2v"), causal_window_fix=causal)
    result = sample(apply(model, adapters(), Guide(features, mask)), Shot("wan-t2v", steps=1))
    assert torch.isfinite(result).all()
    assert len(seen) == 3
    for frames, weights in seen.items():
        assert weights == ([0.0] if count == 1 else list(map(float, frames)))


def test_one_image_per_frame(toys, adapters, monkeypatch):
    model, shot, adapter = toys("wan-t2v"), Shot("wan-t2v", steps=1), adapters(blocks=(0,))
    one = sample(apply(model, adapter, Guide(IMAGE)), shot)
    torch.testing.assert_close(sample(apply(model, adapter, Guide(IMAGE.repeat(9, 1, 1))), shot), one, **NEAR)
    images = IMAGE.repeat(9, 1, 1)
    images[5] = seeded(13, 20, seed=31)
    both = [added(model, adapter, Guide(i), shot)[0] for i in (IMAGE, images)]
    changed = [not torch.allclose(a, b, **NEAR) for a, b in zip(*(x[0] for x in both))]
    assert changed == [frame == 5 for frame in range(9)]
    whole = sample(apply(model, adapter, Guide(images)), shot)
    monkeypatch.setattr(ssg_adapter, "CHUNK", 8)
    torch.testing.assert_close(sample(apply(model, adapter, Guide(images)), shot), whole, **NEAR)
    torch.testing.assert_close(sample(apply(model, adapter, Guide(IMAGE)), shot), one, **NEAR)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("name", STRAIGHT)
def test_conditional_leaves_the_negative_pass_alone(toys, adapters, name, split, batch, monkeypatch):
    model, shot, adapter = toys(name), Shot(name, steps=1, batch=batch), adapters(name)
    if split:
        monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    plain, only, both = (
        outputs_of(m, shot)
        for m in (model, apply(model, adapter, Guide(IMAGE, passes="conditional")), apply(model, adapter, Guide(IMAGE)))
    )
    assert torch.equal(plain[1], only[1])
    assert not torch.allclose(plain[0], only[0], **NEAR)
    torch.testing.assert_close(only[0], both[0], **NEAR)
    assert not torch.allclose(plain[1], both[1], **NEAR)


def test_start_and_end(toys, adapters):
    model, shot, adapter, steps = toys("wan-t2v"), Shot("wan-t2v", steps=8), adapters(), []

    def watch(call, proceed):
        steps.append(call.forward.step)
        return proceed(call)

    plain = sample(model, shot)
    assert torch.equal(plain, sample(apply(model, adapter, Guide(IMAGE, interval=Interval(0.5, 0.5))), shot))
    late = apply(model, adapter, Guide(IMAGE, interval=Interval(0.5, 1.0)))
    frames = []
    sample(model, shot, lambda step, x0, x, total: frames.append(x.clone()))
    sample(late, shot, lambda step, x0, x, total: frames.append(x.clone()))
    same = [torch.equal(a, b) for a, b in zip(frames[:8], frames[8:])]
    assert same == [True] * 5 + [False] * 3, "x is what a step starts from: the fifth step is the first to act"
