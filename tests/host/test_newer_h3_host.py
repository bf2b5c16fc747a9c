"""MiniMax H3 on ComfyUI 0.35 and later, which says in its options which block an attention is of and where its tokens
lie, and hands blocks an attention of a patch's own. Older hosts get those lines written in."""

import inspect
import runpy
import textwrap

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import NEWER
from semantic_video.host.families import family_of
from semantic_video.patches.swin_renderer import apply
from semantic_video.tests.host.test_newer_families import replaced, watching
from semantic_video.tests.host.test_swin_newer import WINDOWS, reference, same

if "h3" not in NEWER:
    pytest.skip("this host has no MiniMax H3", allow_module_level=True)

import comfy.ldm.minimax.model as minimax

CALL = (  # lines of a call of the model, and of a block
    ("    # model_base passes", '    transformer_options["minimax_h3_layout"] = layout\n    # model_base passes'),
    (
        '        if ("double_block", i)',
        '        transformer_options["block_index"] = i\n        if ("double_block", i)',
    ),
    ('=args["transformer_options"])}', '=args["transformer_options"], attention=args.get("attention"))}'),
    ('{"img": h, "t_emb": t_emb,', '{"img": h, "layout": layout, "t_emb": t_emb,'),
)
BLOCK = (
    ("transformer_options={}):", "transformer_options={}, attention=None):\n    attention = attention or self.attn"),
    ("self.attn(h,", "attention(h,"),
)


def rewritten(function, changes, folder):
    source = textwrap.dedent(inspect.getsource(function))
    if "attention=args.get" in source or "attention=None" in source:
        return function
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    file = folder / f"{function.__name__}.py"
    file.write_text(source, encoding="utf-8")
    return runpy.run_path(str(file), vars(minimax))[function.__name__]


@pytest.fixture
def newer_host(monkeypatch, tmp_path):
    for model, name, changes in ((minimax.MiniMaxH3Model, "_forward", CALL), (minimax.DiTBlock, "forward", BLOCK)):
        monkeypatch.setattr(model, name, rewritten(getattr(model, name), changes, tmp_path))


@pytest.mark.parametrize("name", ["h3", "h3-both"])
def test_windows_on_a_host_that_publishes(toys, name, newer_host):
    model, shot, told, seen = toys(name), Shot(name, steps=1, cfg=1.0), [], []

    def publishing(args, extra):
        told.append((args["transformer_options"]["block_index"], args["layout"].segments[-1]))
        return extra["original_block"](args)

    plain = sample(replaced(model, 2, publishing), shot)
    assert torch.equal(plain, sample(watching(model, seen), shot))
    assert [call.site.block for call in seen] == [0, 1, 2, 3]
    assert told == [(2, (seen[0].before, seen[0].q.shape[1], "video"))]
    same(sample(apply(model, WINDOWS), shot), sample(reference(model), shot))
    assert told == [(2, told[0][1])]


def test_its_sparse_attention_makes_way_where_windows_act(toys, newer_host, caplog):
    """And does its work where nothing of ours acts."""
    model, shot, asked = toys("h3"), Shot("h3", steps=1, cfg=1.0), []

    def sparse(args, extra):
        block = model.model.diffusion_model.blocks[2]

        def attend(h, **options):
            asked.append(options["transformer_options"]["block_index"])
            return 0.5 * block.attn(h, **options)

        return extra["original_block"]({**args, "attention": attend})

    both = replaced(model, 2, sparse)
    assert not torch.allclose(sample(both, shot), sample(model, shot), rtol=1e-3, atol=1e-3)
    assert asked == [2]
    assert torch.equal(sample(apply(both, WINDOWS), shot), sample(apply(model, WINDOWS), shot))
    assert asked == [2]
    assert "did nothing" not in caplog.text
    assert "everywhere" not in caplog.text


def test_the_host_s_list_of_tokens_counts_if_it_is_of_this_call(toys):
    """Before what the conditionings tell; a list of a call of other lengths does not."""
    model, seen = toys("h3-both"), []
    sample(watching(model, seen), Shot("h3-both", cfg=1.0, steps=1))
    forward, family = seen[0].forward, family_of(model)
    payload = forward.arguments["minimax_payload"]
    bare = forward.arguments | {"minimax_payload": {}}
    options = forward.arguments["transformer_options"] | {"minimax_h3_layout": payload["layout"]}
    assert family.layout(forward.module, bare).before == forward.layout.audio, "nothing else is known there"
    assert family.layout(forward.module, bare | {"transformer_options": options}) == forward.layout

    video, sound = forward.arguments["x"]
    shorter = forward.arguments | {"x": [video, sound[..., :-5]]}
    for stale in (shorter, shorter | {"transformer_options": options}):
        found = family.layout(forward.module, stale)
        assert (found.audio, found.before) == (forward.layout.audio - 10, forward.layout.before - 10)
