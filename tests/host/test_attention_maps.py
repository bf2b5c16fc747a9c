"""Attention maps of real models against explicit softmax, and what the streamed pass holds."""

import math

import pytest
import torch

from semantic_video.harness.sampling import Shot, conditioning, seeded
from semantic_video.harness.toy import STRAIGHT, TOYS
from semantic_video.harness.toy_nodes import ToyCLIP
from semantic_video.host.editing import edit_attention
from semantic_video.host.levels import visit_levels
from semantic_video.patches.attention_maps import attention_maps
from semantic_video.tests.host.stacking import windows

TEXT = "a red ball and a blue cube"


def parts(name, frames=5):
    latent = {"samples": seeded(1, TOYS[name].channels, frames, 4, 4, seed=5)}
    return conditioning(Shot(name, frames=frames), 7, 20), latent


def maps(model, positive, latent, words=("ball", "a"), **options):
    return attention_maps(model, ToyCLIP(), positive, TEXT, list(words), latent, **options)


def explicit(model, positive, latent, columns, chosen, at):
    """Mean over heads and blocks of the whole softmax, [video tokens, columns], in fp64."""
    seen = []

    def watch(call, proceed):
        if call.site.block in chosen and call.site.stream != "side":
            logits = torch.einsum("bqhd,bkhd->bhqk", call.q.double(), call.k.double()) / math.sqrt(call.q.shape[-1])
            logits = logits if call.mask is None else logits + call.mask
            text = call.k.shape[1] if call.site.kind == "text" else call.before - call.forward.layout.before
            whole = logits.softmax(-1).mean(1)[0, call.before : call.q.shape[1] - call.after]
            seen.append(whole[:, [text - 7 + column for column in columns]])
        return proceed(call)

    watching = edit_attention(model, "watch", watch, sites=("text", "joint"))
    visit_levels(watching, {"positive": positive}, latent, [at], lambda predict, *_: predict("positive"))
    assert len(seen) == len(chosen)
    return sum(seen) / len(seen)


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize(("blocks", "at"), [("", 0.5), ("1,3", 0.2)])
def test_maps_are_the_mean_softmax(toys, name, blocks, at):
    model = toys(name)
    positive, latent = parts(name)
    config = TOYS[name].config
    count = config["num_layers"] if "num_layers" in config else config["depth"] + config["depth_single_blocks"]
    chosen = {1, 3} if blocks else set(range(count))
    got = maps(model, positive, latent, blocks=blocks, at=at)
    side = 4 if name == "hunyuan-1.5" else 2
    assert got.shape == (2, 5, side, side)
    whole = explicit(model, positive, latent, [2, 0, 4], chosen, at)
    torch.testing.assert_close(got[0].flatten().double(), whole[:, 0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got[1].flatten().double(), whole[:, 1] + whole[:, 2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("by_query", [True, False])
@pytest.mark.parametrize("name", ["wan-reference", "hunyuan-i2v"])
def test_another_edit_s_mask_counts(toys, name, by_query):
    """One of all keys, for every query or for each its own, in one block."""
    model = toys(name)
    positive, latent = parts(name)

    def hiding(call, proceed):
        return proceed(call.replace(mask=2 * seeded(1, 1, call.q.shape[1] if by_query else 1, call.k.shape[1], seed=9)))

    masked = edit_attention(model, "hiding", hiding, sites=("text", "joint"))
    got = maps(masked, positive, latent, blocks="1")
    whole = explicit(masked, positive, latent, [2, 0, 4], {1}, 0.5)
    torch.testing.assert_close(got[0].flatten().double(), whole[:, 0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got[1].flatten().double(), whole[:, 1] + whole[:, 2], rtol=1e-4, atol=1e-6)
    plain = explicit(model, positive, latent, [2], {1}, 0.5)
    assert not torch.allclose(whole[:, :1], plain, rtol=1e-2)


def test_context_windows_are_put_together(toys):
    """Each frame the mean of the windows that saw it."""
    model, frames = toys("wan-t2v"), 9
    positive, latent = parts("wan-t2v", frames)
    total, count = torch.zeros(frames, 4, dtype=torch.float64), torch.zeros(frames)

    def watch(call, proceed):
        logits = torch.einsum("qhd,khd->hqk", call.q[0].double(), call.k[0].double()) / math.sqrt(call.q.shape[-1])
        whole = logits.softmax(-1).mean(0)[:, 2].unflatten(0, (-1, 4))
        for frame, one in zip(call.forward.frames, whole):
            total[frame] += one
            count[frame] += 1
        return proceed(call)

    patched = windows(edit_attention(model, "watch", watch, sites=("text",)))
    visit_levels(patched, {"positive": positive}, latent, [0.5], lambda predict, *_: predict("positive"))
    got = maps(windows(model), positive, latent, words=("ball",))
    assert count.min() >= 4
    torch.testing.assert_close(got[0].flatten(1).double(), total / count[:, None], rtol=1e-4, atol=1e-6)


def test_a_phrase_is_the_sum_of_its_words(toys):
    positive, latent = parts("hunyuan-t2v")
    got = maps(toys("hunyuan-t2v"), positive, latent, words=("red ball", "red", "ball"))
    torch.testing.assert_close(got[0], got[1] + got[2])


@pytest.mark.parametrize("name", STRAIGHT)
def test_the_model_is_left_alone(toys, name):
    """Maps are read beside an edit, and read what it makes of the attention's inputs; the parent has no editor."""
    model = toys(name)
    positive, latent = parts(name)
    plain = maps(model, positive, latent)

    def sharper(call, proceed):
        return proceed(call.replace(q=2 * call.q))

    after = maps(edit_attention(model, "sharper", sharper, sites=("self", "text", "joint")), positive, latent)
    assert not torch.allclose(plain, after)
    assert torch.equal(plain, maps(model, positive, latent))


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_streaming_is_used(toys, name, monkeypatch):
    """With a budget of 10 logits the same maps; what a budget bounds is tested beside the kernel."""
    import semantic_video.patches.attention_maps as patch

    positive, latent = parts(name)
    plain, kernel, calls = maps(toys(name), positive, latent), patch.text_map, []

    def tiny(*args):
        calls.append(args[0].shape)
        return kernel(*args, budget=10)

    monkeypatch.setattr(patch, "text_map", tiny)
    torch.testing.assert_close(maps(toys(name), positive, latent), plain, rtol=1e-4, atol=1e-6)
    assert calls and all(shape[0] == 1 for shape in calls)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": ("dog",)}, "words: 'dog' does not stand in the prompt"),
        ({"words": ()}, "words: empty"),
        ({"blocks": "9"}, "blocks: '9' is out of range"),
    ],
)
def test_bad_input(toys, options, message):
    positive, latent = parts("wan-t2v")
    with pytest.raises(ValueError, match=message):
        maps(toys("wan-t2v"), positive, latent, **options)
    with pytest.raises(ValueError, match="positive: 2 conditionings. Give one"):
        maps(toys("wan-t2v"), positive * 2, latent)
    for name in ("wan-t2v", "hunyuan-t2v"):  # in the latter a picture may stand in front of the text
        with pytest.raises(ValueError, match="text: 3 tokens in this CLIP, .* has 7"):
            attention_maps(toys(name), ToyCLIP(), parts(name)[0], "a red ball", ["ball"], latent)
    replaced = toys("wan-t2v").clone()
    replaced.set_model_patch_replace(lambda args, extra: {"img": args["img"]}, "dit", "double_block", 2)
    with pytest.raises(ValueError, match="model: no text attention of blocks 2 came by"):
        maps(replaced, positive, latent, blocks="2")
