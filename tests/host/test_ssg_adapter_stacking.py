"""The SSG Adapter with other patches, another pack's override, and CFG in one batch or two."""

import comfy.samplers
import pytest
import torch

from semantic_video.harness.sampling import Shot, conditioning, sample, seeded
from semantic_video.harness.toy import STRAIGHT
from semantic_video.patches.ssg_adapter import apply
from semantic_video.patches.ssg_guide import Guide
from semantic_video.patches.swin_renderer import SwinRenderer
from semantic_video.patches.swin_renderer import apply as swin
from semantic_video.tests.host.ssg_reference import IMAGE, NEAR
from semantic_video.tests.host.stacking import foreign


@pytest.mark.parametrize("passes", ["both", "conditional"])
@pytest.mark.parametrize("name", STRAIGHT)
def test_batched_and_split_cfg_agree(toys, adapters, name, passes, monkeypatch):
    patched, shot = apply(toys(name), adapters(name), Guide(IMAGE, passes=passes)), Shot(name)
    batched = sample(patched, shot)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, sample(patched, shot), **NEAR)


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
