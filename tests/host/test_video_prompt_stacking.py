"""Video-As-Prompt with other patches, another pack's override, CFG in one batch or two, context windows and dtypes."""

import pytest
import torch

from semantic_video.host import wan_stream
from semantic_video.patches.video_prompt import VideoPrompt, apply
from semantic_video.patches.video_prompt_expert import load_expert
from semantic_video.tests.host.vap_golden import conditioning, load_backbone, sample


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
