"""The editing layer, for every family and attention it claims to know: nothing changed is the host."""

import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT, TOYS
from semantic_video.host.editing import EDITORS, edit_attention
from semantic_video.tests.host.edits import ALL_SITES, adding, doubling, editing


@pytest.mark.parametrize("name", TOYS)
def test_an_editor_that_changes_nothing_is_the_host(toys, name):
    model, shot = toys(name), Shot(name)
    seen = []

    def watch(call, proceed):
        out = proceed(call)
        seen.append((call.site.kind, call.site.block))
        assert out.shape == (call.q.shape[0], call.q.shape[1], call.q.shape[2] * call.q.shape[3])
        layout = call.forward.layout
        assert (layout.frames, layout.height * layout.width) == (9, 16 if name == "hunyuan-1.5" else 4)
        if call.site.kind in ("self", "joint"):
            assert (
                call.before + layout.frames * layout.height * layout.width + call.after
                == call.q.shape[1]
                == call.k.shape[1]
            )
        return out

    plain = sample(model, shot)
    assert torch.isfinite(plain).all()
    assert torch.equal(plain, sample(editing(model, watch), shot))
    family = {"wan": {"self", "text"}, "hun": {"joint"}}[name[:3]] | (
        {"image"} if "clip_vision" in TOYS[name].conds else set()
    )
    assert {kind for kind, _ in seen} == family
    config = TOYS[name].config
    assert {block for _, block in seen} == set(
        range(config["num_layers"] if name[:3] == "wan" else config["depth"] + config["depth_single_blocks"])
    )


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("wan-reference", 4, 0),
        ("wan-phantom", 0, 8),
        ("wan-in-context", 0, 2 + 12),
        ("hunyuan-i2v", 7 + 4, 0),
        ("hunyuan-1.5", 6 + 3 + 7, 0),
    ],
)
def test_extra_tokens_are_told_from_video(toys, name, before, after):
    seen = set()

    def watch(call, proceed):
        if call.site.kind != "text" and call.forward.rows[0] == 0:  # the positive prompt
            seen.add((call.before, call.after))
        return proceed(call)

    sample(editing(toys(name), watch), Shot(name, negative_words=11))
    assert seen == {(before, after)}


@pytest.mark.parametrize("words", [36, 5])
def test_sites_are_told_apart_where_lengths_coincide(toys, words):
    """9 x 2 x 2 = 36 video tokens beside 36 text tokens; 5 image tokens beside 5 text tokens."""
    order = []

    def watch(call, proceed):
        order.append(call.site.kind)
        return proceed(call)

    sample(editing(toys("wan-i2v-clip"), watch), Shot("wan-i2v-clip", words=words, negative_words=words, steps=1))
    assert order == ["self", "image", "text"] * 4


@pytest.mark.parametrize("name", STRAIGHT)
def test_edits_act_and_the_parent_stays(toys, name):
    model, shot = toys(name), Shot(name)
    before = sample(model, shot)
    assert not torch.allclose(before, sample(editing(model, doubling), shot))
    assert torch.equal(before, sample(model, shot))
    assert EDITORS not in model.model_options["transformer_options"]
    assert not model.wrappers.get(WrappersMP.DIFFUSION_MODEL)


@pytest.mark.parametrize("name", STRAIGHT)
def test_two_editors_chain_in_both_orders(toys, name):
    model, shot = toys(name), Shot(name)

    def doubling_then_adding(call, proceed):
        return 2 * proceed(call) + 0.1

    def adding_then_doubling(call, proceed):
        return 2 * (proceed(call) + 0.1)

    assert torch.equal(
        sample(editing(model, doubling, adding), shot), sample(editing(model, doubling_then_adding), shot)
    )
    assert torch.equal(
        sample(editing(model, adding, doubling), shot), sample(editing(model, adding_then_doubling), shot)
    )


def test_splitting_editors_run_innermost_whatever_the_order(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    one = edit_attention(editing(model, doubling), "adding", adding, sites=ALL_SITES, splits="windows")
    other = editing(edit_attention(model, "adding", adding, sites=ALL_SITES, splits="windows"), doubling)
    assert torch.equal(sample(one, shot), sample(other, shot))


def test_the_same_technique_twice_acts_once(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    twice = edit_attention(edit_attention(model, "x", adding, sites=ALL_SITES), "x", doubling, sites=ALL_SITES)
    assert torch.equal(sample(twice, shot), sample(editing(model, doubling), shot))
    assert len(twice.get_wrappers(WrappersMP.DIFFUSION_MODEL, "semantic_video")) == 1


@pytest.mark.parametrize("name", STRAIGHT)
def test_batched_and_split_cfg_agree(toys, name, monkeypatch):
    model, shot = toys(name), Shot(name, words=7, negative_words=7)
    rows = []

    def positive_only(call, proceed):
        rows.append(call.forward.rows)
        weight = torch.tensor([1.5 if row == 0 else 1.0 for row in call.forward.rows]).view(-1, 1, 1)
        return proceed(call) * weight

    batched = sample(editing(model, positive_only), shot)
    assert {sorted(r) == [0, 1] for r in map(list, rows)} == {True}
    rows.clear()
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    split = sample(editing(model, positive_only), shot)
    assert set(rows) == {(0,), (1,)}
    torch.testing.assert_close(batched, split, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "rows"), [({"negative_words": 5}, {(0,), (1,)}), ({"cfg": 1.0}, {(0,)}), ({"batch": 2}, {(1, 1, 0, 0)})]
)
def test_rows_follow_the_host_s_grouping(toys, changes, rows):
    seen = set()

    def watch(call, proceed):
        seen.add(call.forward.rows)
        assert len(call.forward.rows) == call.q.shape[0]
        return proceed(call)

    model, shot = toys("wan-t2v"), Shot("wan-t2v", **changes)
    assert torch.equal(sample(model, shot), sample(editing(model, watch), shot))
    assert seen == rows
