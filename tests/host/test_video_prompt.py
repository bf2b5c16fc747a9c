"""Video-As-Prompt against the published class, and in everything a user may put around it."""

import json
import zlib
from pathlib import Path

import comfy.sd
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from semantic_video.host import wan_stream
from semantic_video.kernels.video_prompt import IMAGE, LATENT, TEXT
from semantic_video.patches import video_prompt
from semantic_video.patches.video_prompt import VideoPrompt, apply
from semantic_video.patches.video_prompt_expert import extract_expert, layers_of, load_expert
from semantic_video.patches.video_prompt_keys import host_key

GOLDEN = np.load(Path(__file__).resolve().parent.parent / "golden" / "vap.npz")
SEED, KEYS, CASES = int(GOLDEN["seed"]), json.loads(str(GOLDEN["keys"])), json.loads(str(GOLDEN["cases"]))
FP32 = {"dtype": torch.float32}


def drawn(name, shape):
    return torch.from_numpy(
        np.random.default_rng([SEED, zlib.crc32(name.encode())]).standard_normal(shape, dtype=np.float32)
    )


def weight(name, shape):
    n = drawn(name, shape)
    if "scale_shift_table" in name:
        return 0.3 * n
    if n.ndim == 1:
        return 1 + 0.2 * n if "norm" in name and name.endswith("weight") else 0.2 * n
    return n * 1.5 / np.sqrt(np.prod(shape[1:]))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The golden model as a whole diffusers file."""
    path = tmp_path_factory.mktemp("vap") / "diffusion_pytorch_model.safetensors"
    save_file({name: weight(name, tuple(shape)).contiguous() for name, shape in KEYS.items()}, path)
    return path


def load_backbone(without=("_mot_ref",), options=FP32):
    return comfy.sd.load_diffusion_model_state_dict(
        {
            host_key(name): weight(name, tuple(shape))
            for name, shape in KEYS.items()
            if not any(part in name for part in without)
        },
        options,
    )


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


@pytest.fixture(scope="module")
def expert(checkpoint):
    return load_expert(checkpoint, FP32)


def inputs(case):
    b, f, h, w, fr, hr, wr = CASES[case]
    text, ref_text = drawn(f"{case}.text", (b, 512, 4096)), drawn(f"{case}.ref_text", (b, 512, 4096))
    text[:, 37:] = 0
    ref_text[:, 61:] = 0
    main = (
        drawn(f"{case}.hidden_states", (b, 36, f, h, w)),
        torch.full((b,), 637.0),
        text,
        drawn(f"{case}.image", (b, 257, 1280)),
    )
    return main, {
        LATENT: [drawn(f"{case}.ref", (b, 36, fr, hr, wr))],
        TEXT: ref_text,
        IMAGE: drawn(f"{case}.ref_image", (b, 257, 1280)),
    }


def forward(model, case):
    main, reference = inputs(case)
    options = {**model.model_options["transformer_options"], "wrappers": model.wrappers}
    return model.model.diffusion_model(*main, None, options, **reference)


def error(model, case):
    golden = torch.from_numpy(GOLDEN[case])
    return float((forward(model, case) - golden).norm() / golden.norm())


@pytest.mark.parametrize("case", ["same", "resized"])
def test_it_is_the_published_model(backbone, expert, case):
    assert layers_of(expert) == (0, 2, 4)
    assert error(apply(backbone, expert, VideoPrompt()), case) < 5e-5
    assert error(backbone, case) > 0.1, "the reference must matter for this test to mean anything"


@pytest.mark.parametrize("case", ["same", "resized"])
def test_the_known_mistakes_are_caught(backbone, expert, case, monkeypatch):
    patched = apply(backbone, expert, VideoPrompt())
    start = wan_stream.WanStream.__init__
    for shift, least in ((1, 2e-2), (CASES[case][4], 5e-2)):  # positions off by one; positions 0, 1, ...

        def shifted(self, module, latent, text, image, position, *rest, by=shift):
            start(self, module, latent, text, image, position + by, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(wan_stream.WanStream, "__init__", shifted)
            assert error(patched, case) > least
    monkeypatch.setattr(video_prompt, "TIMESTEP", 0.0)
    assert error(patched, case) > 0.1


def test_the_host_s_sampler_integrates_the_published_velocity(backbone, expert):
    """Euler over the host's own schedule with CFG, by hand, from single forwards as the golden ones."""
    import comfy.samplers

    from semantic_video.harness.sampling import seeded

    patched = apply(backbone, expert, VideoPrompt())
    positive, negative = conditioning(7, 20), conditioning(7, 21)
    sigmas = comfy.samplers.calculate_sigmas(patched.get_model_object("model_sampling"), "simple", 3)
    x = seeded(1, 16, 3, 8, 12, seed=1)
    x = x * sigmas[0]
    options = {**patched.model_options["transformer_options"], "wrappers": patched.wrappers}
    process_in = patched.model.latent_format.process_in

    def velocity(x, sigma, entry):
        text, extra = entry[0]
        conds = extra["model_conds"]
        image = torch.cat(
            (1 - extra["concat_mask"].expand(-1, 4, -1, -1, -1), process_in(extra["concat_latent_image"])), dim=1
        )
        main = (
            torch.cat((x, image), dim=1),
            sigma.view(1) * 1000,
            text,
            extra["clip_vision_output"].penultimate_hidden_states,
        )
        return patched.model.diffusion_model(
            *main, None, options, **{LATENT: conds[LATENT].cond, TEXT: conds[TEXT].cond, IMAGE: conds[IMAGE].cond}
        )

    for sigma, following in zip(sigmas, sigmas[1:]):
        v, v_negative = velocity(x, sigma, positive), velocity(x, sigma, negative)
        x = x + (following - sigma) * (v_negative + 3.0 * (v - v_negative))
    expected, got = patched.model.latent_format.process_out(x), sample(patched, steps=3)
    assert float((got - expected).norm() / expected.norm()) < 5e-5


# ---- through the sampler, with what users put around it

LAYERS = (0, 2, 4)


def conditioning(words, seed, reference=True, frames=3, ref_words=9):
    from semantic_video.harness.sampling import clip_vision, seeded
    from semantic_video.host.reference import carrying

    cond = [
        [
            seeded(1, words, 4096, seed=seed),
            {
                "clip_vision_output": clip_vision(penultimate_hidden_states=seeded(1, 257, 1280, seed=4)),
                "concat_latent_image": seeded(1, 16, 3, 8, 12, seed=3),
                "concat_mask": torch.ones(1, 1, 3, 8, 12),
            },
        ]
    ]
    if not reference:
        return cond
    return carrying(
        cond,
        {LATENT: seeded(1, 36, frames, 8, 12, seed=7)},
        {TEXT: seeded(1, ref_words, 4096, seed=seed + 8), IMAGE: seeded(1, 257, 1280, seed=9)},
    )


def sample(model, positive=None, negative=None, frames=3, cfg=3.0, steps=2, callback=None):
    import comfy.sample

    from semantic_video.harness.sampling import seeded

    positive, negative = positive or conditioning(7, 20), negative or conditioning(7, 21)
    noise = seeded(1, 16, frames, 8, 12, seed=1)
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        "euler",
        "simple",
        positive,
        negative,
        torch.zeros_like(noise),
        seed=1,
        disable_pbar=True,
        callback=callback,
    )


def test_the_reference_reaches_the_sampler_and_the_parent_stays(backbone, expert):
    plain = sample(backbone)
    followed = sample(apply(backbone, expert, VideoPrompt()))
    assert torch.isfinite(followed).all()
    assert not torch.allclose(plain, followed, rtol=1e-2, atol=1e-2)
    assert torch.equal(plain, sample(backbone))
    without = conditioning(7, 20, reference=False), conditioning(7, 21, reference=False)
    assert torch.equal(sample(backbone, *without), plain), (
        "conditioning that carries a reference must not change an unpatched model"
    )


def test_strength(backbone, expert):
    assert apply(backbone, expert, VideoPrompt(0.0)) is backbone
    none, half, full = (sample(apply(backbone, expert, VideoPrompt(s)), steps=1) for s in (0.0, 0.5, 1.0))
    assert (half - none).norm() < (full - none).norm()
    with pytest.raises(ValueError, match="strength 2"):
        VideoPrompt(2.0)


def test_another_reference_gives_another_video(backbone, expert):
    from semantic_video.kernels.video_prompt import LATENT

    patched = apply(backbone, expert, VideoPrompt())
    other = conditioning(7, 20)
    other[0][1]["model_conds"][LATENT].cond[0] = -other[0][1]["model_conds"][LATENT].cond[0]
    assert not torch.allclose(sample(patched), sample(patched, other), rtol=1e-2, atol=1e-2)


def test_batched_split_and_unequal_prompts(backbone, expert, monkeypatch):
    import comfy.samplers

    patched = apply(backbone, expert, VideoPrompt())
    batched = sample(patched)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, sample(patched), rtol=1e-3, atol=1e-3)
    monkeypatch.undo()
    assert torch.isfinite(sample(patched, conditioning(7, 20, ref_words=5), conditioning(12, 21))).all()
    only_positive = sample(patched, conditioning(7, 20), conditioning(7, 21, reference=False))
    assert not torch.allclose(only_positive, batched, rtol=1e-2, atol=1e-2)
    assert torch.isfinite(sample(patched, cfg=1.0)).all()


def test_it_stacks_with_windows_and_other_editors_in_both_orders(backbone, expert):
    from semantic_video.host.editing import edit_attention
    from semantic_video.patches.swin_renderer import SwinRenderer
    from semantic_video.patches.swin_renderer import apply as swin

    windows, prompt = SwinRenderer(window=2), VideoPrompt()
    one, other = swin(apply(backbone, expert, prompt), windows), apply(swin(backbone, windows), expert, prompt)
    result = sample(one)
    assert torch.equal(result, sample(other))
    assert not torch.allclose(result, sample(apply(backbone, expert, prompt)), rtol=1e-2, atol=1e-2)

    def louder(call, proceed):
        return 1.5 * proceed(call)

    both = [
        edit_attention(apply(backbone, expert, prompt), "louder", louder, sites=("text",)),
        apply(edit_attention(backbone, "louder", louder, sites=("text",)), expert, prompt),
    ]
    assert torch.equal(sample(both[0]), sample(both[1]))


@pytest.mark.parametrize("foreign_first", [True, False])
def test_a_foreign_override_sees_the_joint_attention(backbone, expert, foreign_first):
    from semantic_video.tests.host.stacking import foreign

    log = []
    patched = backbone.clone() if foreign_first else apply(backbone, expert, VideoPrompt())
    patched.model_options["transformer_options"]["optimized_attention_override"] = foreign(1.0, log)
    patched = apply(patched, expert, VideoPrompt()) if foreign_first else patched
    assert torch.equal(sample(patched), sample(apply(backbone, expert, VideoPrompt())))
    assert len(log) == 2 * (6 * 3 + 2 * 2), (
        "6 blocks of 3 calls, and 2 cross-attentions in each of the 2 untrimmed expert blocks, at 2 steps"
    )


def test_context_windows_do_not_cut_the_reference(backbone, expert):
    """9 frames in windows of 3 + 1, with a reference of 9: the length that the host would slice."""
    from semantic_video.tests.host.stacking import windows

    seen = []
    start = wan_stream.WanStream.__init__

    def watch(self, module, latent, text, image, position, *rest):
        seen.append((latent.shape[2], position))
        start(self, module, latent, text, image, position, *rest)

    long = windows(backbone, length=3, overlap=0)

    def cond(seed):
        [[text, extra]] = conditioning(7, seed, frames=9)
        return [[text, {k: v for k, v in extra.items() if not k.startswith("concat")}]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wan_stream.WanStream, "__init__", watch)
        whole = sample(apply(long, expert, VideoPrompt()), cond(20), cond(21), frames=9, steps=1)
        assert set(seen) == {(9, -9)}
        seen.clear()
        in_step = sample(apply(long, expert, VideoPrompt(windows="in step")), cond(20), cond(21), frames=9, steps=1)
        assert set(seen) == {(3, -3), (4, -4)}
    assert not torch.equal(whole, in_step)


def test_mixed_dtypes_and_fp8(checkpoint, expert):
    half = load_backbone(options={"dtype": torch.bfloat16})
    assert torch.isfinite(sample(apply(half, expert, VideoPrompt()))).all()
    small = load_expert(checkpoint, {"dtype": torch.float8_e4m3fn})
    assert torch.isfinite(sample(apply(half, small, VideoPrompt()))).all()


def test_replaced_self_attention_is_an_error_and_skipped_blocks_are_not(backbone, expert):
    patched = apply(backbone, expert, VideoPrompt())
    attention = backbone.model.diffusion_model.blocks[2].self_attn
    replaced = patched.clone()
    replaced.add_object_patch(
        "diffusion_model.blocks.2.self_attn.forward",
        lambda x, freqs, transformer_options={}: attention.o(attention.v(x)),
    )
    with pytest.raises(RuntimeError, match="self-attention of block 2 is replaced by another patch"):
        sample(replaced)
    skipped = patched.clone()
    skipped.set_model_patch_replace(lambda args, extra: {"img": args["img"]}, "dit", "double_block", 2)
    assert torch.isfinite(sample(skipped)).all()


def test_the_expert_is_loaded_counted_and_trimmed(backbone, expert):
    import comfy.model_management

    patched = apply(backbone, expert, VideoPrompt())
    sample(patched)
    assert any(
        loaded.model is not None and loaded.model.model is expert.model
        for loaded in comfy.model_management.current_loaded_models
    )
    assert expert.model_size() == sum(t.numel() * t.element_size() for t in expert.model.state_dict().values())
    assert not [key for key in expert.model.state_dict() if ".blocks.2.cross_attn" in key or ".head." in key]


def test_an_offloaded_run_keeps_to_its_budget_and_changes_nothing(checkpoint, monkeypatch):
    """The host loads both models for a third of their size, as on a card that is too small: the rest is cast in as it
    is used, with the same result."""
    import comfy.model_management

    model, expert = load_backbone(), load_expert(checkpoint, FP32)
    patched = apply(model, expert, VideoPrompt())
    whole = sample(patched, steps=1)
    comfy.model_management.unload_all_models()
    load, loaded = comfy.model_management.LoadedModel.model_load, []

    def on_a_small_card(self, lowvram_model_memory=0, force_patch_weights=False):
        result = load(self, self.model_memory() // 3, force_patch_weights)
        loaded.append((self.model.model, self.model_loaded_memory(), self.model_memory()))
        return result

    monkeypatch.setattr(comfy.model_management.LoadedModel, "model_load", on_a_small_card)
    try:
        part = sample(patched, steps=1)
    finally:
        comfy.model_management.unload_all_models()
    assert {id(module) for module, _, _ in loaded} >= {id(model.model), id(expert.model)}
    assert all(0 < held <= size / 3 for _, held, size in loaded), [(held, size) for _, held, size in loaded]
    assert torch.equal(part, whole)


def test_the_host_s_estimates_count_the_reference(backbone, expert, monkeypatch):
    """A reference as long as the clip doubles both the estimate for loading and the one for batching."""
    asked = []
    patched = apply(backbone, expert, VideoPrompt())
    required = type(backbone.model).memory_required

    def watch(self, shape, cond_shapes=None):
        asked.append(required(self, shape, cond_shapes=cond_shapes or {}))
        return asked[-1]

    monkeypatch.setattr(type(backbone.model), "memory_required", watch)
    sample(backbone, steps=1)
    alone, asked[:] = list(asked), []
    sample(patched, steps=1)
    assert len(asked) == len(alone)
    assert [round(b / a, 2) for a, b in zip(alone, asked)] == [2.0] * len(alone)


def test_an_extracted_expert_is_the_same_and_smaller(checkpoint, expert, tmp_path, backbone):
    extract_expert(checkpoint, tmp_path / "expert.safetensors")
    assert (tmp_path / "expert.safetensors").stat().st_size < 0.5 * checkpoint.stat().st_size
    assert [p.name for p in tmp_path.iterdir()] == ["expert.safetensors"], "no partial file stays"
    again = load_expert(tmp_path / "expert.safetensors", FP32)
    assert layers_of(again) == (0, 2, 4)
    same_expert(backbone, again, expert)


def same_expert(backbone, one, other):
    """Every weight bit for bit, and what follows from them: from other files they lie elsewhere in memory, and matrix
    products round with the place."""
    tensors = [expert.model.diffusion_model.state_dict() for expert in (one, other)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(value, tensors[1][key]) for key, value in tensors[0].items())
    results = [sample(apply(backbone, expert, VideoPrompt())) for expert in (one, other)]
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_a_sharded_checkpoint_reads_only_the_expert(checkpoint, tmp_path, backbone, expert):
    from safetensors.torch import load_file

    tensors = load_file(checkpoint)
    names = sorted(tensors)
    parts = [tmp_path / f"diffusion_pytorch_model-{i:05d}-of-00002.safetensors" for i in (1, 2)]
    save_file({k: tensors[k] for k in names[::2]}, parts[0])
    with pytest.raises(ValueError, match=r"1 of the checkpoint's 2 files are missing \(diffusion_pytorch_model-00002"):
        load_expert(parts[0])
    save_file({k: tensors[k] for k in names[1::2]}, parts[1])
    same_expert(backbone, load_expert(parts[1], FP32), expert)


def test_wrong_models_and_missing_parts_are_refused(backbone, expert, toys, tmp_path, checkpoint):
    for name, message in (
        ("hunyuan-t2v", "HunyuanVideo cannot carry this expert"),
        ("wan-i2v-clip", "made for a Wan of width 256 with .* heads, this model has 48 with 2"),
    ):
        with pytest.raises(ValueError, match=message):
            apply(toys(name), expert, VideoPrompt())
    text_only = load_backbone(without=("_mot_ref", "image_embedder", "add_", "added"))
    with pytest.raises(ValueError, match="no CLIP image branch"):
        apply(text_only, expert, VideoPrompt())
    stepped = []
    patched = apply(backbone, expert, VideoPrompt())
    with pytest.raises(ValueError, match="no conditioning carries a reference video. Put a VAP Reference node"):
        sample(
            patched, conditioning(7, 20, reference=False), conditioning(7, 21, reference=False), callback=stepped.append
        )
    blind = conditioning(7, 20)
    del blind[0][1]["model_conds"][IMAGE]
    with pytest.raises(ValueError, match="clip_vision_output: missing on VAP Reference"):
        sample(patched, blind, blind, callback=stepped.append)
    assert not stepped
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cut\.safetensors: damaged or incomplete"):
        load_expert(cut)
    save_file({"lora.up": torch.zeros(2)}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=r"lora\.safetensors: holds no Video-As-Prompt expert"):
        load_expert(tmp_path / "lora.safetensors")


def test_references_are_encoded_as_published(toys, tmp_path):
    import comfy.sd
    import comfy.utils

    from semantic_video.harness.toy import write_toy_vae
    from semantic_video.host.reference import encode_reference

    vae = comfy.sd.VAE(comfy.utils.load_torch_file(str(write_toy_vae(tmp_path / "vae.safetensors"))))
    clip = torch.rand(9, 40, 56, 4)  # another size, and with alpha
    latent = encode_reference(vae, clip, 48, 32)
    assert latent.shape == (1, 36, 3, 4, 6)
    assert latent[:, 16:20, 0].eq(1).all()
    assert latent[:, 16:20, 1:].eq(0).all()
    # both see the first frame first
    torch.testing.assert_close(latent[:, :16, 0], latent[:, 20:, 0], rtol=1e-4, atol=1e-4)
    vae.first_stage_model = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"vae: Identity is not the VAE of Wan 2\.1"):
        encode_reference(vae, clip, 48, 32)
