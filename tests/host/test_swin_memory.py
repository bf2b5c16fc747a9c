"""Blocks in pieces and feed-forwards in chunks: the same video, from smaller tensors, and nothing left behind."""

import pytest
import torch
from torch import nn

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import TOYS
from semantic_video.host import pieces
from semantic_video.host.chunks import chunked, compiled, in_chunks
from semantic_video.host.editing import edit_attention
from semantic_video.host.families import family_of
from semantic_video.patches.prompt_timeline import PromptTimeline
from semantic_video.patches.prompt_timeline import apply as with_texts
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.masked_windows import WINDOWS, reference
from semantic_video.tests.host.stacking import foreign, windows
from semantic_video.tests.host.test_swin_timeline import told
from semantic_video.tests.host.timelines import WORDS, timeline

CLOSE = dict(rtol=1e-3, atol=1e-4)
ALONE = [name for name, toy in TOYS.items() if name.startswith("wan") and not {"reference", "time_dim_concat",
         "context_latents"} & set(toy.conds)]  # fmt: skip


@pytest.fixture
def small(monkeypatch):
    """Videos of any length go in pieces; small() -> how many pieces have attended since."""
    count, attention = [], pieces._Block.attention

    def counted(self, *args):
        count.append(args)
        return attention(self, *args)

    def since():
        counted_now = len(count)
        count.clear()
        return counted_now

    monkeypatch.setattr(pieces, "FEWEST_TOKENS", 0)
    monkeypatch.setattr(pieces._Block, "attention", counted)
    return since


@pytest.mark.parametrize("name", ALONE)
def test_pieces_are_masked_attention(toys, small, name):
    model, shot = toys(name), Shot(name)
    expected = sample(reference(model, window=4), shot)
    torch.testing.assert_close(sample(apply(model, WINDOWS), shot), expected, **CLOSE)
    assert small() >= 3 * (2 * 2 + 2 * 3), "three steps of two blocks in two windows and two in three"


@pytest.mark.parametrize(
    "config",
    [
        {"anchors": "rotating", "anchor_interval": 4, "anchor_budget": 12, "time_scale": 0.3},
        {"anchors": "first frame", "look_back": 2, "dense_blocks": "1"},
        {"look_back": 3, "time_scale": 0.0, "shift": False},
    ],
)
@pytest.mark.parametrize("starts", [(), (5, 14)])
@pytest.mark.parametrize("name", ["wan-t2v", "wan-5b"])
def test_pieces_are_windows_of_any_kind(toys, monkeypatch, small, name, starts, config):
    model, shot = told(toys(name), *starts), Shot(name, frames=24, steps=2)
    model = apply(model, SwinRenderer(window=6, **config))
    got = sample(model, shot)
    assert small()
    monkeypatch.setattr(pieces, "FEWEST_TOKENS", 10**6)
    torch.testing.assert_close(got, sample(model, shot), **CLOSE)
    assert not small()


@pytest.mark.parametrize(
    ("name", "hand_over", "strength"),
    [("wan-t2v", 0.0, 1.0), ("wan-t2v", 0.3, 0.6), ("wan-i2v-clip", 0.0, 1.0), ("wan-5b", 0.3, 1.0)],
)
def test_pieces_beside_a_timeline_of_prompts(toys, monkeypatch, small, name, hand_over, strength):
    """Windows of two frames within spans of three; the prompts in one call (as long as one another), and in two."""
    for negative_words in (7, sum(WORDS)) if name == "wan-t2v" else (7,):
        shot = Shot(name, steps=1, negative_words=negative_words)
        positive = timeline(shot)
        model = with_texts(
            apply(toys(name), SwinRenderer(window=2)), positive, PromptTimeline(hand_over=hand_over, strength=strength)
        )
        monkeypatch.setattr(pieces, "FEWEST_TOKENS", 0)
        got = sample(model, shot, positive=positive)
        assert small()
        monkeypatch.setattr(pieces, "FEWEST_TOKENS", 10**6)
        torch.testing.assert_close(got, sample(model, shot, positive=positive), **CLOSE)
        assert not small()


def test_prompts_and_videos_in_one_batch_or_apart(toys, small):
    model, shot = apply(toys("wan-t2v"), SwinRenderer(4, anchors="first frame")), Shot("wan-t2v", batch=2)
    whole = sample(model, shot)
    one = sample(reference(toys("wan-t2v"), window=4, anchors=(0,)), shot)
    torch.testing.assert_close(whole, one, **CLOSE)
    unequal = shot.but(negative_words=12)
    expected = sample(reference(toys("wan-t2v"), window=4, anchors=(0,)), unequal)
    torch.testing.assert_close(sample(model, unequal), expected, **CLOSE)
    assert small()


def test_context_windows_go_in_pieces_too(toys, small):
    model, shot = windows(toys("wan-t2v"), length=8, overlap=2), Shot("wan-t2v", frames=13)
    expected = sample(reference(model, window=4), shot)
    torch.testing.assert_close(sample(apply(model, WINDOWS), shot), expected, **CLOSE)
    assert small()


@pytest.mark.parametrize("foreign_first", [True, False])
def test_a_foreign_override_attends_in_pieces(toys, small, foreign_first):
    model, shot, log = toys("wan-t2v"), Shot("wan-t2v"), []
    both = model.clone() if foreign_first else apply(model, WINDOWS)
    both.model_options["transformer_options"]["optimized_attention_override"] = foreign(1.5, log)
    got = sample(apply(both, WINDOWS) if foreign_first else both, shot)
    assert small() and log
    louder = edit_attention(model, "louder", lambda call, proceed: 1.5 * proceed(call), sites=("text",))
    louder = edit_attention(louder, "windows", lambda call, proceed: 1.5 * proceed(call), sites=("self",))
    torch.testing.assert_close(got, sample(apply(louder, WINDOWS), shot), **CLOSE)
    assert not small(), "another editor looks at whole calls"


def test_a_block_that_another_patch_replaces_is_its_own(toys, small):
    model, shot, seen = toys("wan-t2v"), Shot("wan-t2v", steps=1), []

    def own(args, extra):
        seen.append(args["img"].shape[1])
        return extra["original_block"](args)

    replaced = model.clone()
    replaced.set_model_patch_replace(own, "dit", "double_block", 1)
    got = sample(apply(replaced, WINDOWS), shot)
    assert set(seen) == {9 * 4}, "whole, and windowed all the same"
    assert small() == 2 + 2 + 3, "the other blocks"
    torch.testing.assert_close(got, sample(reference(model, window=4), shot), **CLOSE)


@pytest.mark.parametrize("kind", ["attn1_patch", "attn2_patch"])
def test_a_patch_that_looks_into_blocks_sees_all_of_the_video(toys, small, kind):
    model, shot, seen = toys("wan-t2v").clone(), Shot("wan-t2v", steps=1), set()

    def look(args):
        seen.add(args["x"].shape[1])
        return args["x"]

    model.set_model_patch(look, kind)
    torch.testing.assert_close(sample(apply(model, WINDOWS), shot), sample(reference(model, window=4), shot), **CLOSE)
    assert seen == {9 * 4} and not small()


def test_short_videos_and_blends_are_not_cut_up(toys, small):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    assert torch.equal(sample(apply(model, SwinRenderer(window=10)), shot), sample(model, shot))
    sample(apply(model, SwinRenderer(window=4, strength=0.5)), shot)
    assert not small()


def widest(model, shot, of):
    """Most tokens that a module of `of(block)` gets in a run."""
    seen, family, module = [], family_of(model), model.model.diffusion_model
    hooks = [
        of(block).register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
        for block in family.block_modules(module)
    ]
    sample(model, shot)
    for hook in hooks:
        hook.remove()
    return max(seen)


def test_no_module_meets_more_than_a_window(toys, small):
    model = apply(toys("wan-t2v"), SwinRenderer(window=6, look_back=2))
    shot = Shot("wan-t2v", frames=48, height=2, width=2, steps=1)
    for of in (lambda b: b.ffn[0], lambda b: b.self_attn.q, lambda b: b.cross_attn.q, lambda b: b.norm1):
        assert widest(model, shot, of) == 6
    assert small()


@pytest.mark.parametrize(("name", "trained", "area"), [("hunyuan-1.5", 33, 4), ("wan-reference", 21, 1)])
def test_a_feed_forward_meets_as_many_tokens_as_the_model_was_trained_on(toys, name, trained, area):
    """Where text or references ask of the whole video, blocks take it whole."""
    model, shot = toys(name), Shot(name, frames=50, height=2, width=2, steps=1)

    def feed_forward(block):
        return block.img_mlp[0] if name == "hunyuan-1.5" else block.ffn[0]

    config = SwinRenderer(window=6)
    assert widest(apply(model, config), shot, feed_forward) == trained * area
    assert widest(model, shot, feed_forward) >= 50 * area
    blend = SwinRenderer(window=6, strength=1e-12)  # the dense result, by way of chunks
    torch.testing.assert_close(sample(apply(model, blend), shot), sample(model, shot), rtol=1e-3, atol=1e-4)
    for block in family_of(model).block_modules(model.model.diffusion_model):
        part = block.img_mlp if name == "hunyuan-1.5" else block.ffn
        assert "forward" not in part.__dict__, "left behind"


@pytest.mark.parametrize(("name", "most"), [("wan-t2v", 21), ("wan-vace", 21), ("wan-5b", 48)])
def test_the_head_meets_as_many_tokens_unless_its_modulation_is_a_frames_own(toys, name, most):
    model, shot, seen = toys(name), Shot(name, frames=48, height=2, width=2, steps=1), []
    linear = model.model.diffusion_model.head.head
    hook = linear.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    sample(apply(model, SwinRenderer(window=6)), shot)
    hook.remove()
    assert max(seen) == most and sum(seen) >= 48


@pytest.mark.parametrize("tokens", [1, 3, 7, 8, None])
def test_chunks_give_what_the_whole_gives_and_leave_nothing(tokens):
    layer, sizes = nn.Linear(4, 3), []
    x = torch.randn(2, 7, 4)
    expected = layer(x)

    def before(*args):
        sizes.append(args[0].shape[1])
        return nn.Linear.forward(layer, *args)

    layer.forward = before  # another pack's
    with in_chunks([layer], tokens):
        torch.testing.assert_close(layer(x), expected)
    assert max(sizes) <= (tokens or 7) and sum(sizes) == 7
    assert layer.forward is before
    with pytest.raises(RuntimeError, match="stop"), in_chunks([layer], tokens):
        raise RuntimeError("stop")
    assert layer.forward is before
    assert torch.equal(chunked(layer, 7, x), expected)


def test_compiled_blocks_go_whole(toys):
    """Chunks would be a new forward, and so a new graph, in every call."""
    model, shot, sizes = toys("wan-t2v"), Shot("wan-t2v", frames=48, height=2, width=2, steps=1), []
    blocks = model.model.diffusion_model.blocks
    hook = blocks[0].ffn[0].register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[1]))
    sample(apply(model, SwinRenderer(window=6, strength=1e-12)), shot)
    assert max(sizes) == 21 and not compiled(blocks)
    blocks[1].compile(backend="eager")
    sizes.clear()
    sample(apply(model, SwinRenderer(window=6, strength=1e-12)), shot)
    hook.remove()
    blocks[1]._compiled_call_impl = None
    assert max(sizes) == 48
    assert compiled([torch.compile(blocks[1], backend="eager")])
