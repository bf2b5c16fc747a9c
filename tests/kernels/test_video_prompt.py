"""Key names, layer lists and frame selection of Video-As-Prompt, without a host."""

import hashlib
from itertools import product

import pytest
import torch

from semantic_video.kernels.ssg_adapter import dense
from semantic_video.kernels.video_prompt import frame_indices, frames_in_step, joint_attention, select_frames
from semantic_video.patches.video_prompt_keys import PUBLISHED_LAYERS, expert_keys, host_key, used_keys

ATTENTION = {
    "to_q": ("5120_5120", "5120"),
    "to_k": ("5120_5120", "5120"),
    "to_v": ("5120_5120", "5120"),
    "to_out.0": ("5120_5120", "5120"),
}


def published(layers, suffix="_mot_ref"):
    """{key: shape} of the expert in a full-size checkpoint, or with suffix "" of a backbone of those layers without its
    head."""
    shapes = {f"patch_embedding{suffix}.weight": (5120, 36, 1, 2, 2), f"patch_embedding{suffix}.bias": (5120,)}

    def linear(name, out, width):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, width), (out,)

    def norm(name, width):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (width,), (width,)

    embedder = f"condition_embedder{suffix}"
    linear(f"{embedder}.time_embedder.linear_1", 5120, 256)
    linear(f"{embedder}.time_embedder.linear_2", 5120, 5120)
    linear(f"{embedder}.time_proj", 30720, 5120)
    linear(f"{embedder}.text_embedder.linear_1", 5120, 4096)
    linear(f"{embedder}.text_embedder.linear_2", 5120, 5120)
    norm(f"{embedder}.image_embedder.norm1", 1280)
    linear(f"{embedder}.image_embedder.ff.net.0.proj", 1280, 1280)
    linear(f"{embedder}.image_embedder.ff.net.2", 5120, 1280)
    norm(f"{embedder}.image_embedder.norm2", 5120)
    for n in layers:
        block = f"blocks.{n}"
        shapes[f"{block}.scale_shift_table{suffix}"] = (1, 6, 5120)
        for attention in ("attn1", "attn2"):
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                linear(f"{block}.{attention}{suffix}.{part}", 5120, 5120)
            for part in ("norm_q", "norm_k"):
                shapes[f"{block}.{attention}{suffix}.{part}.weight"] = (5120,)
        linear(f"{block}.attn2{suffix}.add_k_proj", 5120, 5120)
        linear(f"{block}.attn2{suffix}.add_v_proj", 5120, 5120)
        shapes[f"{block}.attn2{suffix}.norm_added_k.weight"] = (5120,)
        norm(f"{block}.norm2{suffix}", 5120)
        linear(f"{block}.ffn{suffix}.net.0.proj", 13824, 5120)
        linear(f"{block}.ffn{suffix}.net.2", 5120, 13824)
    return shapes


def md5(shapes):
    """As DiffSynth-Studio recognises files: every "key:shape" and every bare key, sorted."""
    parts = [f"{key}:{'_'.join(map(str, shape))}" for key, shape in shapes.items()] + list(shapes)
    return hashlib.md5(",".join(sorted(parts)).encode()).hexdigest()


def whole(layers):
    head = {"proj_out.weight": (64, 5120), "proj_out.bias": (64,), "scale_shift_table": (1, 2, 5120)}
    return published(range(40), "") | head | published(layers)


def test_the_layout_is_that_of_the_published_file():
    shapes = whole(PUBLISHED_LAYERS)
    assert md5(shapes) == "5f90e66a0672219f12d9a626c8c21f61"
    assert len(shapes) == 1643
    assert sum(torch.Size(s).numel() for s in shapes.values()) == 20_674_265_664
    assert md5(whole(range(0, 40, 2))).startswith("0ebf8aa8"), "another layer list is another file"


def test_every_form_gives_the_same_expert():
    file = whole(PUBLISHED_LAYERS)
    names, layers = expert_keys(file, {})
    assert layers == PUBLISHED_LAYERS
    assert len(names) == 340
    assert sum(torch.Size(file[key]).numel() for key in names) == 4_279_386_880
    part, same = expert_keys([key for key in file if "_mot_ref" in key], {})
    assert (set(part.values()), same) == (set(names.values()), layers)
    assert expert_keys(names.values(), {}) == ({name: name for name in names.values()}, PUBLISHED_LAYERS)
    assert expert_keys(names.values(), {"layers": "1,5,9,13,17,21,25,29,33,37"})[1][0] == 1


def test_renamed_norms():
    assert host_key("blocks.4.norm2_mot_ref.weight") == "blocks.4.norm3.weight"
    assert host_key("condition_embedder_mot_ref.image_embedder.norm2.weight") == "img_emb.proj.4.weight"
    assert host_key("blocks.0.attn2_mot_ref.norm_added_k.weight") == "blocks.0.cross_attn.norm_k_img.weight"


def test_trimming_leaves_keys_and_values_of_the_last_block():
    names, _ = expert_keys(whole(PUBLISHED_LAYERS), {})
    kept = used_keys(names.values())
    left = {key.removeprefix("blocks.9.") for key in kept if key.startswith("blocks.9.")}
    assert left == {
        "modulation",
        "self_attn.k.weight",
        "self_attn.k.bias",
        "self_attn.v.weight",
        "self_attn.v.bias",
        "self_attn.norm_k.weight",
    }
    shapes = {name: published(PUBLISHED_LAYERS)[key] for key, name in names.items()}
    assert round(sum(torch.Size(shapes[key]).numel() for key in set(shapes) - set(kept)) / 1e6) == 351


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["blocks.0.self_attn.k.weight", "head.head.weight"], "holds no Video-As-Prompt expert"),
        (["lora.down"], "holds no Video-As-Prompt expert"),
        (["blocks.0.self_attn.k.weight"], "1 blocks but 10 places"),
    ],
)
def test_other_files_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        expert_keys(keys, {})


def test_frame_selection():
    clip = torch.arange(100.0).view(-1, 1, 1, 1).expand(-1, 2, 2, 3)
    assert (
        select_frames(clip, 49, "even")[:, 0, 0, 0].tolist()
        == torch.linspace(0, 99, 49, dtype=torch.float64).int().tolist()
    )
    assert select_frames(clip, 49, "first")[:, 0, 0, 0].tolist() == list(range(49))
    assert len(select_frames(clip[:7], 49, "first")) == 49
    with pytest.raises(ValueError, match=r"reference_video: 1 frame\(s\)"):
        select_frames(clip[:1], 49, "even")


def test_frames_by_hand():
    frames = torch.arange(12.0).view(12, 1, 1, 1).expand(12, 2, 2, 3)

    def chosen(length, count, selection):
        return select_frames(frames[:length], count, selection)[:, 0, 0, 0].tolist()

    assert chosen(12, 4, "even") == [0, 3, 7, 11]
    assert chosen(12, 4, "first") == [0, 1, 2, 3]
    assert chosen(4, 4, "first") == [0, 1, 2, 3]
    assert chosen(3, 5, "first") == [0, 0, 1, 1, 2], "too short: repeated evenly"
    assert chosen(2, 3, "even") == [0, 0, 1]
    with pytest.raises(ValueError, match="1 frame"):
        chosen(1, 3, "even")


def naive_attention(q, k, v):
    """Query by query, head by head, [batch, tokens, heads, dim] -> [batch, queries, heads * dim]."""
    out = torch.zeros(q.shape[0], q.shape[1], q.shape[2], v.shape[3], dtype=torch.float64)
    for b, i, h in product(*map(range, q.shape[:3])):
        weights = torch.stack([q[b, i, h] @ key for key in k[b, :, h]]) / q.shape[3] ** 0.5
        weights = weights.exp() / weights.exp().sum()
        out[b, i, h] = sum(w * value for w, value in zip(weights, v[b, :, h]))
    return out.flatten(2)


def test_both_streams_see_both():
    def drawn(tokens, seed):
        return torch.randn(2, tokens, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    q, k, v = (drawn(5, seed) for seed in (1, 2, 3))
    ref_q, ref_k, ref_v = (drawn(4, seed) for seed in (4, 5, 6))
    out, ref_out = joint_attention(q, k, v, ref_q, ref_k, ref_v, dense)
    keys, values = torch.cat((k, ref_k), 1), torch.cat((v, ref_v), 1)
    torch.testing.assert_close(out, naive_attention(q, keys, values))
    torch.testing.assert_close(ref_out, naive_attention(ref_q, keys, values))
    last, none = joint_attention(q, k, v, None, ref_k, ref_v, dense)
    assert none is None
    torch.testing.assert_close(last, out)


@pytest.mark.parametrize(
    ("frames", "total", "reference", "expected"),
    [
        (range(9), 9, 9, list(range(9))),
        (range(2, 7), 9, 9, [2, 3, 4, 5, 6]),
        ((0, 1, 2, 3), 9, 5, [0, 1]),
        ((5, 6, 7, 8), 9, 5, [2, 3, 4]),
        ((8,), 9, 20, [17]),
        ((3, 3), 4, 2, [1]),
    ],
)
def test_frames_in_step(frames, total, reference, expected):
    assert frames_in_step(frames, total, reference) == expected


@pytest.mark.parametrize("frames, count, fps", [(49, 9, 30.0), (20, 13, 8.0), (20, 60, 8.0), (3, 5, 1.0), (7, 9, 56.0)])
def test_the_first_frames_at_a_frame_rate(frames, count, fps):
    """The video at Wan's 16 frames per second, ends on ends, of which the first are taken, or all of them spread."""
    resampled = round(frames * 16 / fps)
    whole = [i * (frames - 1) // (resampled - 1) for i in range(resampled)]
    places = range(count) if resampled >= count else [i * (resampled - 1) // (count - 1) for i in range(count)]
    expected = [whole[i] for i in places]
    assert frame_indices(frames, count, "first", fps).tolist() == expected
    assert select_frames(torch.arange(frames), count, "first", fps).tolist() == expected
    assert frame_indices(frames, count, "first").dtype == torch.int64


def test_frame_rates_at_the_edges():
    assert frame_indices(10, 5, "even", 60.0).tolist() == [0, 2, 4, 6, 9], "fps is of 'first' alone"
    assert frame_indices(2, 4, "first", 0.5).tolist() == [0, 0, 0, 0]
    assert frame_indices(2, 4, "first", 1e-12).tolist() == [0, 0, 0, 0], "of a number of frames that is bounded"
    with pytest.raises(ValueError, match=r"1 frame\(s\) left of 9 at fps 1000"):
        frame_indices(9, 5, "first", 1000.0)
    with pytest.raises(ValueError, match=r"1 frame\(s\) left of 2 at fps 32"):
        frame_indices(2, 5, "first", 32.0)
