"""Text Contrast on the real host against the formula, written out in fp64."""

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import TOYS
from semantic_video.host.editing import edit_attention
from semantic_video.patches.text_contrast import TextContrast, apply
from semantic_video.tests.host import naive


def contrasted(q, k, v, video, strength, keep_norm):
    """[batch, tokens, heads, dim]: explicit attention, and less of that of the mean query."""
    out = naive.attention(q, k, v)
    base = naive.attention(q[:, video].double().mean(1, keepdim=True), k, v)
    changed = out.clone()
    changed[:, video] = out[:, video] + strength * (out[:, video] - base)
    if keep_norm:
        norms = [x.flatten(2).norm(dim=-1, keepdim=True).unsqueeze(-1) for x in (out, changed)]
        changed = changed * norms[0] / norms[1]
    return changed


@pytest.mark.parametrize("keep_norm", [True, False])
@pytest.mark.parametrize("toy", ["wan-t2v", "wan-i2v", "wan-i2v-clip"])
def test_it_is_the_formula_on_wan(toys, toy, keep_norm, monkeypatch):
    """Rows of the positive prompt, text branch alone, blocks 1 and 3."""
    model, shot = toys(toy), Shot(toy)
    got = sample(apply(model, TextContrast(0.7, keep_norm, "1,3", per_cfg=False)), shot)
    acted = set()

    def formula(kind, q, k, v, options):
        out = naive.attention(q, k, v)
        if kind != "text" or options["block_index"] not in (1, 3):
            return out
        for row, prompt in enumerate(options["cond_or_uncond"]):
            if prompt == 0:
                acted.add(options["block_index"])
                one = slice(row, row + 1)
                out[one] = contrasted(q[one], k[one], v[one], slice(None), 0.7, keep_norm)
        return out

    plain = sample(model, shot)
    naive.in_wan(monkeypatch, formula)
    expected = sample(model, shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert acted == {1, 3}
    assert not torch.allclose(plain, expected, rtol=1e-2, atol=1e-2)


def reference(call, proceed, keep_norm, layout):
    """Of any family. Joint: what the video takes from the prompt's columns, less that of the mean query, times the part
    of each row that those columns have; with `keep_norm` each of their values keeps its norm."""
    positive = [row for row, prompt in enumerate(call.forward.rows) if prompt == 0]
    out = proceed(call).unflatten(2, (call.q.shape[2], -1)).clone()
    video = slice(call.before, call.q.shape[1] - call.after)
    for row in positive if call.site.stream != "side" else ():
        q, k, v = (x[row : row + 1] for x in (call.q, call.k, call.v))
        if call.site.kind == "text":
            out[row] = contrasted(q, k, v, video, 1.0, keep_norm)[0].to(out)
            continue
        skip, text = layout
        columns = slice(skip, text)
        mask = 0 if call.mask is None else call.mask.double()
        weights = (naive.logits_of(q, k) + mask).softmax(-1)[0, :, video, columns]  # [heads, video, text]
        base = naive.attention(q[:, video].double().mean(1, keepdim=True), k[:, columns], v[:, columns])[0, 0]
        difference = v[0, columns].double() - base  # [text, heads, dim]
        values = v[0, columns].double() + difference
        if keep_norm:
            norms = [x.flatten(1).norm(dim=-1).view(-1, 1, 1) for x in (v[0, columns].double(), values)]
            values = values * norms[0] / norms[1]
        out[row, video] += torch.einsum("hqk,khd->qhd", weights, values - v[0, columns].double()).to(out)
    return out.flatten(2)


@pytest.mark.parametrize("keep_norm", [True, False])
@pytest.mark.parametrize("toy", TOYS)
def test_it_is_the_formula_in_every_family(toys, toy, keep_norm):
    model, shot = toys(toy), Shot(toy)
    # Tokens of CLIP's view in front of the prompt's on joint attention, and all text tokens.
    layout = {"hunyuan-t2v": (0, 7), "hunyuan-i2v": (0, 7), "hunyuan-1.5": (6, 6 + 3 + 7)}.get(toy)

    def edit(call, proceed):
        return reference(call, proceed, keep_norm, layout)

    expected = sample(edit_attention(model, "reference", edit, sites=("text", "joint")), shot)
    got = sample(apply(model, TextContrast(keep_norm=keep_norm, per_cfg=False)), shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("toy", ["wan-t2v", "hunyuan-t2v"])
def test_cfg_does_not_multiply_it(toys, toy):
    """What is added to the positive prompt's answer counts CFG times: 3 here."""
    model, shot = toys(toy), Shot(toy, steps=1)
    shared = sample(apply(model, TextContrast(0.9)), shot)
    assert torch.equal(shared, sample(apply(model, TextContrast(0.3, per_cfg=False)), shot))
    whole = sample(apply(model, TextContrast(0.9, per_cfg=False)), shot)
    assert not torch.allclose(shared, whole, rtol=1e-2, atol=1e-3)
    alone = shot.but(cfg=1.0)
    one, other = (sample(apply(model, TextContrast(0.9, per_cfg=choice)), alone) for choice in (True, False))
    assert torch.equal(one, other)


def test_text_queries_of_joint_attention_stay(toys):
    """Their first block's output is the plain model's, bit for bit."""
    model, shot = toys("hunyuan-t2v"), Shot("hunyuan-t2v", steps=1, cfg=1.0)
    seen = []

    def watch(call, proceed):
        out = proceed(call)
        if call.site.block == 0:
            seen.append(out)
        return out

    for patched in (model, apply(model, TextContrast())):
        sample(edit_attention(patched, "watch", watch, sites=("joint",)), shot)
    plain, contrasted = seen
    torch.testing.assert_close(plain[:, : shot.words], contrasted[:, : shot.words], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(plain[:, shot.words :], contrasted[:, shot.words :], rtol=1e-3, atol=1e-3)


def test_the_mean_is_of_the_video_alone(toys):
    """Reference tokens in front and in-context tokens behind keep their attention, and do not count."""
    for toy in ("wan-reference", "wan-in-context"):
        model, shot = toys(toy), Shot(toy, steps=1, cfg=1.0)
        seen = []

        def watch(call, proceed, seen=seen):
            out = proceed(call)
            if call.site.block == 0:
                seen.append((out[:, : call.before], out[:, out.shape[1] - call.after :]))
            return out

        for patched in (model, apply(model, TextContrast())):
            sample(edit_attention(patched, "watch", watch, sites=("text",)), shot)
        (front, back), (front_patched, back_patched) = seen
        assert front.shape[1] + back.shape[1] > 0
        assert torch.equal(front, front_patched) and torch.equal(back, back_patched)


def test_words_of_another_pack_s_mask_count_as_it_says(toys):
    """Another editor hides a word from half of the video: the mean query sees it with the mean of the logits."""
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=1, cfg=1.0)
    bias = torch.zeros(1, 1, 36, 7)
    bias[..., :18, 2] = -3.0

    def hiding(call, proceed):
        return proceed(call.replace(mask=bias))

    def expected(call, proceed):
        q, k, v = call.q, call.k, call.v
        out = naive.attention(q, k, v, bias)
        mean = (naive.logits_of(q, k) + bias).mean(2, keepdim=True).softmax(-1)
        base = torch.einsum("bhqk,bkhd->bqhd", mean, v.double())
        return (out + (out - base)).flatten(2).to(q.dtype)

    reference_model = edit_attention(model, "reference", expected, sites=("text",))
    for one in (True, False):  # in both orders
        masked = edit_attention(model, "hiding", hiding, sites=("text",)) if one else model
        both = apply(masked, TextContrast(keep_norm=False, per_cfg=False))
        both = both if one else edit_attention(both, "hiding", hiding, sites=("text",))
        torch.testing.assert_close(sample(both, shot), sample(reference_model, shot), rtol=1e-3, atol=1e-4)
