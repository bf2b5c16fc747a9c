"""The techniques on MiniMax H3 and LTX, each against its formula written out; and what is refused there, with why."""

import math

import pytest
import torch

from semantic_video.harness.sampling import Shot, conditioning, sample, seeded, sound_shape
from semantic_video.harness.toy import EVERY, NEWER
from semantic_video.harness.toy_nodes import ToyCLIP
from semantic_video.harness.toy_plans import toy_plan, write_toy_plan_adapter
from semantic_video.host.editing import edit_attention
from semantic_video.host.levels import visit_levels
from semantic_video.host.schedule import Interval
from semantic_video.patches import alg, alignvid, dymos, focal_guidance, plan_adapter, text_contrast
from semantic_video.patches.attention_maps import attention_maps
from semantic_video.patches.plan_weights import load_plan_adapter
from semantic_video.tests.host import naive
from semantic_video.training.plan_adapter import spec_for

TEXT = "a red ball and a blue cube"  # as many words as the toys' prompts have tokens
H3 = [name for name in ("h3", "h3-both") if name in NEWER]
LTX = ["ltxv", "ltxv-guides", "ltxav23"]
WORDS = [*H3, "ltxv", "ltxv-guides"]  # models among whose keys words can be found


def same(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def edited(model, edit):
    return edit_attention(model, "reference", edit, sites=("self", "text", "joint"))


def positive(call):
    return [row for row, kind in enumerate(call.forward.rows) if kind == 0]


def check(toys, name, patched, edit, steps=1):
    """Patched equals the reference, which differs from the plain model."""
    model, shot = toys(name), Shot(name, steps=steps, cfg=3.0)
    expected = sample(edited(model, edit), shot)
    same(sample(patched(model), shot), expected)
    assert (expected - sample(model, shot)).abs().mean() > 1e-4


@pytest.mark.parametrize("name", [*H3, *LTX])
def test_alignvid(toys, name):
    """Keys of text, or of all that joint attention sees, 1.5 times as large."""

    def edit(call, proceed):
        if call.site.kind == "self":
            return proceed(call)
        return naive.attention(1.5 * call.q, call.k, call.v, call.mask).flatten(2).to(call.q)

    check(toys, name, lambda model: alignvid.apply(model, alignvid.AlignVid(1.5, interval=Interval())), edit)


@pytest.mark.parametrize("name", LTX)
def test_dymos(toys, name):
    """16 tokens of the first frame stand first."""

    def edit(call, proceed):
        out = proceed(call)
        if call.site.kind == "self":
            bias = torch.zeros(1, 1, 1, call.k.shape[1])
            bias[..., :16] = -1.5
            bias = bias if call.mask is None else bias + call.mask
            for row in positive(call):
                one = [x[row : row + 1] for x in (call.q, call.k, call.v)]
                changed = naive.attention(*one, bias)[0].flatten(1).to(out)
                out[row, :144] = changed[:144]
        return out

    check(toys, name, lambda model: dymos.apply(model, dymos.DyMoS(1.5, interval=Interval())), edit)


@pytest.mark.parametrize("name", [*H3, *LTX])
def test_text_contrast(toys, name):
    """Less what the mean of the video's queries takes: of the prompt's attention, or on H3 of its values."""

    def edit(call, proceed):
        out = proceed(call)
        video = slice(call.before, call.q.shape[1] - call.after)
        text = slice(0, 7 if call.site.kind == "joint" else call.k.shape[1])
        for row in positive(call) if call.site.kind != "self" else ():
            q, k, v = (x[row : row + 1] for x in (call.q, call.k, call.v))
            mean = q[:, video].double().mean(1, keepdim=True)
            base = naive.attention(mean, k[:, text], v[:, text], call.mask)
            if call.site.kind == "text":
                plain = naive.attention(q, k, v, call.mask)[:, video]
                out[row, video] = (2 * plain - base)[0].flatten(1).to(out)
                continue
            values = v.double().clone()
            values[:, text] = 2 * values[:, text] - base
            out[row, video] = naive.attention(q, k, values)[0, video].flatten(1).to(out)
        return out

    config = text_contrast.TextContrast(keep_norm=False, per_cfg=False)
    check(toys, name, lambda model: text_contrast.apply(model, config), edit)


@pytest.mark.parametrize("name", WORDS)
def test_focal_guidance(toys, name):
    """Words 2 and 5 of the prompt weigh three times as much: log 3 more in the logits."""

    def edit(call, proceed):
        if call.site.kind == "self":
            return proceed(call)
        bias = torch.zeros(len(call.q), 1, 1, call.k.shape[1])
        for row in positive(call):
            bias[row, ..., [2, 5]] = math.log(3.0)
        bias = bias if call.mask is None else bias + call.mask
        return naive.attention(call.q, call.k, call.v, bias).flatten(2).to(call.q)

    config = focal_guidance.FocalGuidance(text=TEXT, keywords=("ball", "blue"), per_cfg=False)
    check(toys, name, lambda model: focal_guidance.apply(model, ToyCLIP(), config), edit)


@pytest.mark.parametrize("name", WORDS)
def test_focal_guidance_carries_maps(toys, name):
    """Of block 0 into the others, half and half; the prompt's part of joint attention keeps its mass."""
    kept = {}

    def edit(call, proceed):
        if call.site.kind == "self":
            return proceed(call)
        text = 7
        logits = naive.logits_of(call.q, call.k)
        logits = logits if call.mask is None else logits + call.mask.double()
        video = slice(call.before, None)  # of text attention in-context tokens' queries, too
        maps = logits.softmax(-1)
        if call.site.block == 0:
            kept["map"] = logits[:, :, video, :text].softmax(-1)
        else:
            for row in positive(call):
                mass = maps[row, :, video, :text].sum(-1, keepdim=True)
                maps[row, :, video, :text] = 0.5 * maps[row, :, video, :text] + 0.5 * mass * kept["map"][row]
        return torch.einsum("bhqk,bkhd->bqhd", maps, call.v.double()).flatten(2).to(call.q)

    config = focal_guidance.FocalGuidance(weight=1.0, cache=0.5, source_blocks="0", per_cfg=False)
    check(toys, name, lambda model: focal_guidance.apply(model, None, config), edit)


@pytest.mark.parametrize("name", WORDS)
def test_a_region_for_each_video_frame(toys, name):
    """The last video frame of each latent frame: 0, 4, 8, 12, 16, 17, ... on H3 and 0, 8, 16, ... on LTX. Keywords are
    louder in latent frames 4 and 5 alone."""
    model, shot = toys(name), Shot(name, steps=1, cfg=1.0)
    ends = [0, 4, 8, 12, 16, 17, 21, 25, 29] if name in H3 else list(range(0, 65, 8))
    each = torch.zeros(ends[-1] + 1, 8, 8)
    each[ends[4]], each[ends[5]] = 1, 1
    latents = torch.zeros(9, 8, 8)
    latents[4:6] = 1

    def guided(region):
        config = focal_guidance.FocalGuidance(text=TEXT, keywords=("ball",), region=region, per_cfg=False)
        return sample(focal_guidance.apply(model, ToyCLIP(), config), shot)

    assert torch.equal(guided(each), guided(latents))
    assert not torch.allclose(guided(each), sample(model, shot), atol=1e-3)
    with pytest.raises(ValueError, match=rf"region: 12 for a video of 9 latent.*9 .*or {ends[-1] + 1} .one per video"):
        guided(torch.ones(12, 8, 8))


@pytest.mark.parametrize("name", WORDS)
def test_attention_maps(toys, name):
    """The mean softmax of all blocks, for the words of tokens 2 ("ball") and 0 and 4 ("a")."""
    import comfy.nested_tensor

    model, shot, seen = toys(name), Shot(name), []
    frames = 9 + 3 * (name == "ltxv-guides")
    latent = seeded(1, EVERY[name].channels, frames, 4, 4, seed=5)
    [[features, extra]] = conditioning(shot, 7, 20)
    if name == "ltxv-guides":
        extra = extra | {"keyframe_idxs": torch.rand(1, 3, 3 * 16, 2)}
    if EVERY[name].sound:
        latent = comfy.nested_tensor.NestedTensor((latent, seeded(*sound_shape(shot), seed=6)))
    latent = {"samples": latent} | ({"noise_mask": torch.ones(1, 1, frames, 4, 4)} if "guides" in name else {})

    def watch(call, proceed):
        logits = naive.logits_of(call.q, call.k)
        logits = logits if call.mask is None else logits + call.mask.double()
        seen.append(logits.softmax(-1).mean(1)[0, call.before : call.q.shape[1] - call.after, :7])
        return proceed(call)

    watching = edit_attention(model, "watch", watch, sites=("text", "joint"))
    conds = [[features, extra]]
    visit_levels(watching, {"positive": conds}, latent, [0.5], lambda predict, *_: predict("positive"))
    assert len(seen) == 4
    whole = sum(seen) / 4
    got = attention_maps(model, ToyCLIP(), conds, TEXT, ["ball", "a"], latent)
    assert got.shape == (2, 9, *((2, 2) if name in H3 else (4, 4)))
    torch.testing.assert_close(got[0].flatten().double(), whole[:, 2], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got[1].flatten().double(), whole[:, 0] + whole[:, 4], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["ltxv", "ltxav23", *H3[:1]])
def test_plans_are_refused(toys, tmp_path, name):
    family = "MiniMax H3" if name in H3 else "LTX"
    with pytest.raises(ValueError, match=f"Plan Adapter cannot say where .* on the RoPE axes of {family}"):
        spec_for(toys(name), 6, "clip")
    adapter = load_plan_adapter(write_toy_plan_adapter(tmp_path / "adapter.safetensors"))
    with pytest.raises(ValueError, match=f"adapter: made for Wan, this model is {family}"):
        plan_adapter.apply(toys(name), adapter, plan_adapter.PlanGuide(toy_plan()))


def test_what_cannot_work_is_refused_with_the_reason(toys):
    config = focal_guidance.FocalGuidance(text=TEXT, keywords=("ball",))
    with pytest.raises(ValueError, match="this LTX mixes the words of a prompt before its blocks"):
        focal_guidance.apply(toys("ltxav"), ToyCLIP(), config)
    with pytest.raises(ValueError, match="this LTX mixes the words .* Load another model, or remove the node"):
        attention_maps(toys("ltxav23"), ToyCLIP(), conditioning(Shot("ltxav23"), 7, 20), TEXT, ["ball"], None)
    for name in ("ltxv", "ltxav23", *H3[:1]):
        with pytest.raises(ValueError, match="ALG has no published blur.*Load an I2V model of Wan or HunyuanVideo"):
            alg.apply(toys(name), alg.ALG())
    for name in H3[:1]:
        with pytest.raises(ValueError, match="MiniMax H3 sees its start image as tokens beside the video"):
            dymos.apply(toys(name), dymos.DyMoS())
    with pytest.raises(ValueError, match="anchor 0.5: this LTX has no image branch"):
        region = torch.ones(1, 4, 4)
        focal_guidance.apply(
            toys("ltxv"), ToyCLIP(), focal_guidance.FocalGuidance(text=TEXT, anchor=0.5, region=region)
        )
