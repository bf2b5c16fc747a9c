"""MiniMax H3 and LTX: what differs from Wan and HunyuanVideo, with values written out, and the cases that are hard to
get right."""

import inspect

import comfy.ldm.lightricks.av_model as av_model
import pytest
import torch

from semantic_video.harness.sampling import Shot, sample, sound_shape
from semantic_video.harness.toy import NEWER
from semantic_video.host.block_numbers import numbered_blocks
from semantic_video.host.editing import EDITORS, edit_attention
from semantic_video.host.families import family_of
from semantic_video.host.layout import Layout

SITES = ("self", "text", "joint")
# toy: tokens between text and video: two keyframes of 1 and 2 latent frames (4 tokens each) with 3 latent frames of
# sound (2 tokens each); a picture of 6 x 4 cells, a video of 2 x 4 x 4 with 5 of sound, 3 of sound
BEFORE = {"h3": 0, "h3-keyframes": 3 * 4 + 6, "h3-references": 6 + 2 * 4 + 10 + 6}
BEFORE["h3-both"] = BEFORE["h3-keyframes"] + BEFORE["h3-references"]
H3 = [name for name in NEWER if name.startswith("h3")]


def watching(model, seen, edit=None):
    def watch(call, proceed):
        seen.append(call)
        return edit(call, proceed) if edit else proceed(call)

    return edit_attention(model, "watch", watch, sites=SITES)


@pytest.mark.parametrize("name", NEWER)
def test_an_editor_that_changes_nothing_is_the_host(toys, name):
    model, shot, seen = toys(name), Shot(name, steps=2), []
    plain = sample(model, shot)
    assert torch.isfinite(plain).all()
    assert torch.equal(plain, sample(watching(model, seen), shot))
    kinds = ["joint"] if name in H3 else ["self", "text"]
    order = [(kind, block) for block in range(4) for kind in kinds]
    calls = [(call.site.kind, call.site.block) for call in seen if call.site.blocks == 4]
    assert calls == order * (len(calls) // len(order)) and len(calls) == len(seen)
    assert EDITORS not in model.model_options["transformer_options"]


@pytest.mark.parametrize("name", H3)
@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(4, 4, 2, 2), (5, 7, 3, 4)])
def test_the_sequence_of_minimax_h3(toys, name, height, width, rows, columns):
    """Odd latents are padded to whole tokens of 2 x 2."""
    seen, shot = [], Shot(name, frames=12, height=height, width=width, cfg=1.0, steps=1)
    audio = 2 * sound_shape(shot)[-1]
    assert audio == 2 * 65, "12 latent frames are 39 video frames, 1.625 s, of 40 latent frames of sound a second"
    keyframes = BEFORE[name] - (0 if name in ("h3", "h3-references") else (3 * 4 - 3 * rows * columns))
    sample(watching(toys(name), seen), shot)
    assert {call.forward.layout for call in seen} == {
        Layout(12, rows, columns, before=keyframes + audio, audio=audio, patch=(2, 2))
    }
    assert {(call.before, call.after, call.q.shape[1]) for call in seen} == {
        (7 + keyframes + audio, 0, 7 + keyframes + audio + 12 * rows * columns)
    }
    assert {call.forward.rows for call in seen} == {(0,)}


@pytest.mark.parametrize("name", [name for name in H3 if name in ("h3", "h3-both")])
def test_tokens_are_counted_where_the_host_lists_none(toys, name):
    model, seen = toys(name), []
    sample(watching(model, seen), Shot(name, cfg=1.0, steps=1))
    forward = seen[0].forward
    arguments = forward.arguments | {"minimax_payload": forward.arguments["minimax_payload"] | {"layout": None}}
    assert family_of(model).layout(forward.module, arguments) == forward.layout


@pytest.mark.parametrize("name", H3[:1])
def test_the_video_of_minimax_h3(toys, name):
    family, module = family_of(toys(name)), toys(name).model.diffusion_model
    assert family.first_frames(2) == [0, 1, 5]
    assert family.first_frames(12) == [0, 1, 5, 9, 13, 17, 18, 22, 26, 30, 34, 35, 39]
    assert family.first_frames(107)[-1] == 362 and family.first_frames(37)[-1] == 124
    assert family.trained_frames(module) == 107
    assert family.width_heads(module) == (4 * 32, 4), "wider than its 96 channels"
    assert family.blocks(module) == 4 == len(family.block_modules(module))


def replaced(model, block, patch):
    model = model.clone()
    model.set_model_patch_replace(patch, "dit", "double_block", block)
    return model


@pytest.mark.parametrize("name", [name for name in NEWER if name in ("h3", "ltxv", "ltxav23")])
def test_blocks_are_numbered_beside_another_pack_s_patches(toys, name):
    """One that passes on, and one that leaves its block out."""
    model, shot, seen, met = toys(name), Shot(name, steps=1, cfg=1.0), [], []

    def passing(args, extra):
        met.append(args["transformer_options"].get("block_index"))
        return extra["original_block"](args)

    assert torch.equal(
        sample(watching(replaced(model, 2, passing), seen), shot), sample(replaced(model, 2, passing), shot)
    )
    assert met == [2, None], "told its number where an editor acts, and left alone where none does"
    assert {call.site.block for call in seen} == {0, 1, 2, 3}

    skipping, seen[:] = replaced(model, 1, lambda args, extra: {"img": args["img"]}), []
    assert torch.equal(sample(watching(skipping, seen), shot), sample(skipping, shot))
    assert [call.site.block for call in seen if call.site.kind != "text"] == [0, 2, 3]


def test_a_block_s_own_attention_makes_way_for_an_editor():
    """Newer hosts' sparse attention hands blocks an attention that no editor would see. This host has none, so the
    block is a stand-in."""
    given = []

    def block(args):
        given.append(args)
        return {"img": args["img"] + 1}

    def sparse(args, extra):
        return extra["original_block"](args | {"attention": len, "img": 2 * args["img"]})

    options = {"patches_replace": {"dit": {("double_block", 1): sparse}, "other": {0: sparse}}, "kept": 3}
    numbered = numbered_blocks(options, 2)
    assert options["patches_replace"]["dit"] == {("double_block", 1): sparse} and numbered["other"] == {0: sparse}
    for index, result in ((0, 6), (1, 11)):
        args = {"img": 5, "transformer_options": {"kept": 3}}
        assert numbered["dit"][("double_block", index)](args, {"original_block": block}) == {"img": result}
        assert args == {"img": 5, "transformer_options": {"kept": 3}}
        assert given.pop() == {
            "img": 5 * (index + 1),
            "transformer_options": {"kept": 3, "block_index": index, "total_blocks": 2},
        }


def attentionless(args, extra):
    """As a pack whose block attends by itself."""
    return {"img": args["img"]}


@pytest.mark.parametrize("name", [name for name in NEWER if name in ("h3", "ltxav23")])
def test_who_goes_around_attention_is_named(toys, name, caplog):
    """Of one block, while others act; and of all, in the one warning that an editor did nothing."""
    own, shot = f"{attentionless.__module__}.attentionless", Shot(name, steps=1, cfg=1.0)
    sample(watching(replaced(toys(name), 2, attentionless), []), shot)
    assert f"watch did not act everywhere: no attention came by of block 2, replaced by {own}." in caplog.text
    caplog.clear()
    model = toys(name)
    for block in range(4):
        model = replaced(model, block, attentionless)
    sample(watching(model, []), shot)
    assert own in caplog.text
    assert "everywhere" not in caplog.text
    caplog.clear()
    sample(watching(toys(name), []), shot)
    assert "semantic-video" not in caplog.text


@pytest.mark.skipif(bool(H3), reason="this host has MiniMax H3")
def test_minimax_h3_is_named_with_the_host_it_needs(toys):
    model = toys("wan-t2v").clone()
    model.model.diffusion_model.__class__ = type("Other", (torch.nn.Module,), {})
    with pytest.raises(ValueError, match="MiniMax H3 .needs ComfyUI 0.30 or later."):
        family_of(model)


# toy: guide tokens behind the video (16 to a frame of 4 x 4), or 4 of the 16 of one on a grid half as fine
AFTER = {"ltxv-guides": 3 * 16, "ltxv-thinned": 4, "ltxav23-guides": 3 * 16, "ltxav25": 2 * 16}
LTX = [name for name in NEWER if name.startswith("ltx")]


@pytest.mark.parametrize("name", LTX)
def test_the_sequence_of_ltx(toys, name):
    """Grid queries come by alone, with all keys and a mask, where a guide does not weigh 1."""
    seen, shot = [], Shot(name, cfg=1.0, steps=1)
    sample(watching(toys(name), seen), shot)
    after, sound = AFTER.get(name, 0), name.startswith("ltxav")
    text = 1024 if sound else 7
    assert {call.forward.layout for call in seen} == {Layout(9, 4, 4, after=after, text=text, audio=65 if sound else 0)}
    split = name.endswith("guides")
    own = [call for call in seen if call.site.kind == "self"]
    assert {(call.before, call.after, call.q.shape[1], call.k.shape[1]) for call in own} == {
        (0, 0 if split else after, 144 + (0 if split else after), 144 + after)
    }
    assert all((call.mask is None) == (not split) for call in own)
    assert {(call.before, call.after, call.k.shape[1]) for call in seen if call.site.kind == "text"} == {
        (0, after, text)
    }
    assert {
        (run.total_frames, run.frames, run.size) for run in {id(c.forward.run): c.forward.run for c in seen}.values()
    } == {(9, 9, (9, 4, 4))}
    assert {call.forward.frames for call in seen} == {tuple(range(9))}


def test_the_video_of_ltx(toys):
    family = family_of(toys("ltxv"))
    assert family.first_frames(1) == [0, 1] and family.first_frames(4) == [0, 1, 9, 17, 25]
    module, sounding = toys("ltxv").model.diffusion_model, toys("ltxav").model.diffusion_model
    assert family.trained_frames(module) == 33 and family.first_frames(33)[-1] == 257
    assert [family.trained_frames(sounding, rate) for rate in (None, 24.0, 25.0, 50.0)] == [63, 61, 63, 126]
    assert family.width_heads(sounding) == (64, 4) and family.blocks(sounding) == 4 == len(
        family.block_modules(sounding)
    )


def all_sites(model, seen):
    kinds = ("self", "text", "audio", "audio_text", "from_audio", "to_audio")
    return edit_attention(model, "watch", lambda call, go: seen.append(call.site) or go(call), sites=kinds)


@pytest.mark.parametrize("name", ["ltxav", "ltxav23"])
@pytest.mark.parametrize("size", [(9, 4, 4), (7, 1, 7), (16, 8, 8)])
def test_streams_are_told_apart(toys, name, size):
    """Also where 7 x 1 x 7 tokens of video meet as many of sound, and 16 x 8 x 8 as many of text."""
    model, seen = toys(name), []
    sample(all_sites(model, seen), Shot(name, *size, cfg=1.0, steps=1))
    order = ["self", "text", "audio", "audio_text", "from_audio", "to_audio"]
    assert [(site.kind, site.block) for site in seen] == [(kind, block) for block in range(4) for kind in order]


def test_channels_tell_streams_apart_where_lengths_and_order_do_not(toys):
    """The first attention that comes by may be the sound's, where another pack has left the video's out."""
    model, layout = toys("ltxav"), Layout(7, 1, 7, text=1024, audio=49)
    module, options = model.model.diffusion_model, {"block_index": 0}
    kinds = [family_of(model).site(module, options, layout, 49, 49, dim, None).kind for dim in (16, 8)]
    assert kinds == ["self", "audio"]


@pytest.mark.parametrize(
    ("frames", "options", "missing"),
    [
        (9, {"stg_self_attn_blocks": [1]}, {("self", 1), ("audio", 1)}),
        (16, {"stg_self_attn_blocks": [1]}, {("self", 1), ("audio", 1)}),
        (7, {"a2v_cross_attn": False}, {("from_audio", block) for block in range(4)}),
        (7, {"v2a_cross_attn": False}, {("to_audio", block) for block in range(4)}),
    ],
)
def test_attentions_that_the_host_leaves_out_shift_no_others(toys, frames, options, missing):
    """Perturbed guidance and severed streams, where lengths tell nothing, too."""
    if not all(option in inspect.getsource(av_model) for option in options):
        pytest.skip("this host has no such option")
    size = {9: (9, 4, 4), 16: (16, 8, 8), 7: (7, 1, 7)}[frames]
    model, seen, shot = toys("ltxav"), [], Shot("ltxav", *size, cfg=1.0, steps=1)
    model.model_options["transformer_options"] |= options
    watched = all_sites(model, seen)
    assert torch.equal(sample(watched, shot), sample(model, shot))
    order = ["self", "text", "audio", "audio_text", "from_audio", "to_audio"]
    expected = [(kind, block) for block in range(4) for kind in order if (kind, block) not in missing]
    assert [(site.kind, site.block) for site in seen] == expected
