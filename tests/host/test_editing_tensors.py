"""The tensors of a call: dtypes, layouts, containers and masks of any rank; and models of no known family."""

import comfy.ldm.modules.attention as host_attention
import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT, TOYS
from semantic_video.tests.host.edits import doubling, editing, passing


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", STRAIGHT)
def test_half_precision(toys, name, dtype):
    model, shot = toys(name, dtype=dtype), Shot(name)
    plain = sample(model, shot)
    assert torch.isfinite(plain).all()
    assert torch.equal(plain, sample(editing(model, passing), shot))


@pytest.mark.skipif(
    not hasattr(host_attention, "AttentionTensorContainer"), reason="this host has no attention containers"
)
def test_attention_containers_of_newer_hosts(toys, monkeypatch):
    """Models that hand q, k, v over in containers still reach the editors."""
    import comfy.ldm.wan.model as wan

    plain = wan.optimized_attention

    def containing(q, k, v, *args, **kwargs):
        return plain(*map(host_attention.AttentionTensorContainer, (q, k, v)), *args, **kwargs)

    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    expected = sample(editing(model, doubling), shot)
    monkeypatch.setattr(wan, "optimized_attention", containing)
    assert torch.equal(expected, sample(editing(model, doubling), shot))


@pytest.mark.parametrize("by_head", [False, True])
@pytest.mark.parametrize("by_head_out", [False, True])
def test_every_layout_reaches_the_editor_alike(toys, by_head, by_head_out, monkeypatch):
    import comfy.ldm.wan.model as wan

    plain = wan.optimized_attention

    def relaid(q, k, v, heads, transformer_options, **kwargs):
        if by_head:
            q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        out = plain(q, k, v, heads, None, None, by_head, by_head_out, transformer_options=transformer_options, **kwargs)
        return out.transpose(1, 2).flatten(2) if by_head_out else out

    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    expected = sample(editing(model, doubling), shot)
    monkeypatch.setattr(wan, "optimized_attention", relaid)
    torch.testing.assert_close(expected, sample(editing(model, doubling), shot), rtol=1e-5, atol=1e-5)


def test_models_of_no_known_family_are_refused(toys):
    from comfy.ldm.hunyuan_video.model import HunyuanVideo
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.ldm.wan.model import SCAILWanModel
    from comfy.ops import disable_weight_init

    unet = UNetModel(
        image_size=8,
        in_channels=4,
        model_channels=32,
        out_channels=4,
        num_res_blocks=[1],
        num_heads=1,
        channel_mult=(1,),
        operations=disable_weight_init,
        use_spatial_transformer=True,
        context_dim=8,
        transformer_depth=[1],
        transformer_depth_output=[1, 1],
        transformer_depth_middle=-2,
    )
    # HunyuanImage
    image_dit = HunyuanVideo(
        **TOYS["hunyuan-t2v"].config | {"patch_size": [2, 2], "axes_dim": [64, 64]}, operations=disable_weight_init
    )
    pose = SCAILWanModel(
        **{k: v for k, v in TOYS["wan-t2v"].config.items() if k != "model_type"} | {"in_dim": 20},
        operations=disable_weight_init,
    )
    for module in (unet, image_dit, pose):
        model = toys("wan-t2v")
        model.model.diffusion_model = module
        with pytest.raises(ValueError, match=rf"model: {type(module).__name__} .*Connect one of: Wan.*HunyuanVideo"):
            editing(model, passing)


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_masks_of_any_rank_reach_the_editor_with_four_axes(toys, axes, monkeypatch):
    """[queries, keys], [batch, queries, keys], [batch, heads, queries, keys]: a mask of its own for each batch row."""
    import comfy.ldm.wan.model as wan

    plain, seen = wan.optimized_attention, []

    def masked(q, k, v, heads, **kwargs):
        batch = 1 if axes == 2 else len(q)
        mask = torch.rand(batch, q.shape[1], k.shape[1], generator=torch.Generator().manual_seed(5)) > 0.5
        mask[..., 0] = True
        mask = torch.zeros(mask.shape).masked_fill(~mask, -1e4)
        mask = {2: lambda: mask[0], 3: lambda: mask, 4: lambda: mask[:, None].repeat(1, heads, 1, 1)}[axes]()
        return plain(q, k, v, heads=heads, mask=mask, **kwargs)

    def written(call, proceed):
        out = proceed(call)
        seen.append(call.mask.shape)
        q, k, v = (x.double().transpose(1, 2) for x in (call.q, call.k, call.v))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        own = ((scores + call.mask).softmax(-1) @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(out, own.to(out.dtype), rtol=1e-4, atol=1e-4)
        return proceed(call.replace(mask=call.mask.clone()))

    monkeypatch.setattr(wan, "optimized_attention", masked)
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=1)
    assert torch.equal(sample(editing(model, written), shot), sample(model, shot))
    assert {shape[:2] for shape in seen} == {{2: (1, 1), 3: (2, 1), 4: (2, 2)}[axes]}
