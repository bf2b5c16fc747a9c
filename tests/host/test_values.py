"""What is hard to see on a CPU or by looking at results: masks, hints, whole files."""

import comfy.ldm.modules.attention as host_attention
import comfy.ldm.wan.model
import pytest
import torch
from safetensors.torch import load_file

from semantic_video.harness.sampling import Shot, sample, seeded
from semantic_video.host import editing, weights
from semantic_video.host.editing import edit_attention


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_masks_of_any_axes_reach_the_editor_with_four(toys, axes, monkeypatch):
    """[queries, keys], [batch, queries, keys] and [batch, heads, queries, keys], of the conditional and the
    unconditional row, each row with its own values."""
    attention, given, seen = comfy.ldm.wan.model.optimized_attention, [], []
    shapes = {2: (36, 36), 3: (2, 36, 36), 4: (2, 2, 36, 36)}
    own = seeded(*shapes[axes])
    written = {2: own[None, None], 3: own[:, None], 4: own}[axes]

    def masked(q, k, v, *args, **kwargs):
        if q.shape[1] != k.shape[1]:
            return attention(q, k, v, *args, **kwargs)
        given.append(q.shape[0])
        return attention(q, k, v, *args, **kwargs, mask=own)

    def watch(call, proceed):
        seen.append(call.mask)
        return proceed(call.replace(mask=call.mask.clone()))

    def naive(call, proceed):
        logits = torch.einsum("bqhd,bkhd->bhqk", call.q, call.k) * call.q.shape[-1] ** -0.5 + written
        return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), call.v).flatten(2)

    monkeypatch.setattr(comfy.ldm.wan.model, "optimized_attention", masked)
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=1)
    got = sample(edit_attention(model, "watch", watch, sites=("self",)), shot)
    assert set(given) == {2} and len(seen) == 4
    assert all(torch.equal(mask, written) for mask in seen)
    expected = sample(edit_attention(model, "naive", naive, sites=("self",)), shot)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(sample(model, shot), expected, rtol=1e-3, atol=1e-4)


def test_an_attention_of_our_own_asks_to_be_exact(monkeypatch):
    """With few keys Sage can give NaN; no CPU shows it, so the hint itself is looked at."""
    hints, attention = [], host_attention.optimized_attention

    def watch(*args, **kwargs):
        hints.append(kwargs.get("low_precision_attention"))
        return attention(*args, **kwargs)

    monkeypatch.setattr(editing, "optimized_attention", watch)
    q, k, v = (seeded(2, n, 3, 8, seed=n) for n in (5, 4, 4))
    v = seeded(2, 4, 3, 8, seed=9)
    got = editing.attend(q, k, v)
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k) * 8**-0.5
    torch.testing.assert_close(got, torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v).flatten(2))
    assert hints == [False]


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    """Power fails while writing: what was there stays, and nothing half written bears the name."""
    old, path = {"a": torch.ones(3)}, tmp_path / "folder" / "weights.safetensors"

    def failing(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(weights, "save_file", failing)
        with pytest.raises(OSError, match="no space"):
            weights.save_weights(old, path, {})
    assert not path.exists()
    weights.save_weights(old, path, {"format": "x"})
    with monkeypatch.context() as patch:
        patch.setattr(weights, "save_file", failing)
        with pytest.raises(OSError, match="no space"):
            weights.save_weights({"a": torch.zeros(3)}, path, {})
    assert torch.equal(load_file(path)["a"], old["a"])
    weights.save_weights({"a": torch.zeros(3)}, path, {})
    assert torch.equal(load_file(path)["a"], torch.zeros(3))
    assert [file.name for file in path.parent.iterdir()] == ["weights.safetensors"]
