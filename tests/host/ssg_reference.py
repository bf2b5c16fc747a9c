"""The SSG Adapter the naive way: attention of Wan and HunyuanVideo with the formula written out in fp64."""

import comfy.ldm.flux.layers
import comfy.ldm.wan.model
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from semantic_video.harness.sampling import sample, seeded
from semantic_video.kernels.ssg_adapter import SSGAdapter
from semantic_video.tests.kernels.naive_ssg_branch import naive_branch

SMALL = {"clip_width": 20, "grid": (3, 4), "token_width": 10}
BLOCKS = {"wan-t2v": (0, 2), "wan-i2v-clip": (0, 2), "hunyuan-t2v": (1, 3), "hunyuan-1.5": (0, 3)}
IMAGE = seeded(1, 13, 20, seed=30)
NEAR = {"rtol": 1e-3, "atol": 1e-4}


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
