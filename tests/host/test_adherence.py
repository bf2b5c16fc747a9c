"""What Text Contrast, AlignVid, DyMoS and ALG have in common: when they are the host, and what they stack with."""

import comfy.samplers
import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import TOYS
from semantic_video.host.editing import EDITORS, edit_attention
from semantic_video.host.schedule import Interval
from semantic_video.patches import alg, alignvid, dymos, swin_renderer, text_contrast
from semantic_video.tests.host.stacking import foreign, windows

LOW = Interval(min_sigma=0.0)
PATCHES = {
    "Text Contrast": lambda model, strength=1.0, interval=LOW: text_contrast.apply(
        model, text_contrast.TextContrast(strength, interval=interval)
    ),
    "AlignVid": lambda model, strength=1.0, interval=LOW: alignvid.apply(
        model, alignvid.AlignVid(strength=strength, interval=interval)
    ),
    "DyMoS": lambda model, strength=1.0, interval=LOW: dymos.apply(
        model, dymos.DyMoS(strength=strength, interval=interval)
    ),
    "ALG": lambda model, strength=1.0, interval=LOW: alg.apply(
        model, alg.ALG(strength=strength, interval=interval, min_sigma=0.0)
    ),
    "ALG three passes": lambda model, strength=1.0, interval=LOW: alg.apply(
        model, alg.ALG(0.0, "three passes (published)", strength, interval, 0.0)
    ),
}
WITH_IMAGE = ("wan-i2v", "wan-i2v-clip", "wan-camera", "hunyuan-i2v")  # whose runs carry a start image
PAIRS = [(patch, toy) for patch in PATCHES for toy in TOYS if "ALG" not in patch or toy in WITH_IMAGE]
ONE_OF_EACH = [(patch, toy) for patch, toy in PAIRS if toy in ("wan-i2v-clip", "hunyuan-i2v")]


@pytest.mark.parametrize(("patch", "toy"), PAIRS)
def test_strength_zero_and_no_step_are_the_host_bit_for_bit(toys, patch, toy):
    model, shot = toys(toy), Shot(toy)
    plain = sample(model, shot)
    assert PATCHES[patch](model, 0.0) is model
    assert torch.equal(plain, sample(PATCHES[patch](model, 0.0), shot))
    assert torch.equal(plain, sample(PATCHES[patch](model, interval=Interval(0.99, 1.0)), shot))


@pytest.mark.parametrize(("patch", "toy"), PAIRS)
def test_it_acts_and_the_parent_stays(toys, patch, toy):
    model, shot = toys(toy), Shot(toy)
    plain = sample(model, shot)
    patched = PATCHES[patch](model)
    half, full = sample(PATCHES[patch](model, 0.5), shot), sample(patched, shot)
    assert torch.isfinite(full).all()
    assert 0 < (half - plain).norm() < (full - plain).norm()
    assert torch.equal(plain, sample(model, shot))
    assert EDITORS not in model.model_options["transformer_options"]
    assert not any(model.wrappers.values())


@pytest.mark.parametrize(("patch", "toy"), ONE_OF_EACH)
def test_batched_and_split_cfg_agree(toys, patch, toy, monkeypatch):
    if toy == "hunyuan-i2v":
        toy = "wan-i2v"  # the host never batches the former
    model, shot = PATCHES[patch](toys(toy)), Shot(toy)
    batched = sample(model, shot)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, sample(model, shot), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("patch", "toy"), ONE_OF_EACH)
def test_all_four_stack_in_any_order(toys, patch, toy):
    model, shot = toys(toy), Shot(toy)
    others = [name for name in PATCHES if name.split()[0] != patch.split()[0] and name != "ALG three passes"]

    def stacked(names):
        result = model
        for name in names:
            result = PATCHES[name](result)
        return sample(result, shot)

    first, last = stacked([patch, *others]), stacked([*reversed(others), patch])
    torch.testing.assert_close(first, last, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first, stacked(others), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("patch", "toy"), [*ONE_OF_EACH, ("DyMoS", "hunyuan-t2v"), ("Text Contrast", "hunyuan-1.5")])
def test_it_stacks_with_windows_in_both_orders(toys, patch, toy):
    model, shot = toys(toy), Shot(toy)
    swin = swin_renderer.SwinRenderer(window=4)
    one = sample(swin_renderer.apply(PATCHES[patch](model), swin), shot)
    other = sample(PATCHES[patch](swin_renderer.apply(model, swin)), shot)
    assert torch.equal(one, other)
    for alone in (PATCHES[patch](model), swin_renderer.apply(model, swin)):
        assert not torch.allclose(one, sample(alone, shot), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("patch", "toy"), ONE_OF_EACH)
@pytest.mark.parametrize("foreign_first", [True, False])
def test_a_foreign_override_is_kept(toys, patch, toy, foreign_first):
    """One that changes nothing is called, and nothing changes."""
    model, shot, log = toys(toy), Shot(toy), []
    both = model.clone() if foreign_first else PATCHES[patch](model)
    both.model_options["transformer_options"]["optimized_attention_override"] = foreign(1.0, log)
    both = PATCHES[patch](both) if foreign_first else both
    torch.testing.assert_close(sample(both, shot), sample(PATCHES[patch](model), shot), rtol=1e-4, atol=1e-5)
    assert log


@pytest.mark.parametrize(("patch", "toy"), ONE_OF_EACH)
def test_a_foreign_override_that_acts_acts_once(toys, patch, toy):
    model, shot, log = toys(toy), Shot(toy), []
    both = PATCHES[patch](model)
    both.model_options["transformer_options"]["optimized_attention_override"] = foreign(1.5, log)
    got = sample(both, shot)
    assert torch.isfinite(got).all()
    assert not torch.allclose(got, sample(PATCHES[patch](model), shot), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("toy", ["wan-i2v-clip", "hunyuan-i2v"])
def test_context_windows(toys, patch, toy):
    model, shot = toys(toy), Shot(toy, frames=13)
    cut = windows(model, length=8, overlap=2)
    one, other = sample(PATCHES[patch](cut), shot), sample(windows(PATCHES[patch](model), length=8, overlap=2), shot)
    assert torch.isfinite(one).all()
    assert torch.equal(one, other)
    assert not torch.allclose(one, sample(cut, shot), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("patch", "toy"), ONE_OF_EACH)
def test_half_precision(toys, patch, toy, dtype):
    """Close to full precision, compared with what half precision does to the plain model."""
    model, half, shot = toys(toy), toys(toy, dtype=dtype), Shot(toy, steps=2)
    rounding = (sample(half, shot) - sample(model, shot)).norm()
    assert (sample(PATCHES[patch](half), shot) - sample(PATCHES[patch](model), shot)).norm() < 3 * rounding + 1e-3


@pytest.mark.parametrize("patch", PATCHES)
def test_patched_twice_it_acts_once(toys, patch):
    model, shot = toys("wan-i2v"), Shot("wan-i2v")
    once, twice = PATCHES[patch](model), PATCHES[patch](PATCHES[patch](model, 0.3))
    assert torch.equal(sample(once, shot), sample(twice, shot))


@pytest.mark.parametrize("patch", ["Text Contrast", "AlignVid", "DyMoS"])
def test_blocks_beside_the_model_s_own_stay(toys, patch):
    """VACE's side blocks see nothing of the main ones in a step: all that they attend with stays, bit for bit."""
    model, shot = toys("wan-vace"), Shot("wan-vace", steps=1)

    def side_calls(of):
        calls = []

        def watch(call, proceed):
            if call.site.stream == "side":
                assert call.mask is None
                calls.append((call.q.clone(), call.k.clone(), call.v.clone()))
            return proceed(call)

        sample(edit_attention(of, "watch", watch, sites=("self", "text"), splits="windows"), shot)
        return calls

    plain, patched = side_calls(model), side_calls(PATCHES[patch](model))
    assert len(plain) == len(patched) == 2 * 2
    for before, after in zip(plain, patched):
        assert all(torch.equal(x, y) for x, y in zip(before, after))


@pytest.mark.parametrize(("patch", "config", "message"), [
    (text_contrast, lambda: text_contrast.TextContrast(2.5), "strength 2.5: must be from 0"),
    (text_contrast, lambda: text_contrast.TextContrast(float("nan")), "strength nan: must be from 0"),
    (text_contrast, lambda: text_contrast.TextContrast(blocks="0-9"), "blocks: '0-9' is out of range.*0 to 3"),
    (alignvid, lambda: alignvid.AlignVid(gamma=0.1), "gamma 0.1: must be from 0.5"),
    (alignvid, lambda: alignvid.AlignVid(strength=1.2), "strength 1.2: must be from 0"),
    (alignvid, lambda: alignvid.AlignVid(blocks="all"), "blocks: 'all' is not a block.*Or write auto"),
    (alignvid, lambda: alignvid.AlignVid(interval=Interval(min_sigma=1.5)), "min_sigma 1.5: must be a noise level"),
    (dymos, lambda: dymos.DyMoS(gamma=9.0), "gamma 9.0: must be from -5"),
    (dymos, lambda: dymos.DyMoS(strength=-1.0), "strength -1.0: must be from 0"),
    (alg, lambda: alg.ALG(factor=-0.5), "factor -0.5: must be above 0"),
    (alg, lambda: alg.ALG(guidance="some"), "guidance 'some': choose one of two passes"),
    (alg, lambda: alg.ALG(strength=3.0), "strength 3.0: must be from 0"),
])  # fmt: skip
def test_bad_settings_are_refused_by_the_node(toys, patch, config, message):
    with pytest.raises(ValueError, match=message):
        patch.apply(toys("wan-i2v"), config())
