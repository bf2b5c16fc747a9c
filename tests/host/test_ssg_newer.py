"""SSG Adapter on LTX (beside its text attention) and MiniMax H3 (beside its joint attention), against the formula
written out in fp64. Training: test_ssg_newer_training.py."""

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample, seeded
from semantic_video.harness.toy import NEWER, write_toy_adapter
from semantic_video.host.editing import edit_attention
from semantic_video.host.frozen_model import in_training
from semantic_video.kernels.ssg_adapter import SSGAdapter, initialise
from semantic_video.patches.ssg_adapter import apply
from semantic_video.patches.ssg_adapter_file import load_adapter
from semantic_video.patches.ssg_guide import Guide
from semantic_video.tests.host import naive
from semantic_video.tests.kernels.naive_ssg_branch import naive_branch
from semantic_video.training.ssg_model import LTX_2_ALONE, option_of, spec_for, version_of_host, with_adapter

SMALL = {"clip_width": 20, "grid": (3, 4), "token_width": 10, "blocks": (0, 2)}
IMAGE = seeded(1, 13, 20, seed=30)
H3 = [name for name in ("h3", "h3-both") if name in NEWER]
TRAINED = [*H3[:1], "ltxv", *(["ltxav23"] if version_of_host() >= LTX_2_ALONE else [])]


def written(module, call, out, size):
    """Each frame's queries of the grid look at the image; on H3 with places written out as the host writes them."""
    video = slice(call.before, call.before + call.forward.layout.frames * size[0] * size[1])
    for row in range(len(out)):
        q = call.q[row, video].double()
        if call.site.kind == "text":
            added = naive_branch(module, call.site.block, q, IMAGE[0].double(), *size)
        else:
            added = on_minimax(module, call, q, size)
        out[row, video] += 0.7 * added.to(out)
    return out


def on_minimax(module, call, q, size):
    from comfy.ldm.minimax.model import rope_rotation_table

    model = call.forward.module
    branch = module.branches[str(call.site.block)]
    tokens = module.tokens(IMAGE[0].double())
    k = branch.key_norm(branch.key_up(branch.key_down(tokens)).unflatten(-1, (module.spec.heads, -1)))
    v = branch.value_up(branch.value_down(tokens)).unflatten(-1, (module.spec.heads, -1))
    layout = call.forward.arguments["minimax_payload"]["layout"]
    start = float(layout.position_ids[layout.segments[-1][0], 0])
    (rows, columns), (height, width) = module.spec.grid, size
    places = [(start, 0.0, 0.0)]  # the class token: as the first
    places += [
        (start, (i + 0.5) * height / rows - 0.5, (j + 0.5) * width / columns - 0.5)
        for i in range(rows)
        for j in range(columns)
    ]
    side = (height * width) ** 0.5
    grid = torch.tensor(
        [
            (t, (y / side + (1 - height / side) / 2) * 32, (x / side + (1 - width / side) / 2) * 32)
            for t, y, x in places
        ],
        dtype=torch.float64,
    )
    turn = rope_rotation_table(model.rope_freqs(grid, "cpu"), torch.float64)[0, :, 0]  # [tokens, pairs, 2, 2]
    pairs = turn.shape[1]
    halves = torch.stack((k[..., :pairs], k[..., pairs : 2 * pairs]), dim=-1)
    turned = torch.einsum("tpij,thpj->thpi", turn, halves)
    k = torch.cat((turned[..., 0], turned[..., 1], k[..., 2 * pairs :]), dim=-1)
    return branch.gate * naive.attention(q[None], k[None], v[None])[0].flatten(1)


@pytest.mark.parametrize("name", [*H3, "ltxv", "ltxv-guides", "ltxav23"])
def test_it_is_the_formula(toys, tmp_path, name):
    """Added to the attention's result, before what comes after it (the gates of LTX-2.3, H3's projection)."""
    model, shot = toys(name), Shot(name, steps=1)
    size = (2, 2) if name in H3 else (4, 4)
    adapter = load_adapter(write_toy_adapter(tmp_path / "adapter.safetensors", name, **SMALL))
    module = SSGAdapter(adapter.model.spec, dtype=torch.float64)
    module.load_state_dict({key: value.double() for key, value in adapter.model.state_dict().items()})

    def edit(call, proceed):
        out = proceed(call).clone()
        return written(module, call, out, size) if call.site.block in (0, 2) else out

    expected = sample(edit_attention(model, "reference", edit, sites=("text", "joint")), shot)
    got = sample(apply(model, adapter, Guide(IMAGE, strength=0.7)), shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    plain = sample(model, shot)
    assert (expected - plain).abs().mean() > 1e-3
    assert apply(model, adapter, Guide(IMAGE, strength=0.0)) is model
    frames = 9
    each = apply(model, adapter, Guide(IMAGE.repeat(frames, 1, 1), mask=torch.ones(frames, 4, 4), strength=0.7))
    torch.testing.assert_close(sample(each, shot), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", TRAINED)
def test_a_new_adapter_is_the_model_bit_for_bit(toys, name):
    model, shot = toys(name), Shot(name, steps=1, cfg=1.0)
    with in_training(False):
        module = SSGAdapter(spec_for(model, seeded(1, 10, 20), rank=4, token_width=10))
        initialise(module)
        patched = with_adapter(model, module)
        patched.model_options["transformer_options"] |= option_of(seeded(1, 10, 20, seed=3))
        assert torch.equal(sample(patched, shot), sample(model, shot))
    families = {"h3": "minimax", "ltxv": "ltx", "ltxav23": "ltx"}
    assert (module.spec.family, module.spec.width) == (families[name], 128 if name == "h3" else 64)


def test_another_family_s_adapter_is_refused(toys, tmp_path):
    adapter = load_adapter(write_toy_adapter(tmp_path / "adapter.safetensors", "ltxv", **SMALL))
    with pytest.raises(ValueError, match="adapter: made for LTX, this model is Wan"):
        apply(toys("wan-t2v"), adapter, Guide(IMAGE))
