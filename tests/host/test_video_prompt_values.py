"""Video-As-Prompt: values that a look at shapes and differences would miss. Each killed a mutation that survived."""

import comfy.sample
import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.host import wan_stream
from semantic_video.host.schedule import Interval
from semantic_video.host.wan_stream import WanStream
from semantic_video.kernels.video_prompt import LATENT
from semantic_video.nodes import video_prompt as nodes
from semantic_video.patches.video_prompt import VideoPrompt, apply
from semantic_video.tests.host import test_video_prompt as whole
from semantic_video.tests.host.test_editing import windows

checkpoint, backbone, expert = whole.checkpoint, whole.backbone, whole.expert


@pytest.fixture
def streams(monkeypatch):
    """The reference latents that the expert is given, one entry a call of the model."""
    seen, start = [], WanStream.__init__

    def watch(self, module, latent, *rest, **options):
        seen.append(latent)
        start(self, module, latent, *rest, **options)

    monkeypatch.setattr(wan_stream.WanStream, "__init__", watch)
    return seen


def part(model, latent, first, last, steps=4):
    """Steps first .. last of a run, noise added before the first one only."""
    noise = seeded(1, 16, 3, 8, 12, seed=1)
    return comfy.sample.sample(
        model,
        noise if first == 0 else torch.zeros_like(noise),
        steps,
        3.0,
        "euler",
        "simple",
        whole.conditioning(7, 20),
        whole.conditioning(7, 21),
        latent,
        disable_noise=first > 0,
        start_step=first,
        last_step=last,
        seed=1,
        disable_pbar=True,
    )


@pytest.mark.parametrize("by_node", [False, True])
def test_start_and_end_choose_the_steps(backbone, expert, by_node):
    """From 0.25 to 0.75 of four steps: the second and the third."""
    always = apply(backbone, expert, VideoPrompt())
    if by_node:
        patched = nodes.VAPApplyNode.execute(backbone, expert, "whole reference", 1.0, 0.25, 0.75).args[0]
    else:
        patched = apply(backbone, expert, VideoPrompt(interval=Interval(0.25, 0.75)))
    x = torch.zeros(1, 16, 3, 8, 12)
    got = part(patched, x, 0, 4)
    for model, first, last in ((backbone, 0, 1), (always, 1, 3), (backbone, 3, 4)):
        x = part(model, x, first, last)
    torch.testing.assert_close(got, x, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(got, part(always, torch.zeros_like(x), 0, 4), rtol=1e-2, atol=1e-2)


def test_strength_blends_the_attention(backbone, expert):
    """In the first block, before anything else differs, attention is the blend to the letter."""
    found = {}

    def attention_at(strength):
        hook = backbone.model.diffusion_model.blocks[0].self_attn.o.register_forward_pre_hook(
            lambda module, inputs: found.__setitem__(strength, inputs[0].clone())
        )
        model = apply(backbone, expert, VideoPrompt(strength))
        whole.forward(model, "same")
        hook.remove()
        return found[strength]

    none, quarter, full = (attention_at(s) for s in (0.0, 0.25, 1.0))
    assert (full - none).abs().max() > 0.1
    torch.testing.assert_close(quarter, 0.75 * none + 0.25 * full, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (9, [[0, 1, 2], [2, 3, 4, 5], [5, 6, 7, 8]]),
        (3, [[0], [0, 1], [1, 2]]),
        (5, [[0, 1], [1, 2], [2, 3, 4]]),  # frame f of 9 runs with frame f * 5 // 9
    ],
)
def test_in_step_each_window_sees_its_own_part(backbone, expert, streams, count, expected):
    """9 frames in windows of 3 and the frame in front of them; the reference's frames carry their number."""
    long = windows(backbone, length=3, overlap=0)

    def cond(seed):
        [[text, extra]] = whole.conditioning(7, seed, frames=count)
        extra["model_conds"][LATENT].cond[0][:] = torch.arange(float(count)).view(1, 1, -1, 1, 1)
        return [[text, {k: v for k, v in extra.items() if not k.startswith("concat")}]]

    in_step = apply(long, expert, VideoPrompt(windows="in step"))
    whole.sample(in_step, cond(20), cond(21), frames=9, steps=1)
    seen = {tuple(latent[0, 0, :, 0, 0].tolist()) for latent in streams}
    assert seen == {tuple(map(float, frames)) for frames in expected}


def stream_of(expert, latent, options=None):
    return WanStream(expert.model.diffusion_model, latent, seeded(1, 9, 4096), None, -3, 1.0, options or {})


def test_a_scaled_rope_scales_the_reference_s_places(expert):
    """Frames at -3, -2, -1 stand at -6, -4, -2 where the model's time runs twice as far."""
    module = expert.model.diffusion_model

    def places(*positions):
        parts = [module.rope_encode(1, 8, 12, t_start=p, dtype=torch.float32) for p in positions]
        return torch.cat(parts, dim=1)

    latent = seeded(1, 36, 3, 8, 12)
    torch.testing.assert_close(stream_of(expert, latent).freqs, places(-3, -2, -1))
    scaled = stream_of(expert, latent, {"rope_options": {"scale_t": 2.0}}).freqs
    torch.testing.assert_close(scaled, places(-6, -4, -2), rtol=1e-4, atol=1e-5)


def test_odd_references_are_padded_as_the_host_pads(expert):
    latent = seeded(1, 36, 3, 5, 7)
    wide = torch.cat((latent, latent[..., :1]), dim=-1)  # around the edge
    wide = torch.cat((wide, wide[..., :1, :]), dim=-2)
    stream, expected = stream_of(expert, latent), stream_of(expert, wide)
    assert stream.x.shape[1] == 3 * 3 * 4
    torch.testing.assert_close(stream.x, expected.x)
    torch.testing.assert_close(stream.freqs, expected.freqs)


def test_experts_of_other_heads_are_refused(backbone, expert, monkeypatch):
    module = expert.model.diffusion_model
    for name in ("num_heads", "dim"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 2 * getattr(module, name))
            with pytest.raises(ValueError, match="expert: made for a Wan of width"):
                apply(backbone, expert, VideoPrompt())
    apply(backbone, expert, VideoPrompt())


@pytest.mark.parametrize(
    ("stored", "cast"), [(torch.float32, None), (torch.bfloat16, None), (torch.bfloat16, torch.float32)]
)
def test_the_expert_computes_in_the_model_s_dtype(backbone, expert, monkeypatch, stored, cast):
    """The joint attention has one dtype, whatever the expert's file has."""
    seen, keys_values = [], WanStream.keys_values

    def watch(self, block):
        k, v = keys_values(self, block)
        seen.append((k.dtype, v.dtype))
        return k, v

    monkeypatch.setattr(WanStream, "keys_values", watch)
    model = backbone if stored == torch.float32 else whole.load_backbone(options={"dtype": stored})
    monkeypatch.setattr(model.model, "manual_cast_dtype", cast)
    patched = apply(model, expert, VideoPrompt())
    [attached] = patched.get_additional_models_with_key("video_prompt")
    assert attached.object_patches["manual_cast_dtype"] == (cast or stored)
    assert attached is not expert and "manual_cast_dtype" not in expert.object_patches
    whole.sample(patched, steps=1)
    assert set(seen) == {(cast or stored, cast or stored)}
