"""The SSG Adapter on real ComfyUI: the formula, where it acts, what it leaves alone, and what it refuses."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import comfy.ldm.flux.layers
import comfy.ldm.wan.model
import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from safetensors.torch import load_file, save_file

from semantic_video.harness.sampling import Shot, clip_vision, conditioning, sample, seeded
from semantic_video.harness.toy import STRAIGHT, TOYS, write_toy, write_toy_adapter
from semantic_video.host.editing import edit_attention
from semantic_video.host.schedule import Interval
from semantic_video.kernels import rope
from semantic_video.kernels import ssg_adapter as kernel
from semantic_video.kernels.ssg_adapter import SSGAdapter, initialise
from semantic_video.kernels.ssg_spec import Spec
from semantic_video.nodes.ssg_adapter import SSGAdapterApplyNode, SSGAdapterLoaderNode
from semantic_video.patches import ssg_adapter
from semantic_video.patches.per_frame import per_latent_frame
from semantic_video.patches.ssg_adapter import apply
from semantic_video.patches.ssg_adapter_file import load_adapter
from semantic_video.patches.ssg_guide import Guide
from semantic_video.patches.swin_renderer import SwinRenderer
from semantic_video.patches.swin_renderer import apply as swin
from semantic_video.tests.host.stacking import foreign, windows
from semantic_video.tests.kernels.test_ssg_adapter import naive_branch

SMALL = {"clip_width": 20, "grid": (3, 4), "token_width": 10}
BLOCKS = {"wan-t2v": (0, 2), "wan-i2v-clip": (0, 2), "hunyuan-t2v": (1, 3), "hunyuan-1.5": (0, 3)}
IMAGE = seeded(1, 13, 20, seed=30)
NEAR = {"rtol": 1e-3, "atol": 1e-4}


def fresh(name, tmp_path, **changes):
    """An adapter as training starts with it."""
    spec = Spec.read(
        load_spec(write_toy_adapter(tmp_path / "spec.safetensors", name, **SMALL | {"blocks": BLOCKS[name]} | changes))
    )
    adapter = SSGAdapter(spec)
    initialise(adapter)
    save_file(adapter.state_dict(), tmp_path / "fresh.safetensors", spec.metadata)
    return load_adapter(tmp_path / "fresh.safetensors")


def load_spec(path):
    from semantic_video.host.weights import Checkpoint

    return Checkpoint(path).metadata


def written(q, k, v, mask=None):
    """Attention in fp64, [batch, tokens, heads, dim] -> [batch, queries, heads * dim]."""
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return ((scores if mask is None else scores + mask).softmax(-1) @ v).transpose(1, 2).flatten(2)


def in_fp64(adapter):
    copy = SSGAdapter(adapter.model.spec, dtype=torch.float64)
    copy.load_state_dict({key: value.double() for key, value in adapter.model.state_dict().items()})
    return copy


def written_wan(adapter, strength, features, height, width, weight=1.0):
    """Wan's cross-attentions with the formula written out."""
    module = in_fp64(adapter)

    def text(self, x, context, transformer_options, image=None):
        heads = (self.num_heads, self.head_dim)
        q, k, v = (
            y.unflatten(2, heads) for y in (self.norm_q(self.q(x)), self.norm_k(self.k(context)), self.v(context))
        )
        y = written(q, k, v)
        if image is not None:
            y = y + written(
                q, self.norm_k_img(self.k_img(image)).unflatten(2, heads), self.v_img(image).unflatten(2, heads)
            )
        block = transformer_options["block_index"]
        if block in module.spec.blocks:
            y = y + strength * weight * torch.stack(
                [naive_branch(module, block, row.double(), features[0].double(), height, width) for row in q]
            )
        return self.o(y.to(x.dtype))

    def t2v(self, x, context, transformer_options, **kwargs):
        return text(self, x, context, transformer_options)

    def i2v(self, x, context, context_img_len, transformer_options):
        return text(self, x, context[:, context_img_len:], transformer_options, context[:, :context_img_len])

    return [
        (comfy.ldm.wan.model.WanT2VCrossAttention, "forward", t2v),
        (comfy.ldm.wan.model.WanI2VCrossAttention, "forward", i2v),
    ]


def written_hunyuan(adapter, strength, features, height, width, doubles):
    """Hunyuan's joint attention with the formula written out; 9 latent frames of video come last."""
    module, rope = in_fp64(adapter), comfy.ldm.flux.math.apply_rope

    def attention(q, k, v, pe, mask=None, transformer_options=None):
        q, k = rope(q, k, pe)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        y = written(q, k, v, mask)
        block = transformer_options["block_index"] + (doubles if transformer_options["block_type"] == "single" else 0)
        if block in module.spec.blocks:
            video = q.shape[1] - 9 * height * width
            y[:, video:] += strength * torch.stack(
                [naive_branch(module, block, row[video:].double(), features[0].double(), height, width) for row in q]
            )
        return y.to(q.dtype)

    return [(comfy.ldm.flux.layers, "attention", attention)]


# ---- it is the formula


def reference(name, model, adapter, shot, strength=0.7):
    size = (4, 4) if name == "hunyuan-1.5" else (2, 2)
    places = (
        written_hunyuan(adapter, strength, IMAGE, *size, len(model.model.diffusion_model.double_blocks))
        if name.startswith("hunyuan")
        else written_wan(adapter, strength, IMAGE, *size)
    )
    with pytest.MonkeyPatch.context() as patch:
        for owner, attribute, function in places:
            patch.setattr(owner, attribute, function)
        return sample(model, shot)


@pytest.mark.parametrize("spatial", ["rope", "none"])
@pytest.mark.parametrize("name", STRAIGHT)
def test_it_is_the_formula(toys, adapters, name, spatial):
    model, shot, adapter = toys(name), Shot(name, steps=1), adapters(name, spatial=spatial)
    got = sample(apply(model, adapter, Guide(IMAGE, strength=0.7)), shot)
    torch.testing.assert_close(got, reference(name, model, adapter, shot), **NEAR)
    assert not torch.allclose(got, sample(model, shot), rtol=1e-2, atol=1e-2), (
        "the branch must matter for this test to mean anything"
    )


def louder(real, *args):
    return 1.1 * real(*args)


MUTATIONS = {
    "no places": (kernel, "apply_rope", lambda real, x, turn: x),
    "places off": (rope, "patch_centres", lambda real, n, extent: 1.3 * real(n, extent)),
    "gate off": (SSGAdapter, "branch", louder),
    "class token dropped": (SSGAdapter, "tokens", lambda real, self, x: real(self, x.roll(1, 1))),
    "keys not normed": (kernel.Branch, "forward", lambda real, *args: (lambda k, v: (1.2 * k, v))(*real(*args))),
    "other tokens": (ssg_adapter, "branch_attention", lambda real, m, b, q, *args: real(m, b, q.roll(1, 1), *args)),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mistakes_are_caught(toys, adapters, mutation, monkeypatch):
    name = "wan-t2v"
    model, shot, adapter = toys(name), Shot(name, steps=1), adapters(name)
    expected = reference(name, model, adapter, shot)
    owner, attribute, mutant = MUTATIONS[mutation]
    real = getattr(owner, attribute)
    monkeypatch.setattr(owner, attribute, lambda *args: mutant(real, *args))
    assert not torch.allclose(sample(apply(model, adapter, Guide(IMAGE, strength=0.7)), shot), expected, **NEAR)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", STRAIGHT)
def test_a_new_adapter_is_the_frozen_model_bit_for_bit(toys, tmp_path, name, dtype):
    model, shot = toys(name, dtype=dtype), Shot(name)
    assert torch.equal(
        sample(model, shot), sample(apply(model, fresh(name, tmp_path), Guide(IMAGE, strength=2.0)), shot)
    )


@pytest.mark.parametrize("name", STRAIGHT)
def test_strength_zero_is_the_model_and_the_parent_stays(toys, adapters, name):
    model, shot, adapter = toys(name), Shot(name), adapters(name)
    before = sample(model, shot)
    assert apply(model, adapter, Guide(IMAGE, strength=0.0)) is model
    half, full = (sample(apply(model, adapter, Guide(IMAGE, strength=s)), shot) for s in (0.5, 1.0))
    assert 0 < (half - before).norm() < (full - before).norm()
    assert torch.equal(before, sample(model, shot))
    assert not model.get_additional_models_with_key("ssg_adapter")


@pytest.mark.parametrize(
    "name", ["wan-5b", "wan-vace", "wan-camera", "wan-reference", "wan-phantom", "wan-in-context", "hunyuan-i2v"]
)
def test_every_variant_whose_width_fits(toys, adapters, name, monkeypatch):
    model, shot, adapter, looks = toys(name), Shot(name, steps=1, negative_words=9), adapters(name), []
    plain, real = sample(model, shot), ssg_adapter.branch_attention
    monkeypatch.setattr(
        ssg_adapter,
        "branch_attention",
        lambda module, block, q, *rest: looks.append((block, q.shape[1])) or real(module, block, q, *rest),
    )
    result = sample(apply(model, adapter, Guide(IMAGE)), shot)
    assert torch.isfinite(result).all()
    assert not torch.equal(plain, result)
    assert looks == [(0, 36), (2, 36)] * 2, "video queries only, once per block; not VACE's own blocks"


# ---- where and when it acts


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


def outputs_of(model, shot):
    """What the diffusion model gave, by kind of row, at the first step."""
    seen = {}

    def probe(executor, *args, **kwargs):
        out, options = executor(*args, **kwargs), next(a for a in args if isinstance(a, dict) and "cond_or_uncond" in a)
        for row, x in zip(options["cond_or_uncond"], out.chunk(len(options["cond_or_uncond"]))):
            seen.setdefault(row, x)
        return out

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "probe", probe)
    sample(model, shot)
    return seen


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


@pytest.mark.parametrize("passes", ["both", "conditional"])
@pytest.mark.parametrize("name", STRAIGHT)
def test_batched_and_split_cfg_agree(toys, adapters, name, passes, monkeypatch):
    patched, shot = apply(toys(name), adapters(name), Guide(IMAGE, passes=passes)), Shot(name)
    batched = sample(patched, shot)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, sample(patched, shot), **NEAR)


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


# ---- beside others


@pytest.mark.parametrize("name", STRAIGHT)
def test_it_stacks_with_windows_in_both_orders(toys, adapters, name):
    model, shot, adapter = toys(name), Shot(name), adapters(name)
    config, guide = SwinRenderer(window=4), Guide(IMAGE)
    result = sample(swin(apply(model, adapter, guide), config), shot)
    assert torch.equal(result, sample(apply(swin(model, config), adapter, guide), shot))
    for alone in (swin(model, config), apply(model, adapter, guide)):
        assert not torch.allclose(result, sample(alone, shot), rtol=1e-2, atol=1e-2)


def test_it_stacks_with_video_as_prompt_in_both_orders(toys, adapters, tmp_path):
    import comfy.sample

    from semantic_video.harness.toy import write_toy_expert
    from semantic_video.host.reference import carrying
    from semantic_video.kernels.video_prompt import IMAGE as VAP_IMAGE
    from semantic_video.kernels.video_prompt import LATENT, TEXT
    from semantic_video.patches.video_prompt import VideoPrompt
    from semantic_video.patches.video_prompt import apply as with_video_prompt
    from semantic_video.patches.video_prompt_expert import load_expert

    model, adapter, guide = toys("wan-i2v-clip"), adapters("wan-i2v-clip"), Guide(IMAGE)
    expert, shot = (
        load_expert(write_toy_expert(tmp_path / "expert.safetensors"), {"dtype": torch.float32}),
        Shot("wan-i2v-clip", steps=2),
    )

    def run(of):
        reference = (
            {LATENT: seeded(1, 36, 5, 4, 4, seed=40)},
            {TEXT: seeded(1, 6, 32, seed=41), VAP_IMAGE: seeded(1, 5, 1280, seed=42)},
        )
        noise = seeded(1, 16, 9, 4, 4)
        return comfy.sample.sample(
            of,
            noise,
            2,
            3.0,
            "euler",
            "simple",
            *(carrying(conditioning(shot, 7, seed), *reference) for seed in (20, 21)),
            torch.zeros_like(noise),
            seed=1,
            disable_pbar=True,
        )

    result = run(with_video_prompt(apply(model, adapter, guide), expert, VideoPrompt()))
    assert torch.equal(result, run(apply(with_video_prompt(model, expert, VideoPrompt()), adapter, guide)))
    for alone in (with_video_prompt(model, expert, VideoPrompt()), apply(model, adapter, guide)):
        assert not torch.allclose(result, run(alone), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", STRAIGHT)
def test_a_foreign_override_in_both_orders_sees_only_the_model_s_attention(toys, adapters, name):
    model, shot, adapter = toys(name), Shot(name), adapters(name)
    results, counts = [], []
    for first in (True, False, None):
        log = []
        patched = model.clone() if first or first is None else apply(model, adapter, Guide(IMAGE))
        patched.model_options["transformer_options"]["optimized_attention_override"] = foreign(1.5, log)
        results.append(sample(apply(patched, adapter, Guide(IMAGE)) if first else patched, shot))
        counts.append(len(log))
    assert torch.equal(results[0], results[1])
    assert not torch.allclose(results[0], results[2], rtol=1e-2, atol=1e-2)
    assert len(set(counts)) == 1


def test_applied_twice_the_later_acts(toys, adapters):
    model, shot, adapter = toys("wan-t2v"), Shot("wan-t2v"), adapters()
    twice = apply(apply(model, adapter, Guide(-IMAGE)), adapter, Guide(IMAGE))
    assert torch.equal(sample(twice, shot), sample(apply(model, adapter, Guide(IMAGE)), shot))


# ---- weights


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_mixed_dtypes_and_fp8(toys, adapters, name):
    shot, full = Shot(name, steps=1), sample(apply(toys(name), adapters(name), Guide(IMAGE)), Shot(name, steps=1))
    for model, adapter, bound in (
        ({"dtype": torch.bfloat16}, None, 0.1),
        ({}, torch.bfloat16, 0.02),
        ({}, torch.float8_e4m3fn, 0.2),
        ({"dtype": torch.float8_e4m3fn}, torch.float8_e5m2, 1.0),
    ):
        loaded = adapters(name, dtype=adapter)
        assert next(loaded.model.parameters()).dtype == (adapter or torch.float32)
        result = sample(apply(toys(name, **model), loaded, Guide(IMAGE)), shot)
        assert torch.isfinite(result).all()
        assert (result - full).norm() < bound * full.norm()


def test_the_host_loads_and_clones_the_adapter(toys, adapters):
    adapter = adapters()
    patched = apply(toys("wan-t2v"), adapter, Guide(IMAGE)).clone().clone()
    sample(patched, Shot("wan-t2v", steps=1))
    assert any(
        loaded.model is not None and loaded.model.model is adapter.model
        for loaded in comfy.model_management.current_loaded_models
    )
    assert adapter.model_size() == sum(t.numel() * t.element_size() for t in adapter.model.state_dict().values())


def test_files_that_are_no_adapter_are_refused(tmp_path, adapters):
    path = write_toy_adapter(tmp_path / "adapter.safetensors", **SMALL)
    weights, metadata = load_file(path), load_spec(path)
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-100])
    (tmp_path / "noise.safetensors").write_bytes(b"nothing of the kind" * 10)
    (tmp_path / "adapter.pt").write_bytes(b"")
    save_file({"lora.up": torch.zeros(2)}, tmp_path / "lora.safetensors")
    save_file(weights, tmp_path / "newer.safetensors", metadata | {"version": "2"})
    save_file(weights, tmp_path / "wide.safetensors", metadata | {"width": "64"})
    save_file({k: v for k, v in weights.items() if "gate" not in k}, tmp_path / "part.safetensors", metadata)
    save_file({}, tmp_path / "empty.safetensors", metadata)
    for name, message in (
        ("cut.safetensors", r"cut\.safetensors: damaged or incomplete"),
        ("noise.safetensors", "damaged or incomplete"),
        ("adapter.pt", r"not a \.safetensors file"),
        ("missing.safetensors", "no such file"),
        ("lora.safetensors", r"lora\.safetensors: is no SSG Adapter: its metadata gives the format as None"),
        ("newer.safetensors", "version 2; this pack reads 1. Update the pack"),
        ("wide.safetensors", r"wide\.safetensors: .* tensors do not fit"),
        ("part.safetensors", "2 tensors do not fit, first 'branches.0.gate'"),
        ("empty.safetensors", "tensors do not fit"),
    ):
        with pytest.raises(ValueError, match=message):
            load_adapter(tmp_path / name)


# ---- what does not fit is refused before the first step


def test_models_that_do_not_fit(toys, adapters, tmp_path, monkeypatch):
    for name, adapter, message in (
        ("hunyuan-t2v", "wan-t2v", "adapter: made for Wan, this model is HunyuanVideo"),
        ("wan-t2v", "hunyuan-t2v", "adapter: made for HunyuanVideo, this model is Wan"),
        ("wan-t2v", partial(adapters, width=96), "of width 96 with 2 heads, this model has 48 with 2"),
        ("wan-t2v", partial(adapters, heads=3), "of width 48 with 3 heads, this model has 48 with 2"),
        ("wan-t2v", partial(adapters, blocks=(0, 4)), "has a branch for block 4, this model has 4 blocks"),
        (
            "hunyuan-t2v",
            partial(adapters, "hunyuan-t2v", blocks=(5,)),
            "has a branch for block 5, this model has 5 blocks",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            apply(toys(name), adapters(adapter) if isinstance(adapter, str) else adapter(), Guide(IMAGE))


def test_inputs_that_do_not_fit(toys, adapters):
    model, adapter = toys("wan-t2v"), adapters()
    bad = IMAGE.clone()
    bad[0, 3, 3] = float("nan")
    for features, message in (
        (
            seeded(1, 13, 24),
            "clip_vision_output: features of shape .* CLIP of width 20. Encode the image with the CLIP",
        ),
        (seeded(1, 17, 20), "clip_vision_output: 17 tokens per image; this adapter was trained with 3 x 4 patches"),
        (bad, "clip_vision_output: features are NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            apply(model, adapter, Guide(features))
    for changes, message in (
        (dict(mask=torch.full((1, 4, 4), float("nan"))), "mask: shape .* NaN"),
        (dict(mask=torch.zeros(0, 4, 4)), "mask: shape"),
        (dict(mask=torch.zeros(4, 4)), "mask: shape"),
        (dict(strength=-1.0), "strength -1.0"),
        (dict(strength=2.5), "strength 2.5"),
        (dict(passes="negative"), "passes 'negative'"),
    ):
        with pytest.raises(ValueError, match=message):
            Guide(IMAGE, **changes)
    stepped = []
    for guide, message in (
        (
            Guide(IMAGE, torch.ones(5, 4, 4)),
            r"mask: 5 for a video of 9 latent frames. Give 1 for all frames, 9 .* or 33",
        ),
        (Guide(IMAGE.repeat(2, 1, 1)), "clip_vision_output: 2 for a video of 9 latent frames"),
    ):
        for of in (model, windows(model)):
            with pytest.raises(ValueError, match=message):
                sample(apply(of, adapter, guide), Shot("wan-t2v"), stepped.append)
    assert not stepped


def test_per_latent_frame():
    for count, clip, expected in ((1, 5, [0]), (5, 5, [0, 1, 2, 3, 4]), (17, 5, [0, 4, 8, 12, 16]), (1, 1, [0])):
        assert per_latent_frame("mask", torch.arange(count), clip).tolist() == expected


# ---- without an adapter: the image branch of Wan 2.1 I2V

PICTURE = seeded(1, 5, 1280, seed=50)


def with_picture(model, shot, picture):
    """The host alone, with another picture in its conditioning."""
    import comfy.sample

    conds = [conditioning(shot, shot.words, 20), conditioning(shot, shot.negative_words, 21)]
    for cond in conds:
        cond[0][1]["clip_vision_output"] = clip_vision(penultimate_hidden_states=picture)
    noise = seeded(shot.batch, 16, shot.frames, shot.height, shot.width, seed=shot.seed)
    return comfy.sample.sample(
        model,
        noise,
        shot.steps,
        shot.cfg,
        "euler",
        "simple",
        *conds,
        torch.zeros_like(noise),
        seed=1,
        disable_pbar=True,
    )


@pytest.mark.parametrize("name", ["wan-i2v-clip", "wan-camera"])
def test_the_image_branch_sees_the_prompted_image(toys, name):
    model, shot = toys(name), Shot(name)
    plain, own = sample(model, shot), seeded(1, 5, 1280, seed=4)
    assert apply(model, None, Guide(PICTURE, strength=0.0)) is model
    assert torch.equal(with_picture(model, shot, own), plain)
    assert torch.equal(sample(apply(model, None, Guide(PICTURE)), shot), with_picture(model, shot, PICTURE))
    half = sample(apply(model, None, Guide(PICTURE, strength=0.5)), shot)
    torch.testing.assert_close(half, with_picture(model, shot, (own + PICTURE) / 2), **NEAR)
    assert not torch.allclose(plain, half, **NEAR)
    assert torch.equal(plain, sample(model, shot))
    assert torch.equal(plain, sample(apply(model, None, Guide(PICTURE, interval=Interval(0.5, 0.5))), shot))


@pytest.mark.parametrize("split", [True, False])
def test_the_image_branch_in_one_pass(toys, split, monkeypatch):
    model, shot = toys("wan-i2v-clip"), Shot("wan-i2v-clip", steps=1)
    if split:
        monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    plain, only = (outputs_of(m, shot) for m in (model, apply(model, None, Guide(PICTURE, passes="conditional"))))
    assert torch.equal(plain[1], only[1])
    assert not torch.allclose(plain[0], only[0], **NEAR)


def test_the_image_branch_beside_windows_and_an_adapter(toys, adapters):
    model, shot = toys("wan-i2v-clip"), Shot("wan-i2v-clip")
    config = SwinRenderer(window=4)
    result = sample(swin(apply(model, None, Guide(PICTURE)), config), shot)
    assert torch.equal(result, sample(apply(swin(model, config), None, Guide(PICTURE)), shot))
    careless = apply(model, None, Guide(PICTURE, strength=0.5))
    expected = sample(careless, shot)
    careless.add_wrapper_with_key(
        WrappersMP.DIFFUSION_MODEL,
        "a careless copy",
        careless.get_wrappers(WrappersMP.DIFFUSION_MODEL, "semantic_video")[0],
    )
    assert torch.equal(expected, sample(careless, shot)), "blended once"
    long = windows(model)
    assert not torch.equal(sample(long, shot), sample(apply(long, None, Guide(PICTURE)), shot))


def test_models_without_an_image_branch_are_refused(toys):
    for name in ("wan-t2v", "wan-i2v", "wan-5b", "hunyuan-t2v", "hunyuan-1.5"):
        with pytest.raises(
            ValueError,
            match="has no image branch that takes CLIP features .* Load Wan 2.1 I2V, or connect an SSG Adapter",
        ):
            apply(toys(name), None, Guide(PICTURE))
    model, stepped = toys("wan-i2v-clip"), []
    for guide, message in (
        (Guide(PICTURE, torch.ones(1, 4, 4)), "mask: needs an SSG Adapter"),
        (Guide(PICTURE / 0), "NaN or infinite"),
        (Guide(seeded(1, 257, 1024)), "takes those of one image, of width 1280. Use clip_vision_h"),
        (Guide(PICTURE.repeat(2, 1, 1)), "takes those of one image"),
    ):
        with pytest.raises(ValueError, match=message):
            apply(model, None, guide)
    with pytest.raises(ValueError, match="clip_vision_output: 7 tokens, the start image has 5"):
        sample(apply(model, None, Guide(seeded(1, 7, 1280))), Shot("wan-i2v-clip"), stepped.append)
    import comfy.sample

    bare, noise = [[seeded(1, 7, 32), {}]], seeded(1, 16, 3, 4, 4)
    with pytest.raises(ValueError, match="no conditioning carries CLIP features of a start image"):
        comfy.sample.sample(
            apply(model, None, Guide(PICTURE)),
            noise,
            1,
            1.0,
            "euler",
            "simple",
            bare,
            bare,
            noise,
            seed=1,
            disable_pbar=True,
        )
    assert not stepped


# ---- nodes


@pytest.mark.parametrize("node", [SSGAdapterLoaderNode, SSGAdapterApplyNode])
def test_every_widget_says_what_it_does(node):
    schema = node.GET_SCHEMA()
    assert schema.node_id.startswith("SemVid")
    assert schema.description
    assert all(thing.tooltip for thing in [*schema.inputs, *schema.outputs])
    assert (Path(__file__).resolve().parent.parent.parent / "web" / "docs" / f"{schema.node_id}.md").exists()


def test_the_node_takes_any_mask(toys, adapters):
    model, shot, adapter, image = (
        toys("wan-t2v"),
        Shot("wan-t2v", steps=1),
        adapters(),
        clip_vision(penultimate_hidden_states=IMAGE),
    )
    expected = sample(apply(model, adapter, Guide(IMAGE, 0.5 * torch.ones(1, 16, 16))), shot)
    for shape in ((16, 16), (1, 16, 16), (1, 1, 16, 16), (1, 4320, 7680)):
        result = SSGAdapterApplyNode.execute(model, image, adapter=adapter, mask=0.5 * torch.ones(shape)).args[0]
        torch.testing.assert_close(sample(result, shot), expected, **NEAR)
    assert SSGAdapterApplyNode.execute(model, image, strength=0.0, adapter=adapter).args[0] is model


def test_a_whole_file_of_another_size_is_read(tmp_path):
    """ViT-L's features, another rank, other blocks: nothing about the size is fixed."""
    spec = replace(Spec("wan", 48, 2, (1,)), rank=3, clip_width=1024, grid=(24, 24), token_width=32)
    adapter = SSGAdapter(spec, dtype=torch.float16)
    initialise(adapter)
    save_file(adapter.state_dict(), tmp_path / "l.safetensors", spec.metadata)
    loaded = load_adapter(tmp_path / "l.safetensors")
    assert loaded.model.spec == spec
    assert next(loaded.model.parameters()).dtype == torch.float16
    import comfy.sd

    model = comfy.sd.load_diffusion_model(str(write_toy("wan-t2v", tmp_path / "toy.safetensors")))
    shot = Shot("wan-t2v", steps=1)
    assert torch.equal(sample(apply(model, loaded, Guide(seeded(1, 577, 1024))), shot), sample(model, shot))
    assert TOYS["wan-t2v"].config["dim"] == 48
