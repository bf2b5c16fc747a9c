"""CLIP Spatial Mask on real ComfyUI: the published mask, whatever is put in."""

from pathlib import Path

import pytest
import torch

from semantic_video.host.clip_loading import load_clip
from semantic_video.host.clip_vocabulary import clip_words
from semantic_video.kernels.clip_mask import Geometry, class_terms, merge, text_map, zscore
from semantic_video.nodes.clip_mask import CLIPSpatialMaskNode
from semantic_video.tests.host.clips import CONFIG, frames, mask_of, write
from semantic_video.tests.kernels.clip_golden import CASE, SETTINGS, SHAPES, drawn, golden, weight

MINI = Path(__file__).resolve().parent.parent.parent / "mini" / "weights" / "mini_clip.safetensors"


def test_golden_maps_and_masks(tmp_path, open_clip_weights):
    """The golden tower inside a whole open_clip file, through the loader and ComfyUI's own layers."""
    vision = {f"visual.{name}": weight(name, tuple(shape)) for name, shape in SHAPES.items()}
    text = {
        key: value
        for key, value in open_clip_weights[1].items()
        if not key.startswith("visual.") and key != "text_projection"
    }
    path = write(tmp_path, vision | text | {"text_projection": torch.randn(64, 32)}, CONFIG | {"embed_dim": 32})
    clip = load_clip(path)
    clip.load()
    image = drawn(f"{CASE}.image", (1, 3, 48, 48))
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (clip.mean, clip.deviation))
    evidence, patches, embedding = clip.class_and_patch_features(image * deviation + mean, 3, 3, class_terms)
    t = drawn(f"{CASE}.text", (1, 32))
    raw = [text_map(features, t / t.norm()).unflatten(-1, (6, 6)) for features in (evidence, patches)]
    assert (embedding - torch.nn.functional.normalize(golden("embedding"), dim=-1)).abs().max() < 5e-5
    for name, got in zip(("cls", "token"), raw):
        assert (zscore(got[0]) - zscore(golden(name))).abs().max() < 1e-4
    for kernel, contrast in SETTINGS:
        assert (merge(*raw, contrast, kernel)[0] - golden(f"mask_k{kernel}_c{contrast}")).abs().max() < 1e-4


def test_every_line_has_a_mask_and_the_union_covers_all(clip):
    masks, scores = mask_of(clip, text="a red ball\na blue box\na tree", image=frames(3, 40, 64))
    assert masks.shape == (3, 3, 40, 64)
    assert scores.shape == (3, 3)
    alone, _ = mask_of(clip, text="a blue box", image=frames(3, 40, 64))
    torch.testing.assert_close(masks[1:2], alone)
    out = CLIPSpatialMaskNode.execute(clip, frames(3, 40, 64), "a red ball\n\n  a blue box \na tree").args
    torch.testing.assert_close(out[0], masks.amax(0))
    assert [o.shape for o in out[:2]] == [(3, 40, 64), (3, 40, 64, 3)]
    assert [m.shape for m in out[2]] == [(3, 40, 64)] * 3
    assert len(out[3]) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"class_block": 0},
        {"patch_block": -1},
        {"contrast": 10.0},
        {"kernel": 5},
        {"fusion": "product"},
        {"fit": "letterbox"},
        {"fit": "center crop"},
        {"smoothing": 2.0},
    ],
    ids=str,
)
def test_every_setting_acts(clip, settings):
    image = frames(4, 32, 64)
    changed, plain = mask_of(clip, image, **settings)[0], mask_of(clip, image)[0]
    assert changed.shape == plain.shape
    assert torch.isfinite(changed).all()
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not torch.allclose(changed, plain, atol=1e-3)


def test_frames_do_not_see_each_other(clip, monkeypatch):
    from semantic_video.patches import clip_mask as spatial_mask

    whole, _ = mask_of(clip, frames(5))
    monkeypatch.setattr(spatial_mask, "BATCH", 2)
    torch.testing.assert_close(mask_of(clip, frames(5))[0], whole)


@pytest.mark.skipif(not MINI.exists(), reason="MiniWorld's CLIP is not there")
def test_the_mini_clip_finds_where_things_are():
    clip = load_clip(MINI)
    image = torch.ones(1, 64, 64, 3)
    image[:, 8:24, 8:24] = torch.tensor([1.0, 0.0, 0.0])
    image[:, 40:56, 40:56] = torch.tensor([0.0, 0.0, 1.0])
    maps = mask_of(clip, image, "a red square\na blue square", fusion="class map", class_block=-1, kernel=1)[0][:, 0]
    places = [(m[:32, :32].mean() - m[32:, 32:].mean()).item() for m in maps]
    assert places[0] > places[1], "red is further up and to the left than blue"
    with pytest.raises(ValueError, match="this CLIP does not know 'zebra'"):
        clip.encode_text("a zebra")


def test_long_text_is_read_in_parts_and_not_cut(clip, caplog):
    words = " ".join(f"word{i} and a ball," for i in range(40))
    parts = clip.parts(words)
    assert len(parts) > 2
    assert all(len(part) <= 75 for part in parts)
    assert sum(parts, []) == clip_words()(words), "every token is read once, in order"
    assert f"is read in {len(parts)} parts" in caplog.text
    masks, scores = mask_of(clip, text=words)
    assert masks.shape[0] == scores.shape[0] == 1
    ending = mask_of(clip, text=words + " then a purple elephant")[0]
    assert not torch.equal(masks, ending), "the end of the text counts"
    assert len(clip.parts("x" * 400)) > 1, "even one endless word"


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 3), (1, 1, 700, 3), (2, 48, 48, 4), (1, 30, 20, 1), (1, 64, 7680, 3), (1, 7680, 1080, 3)],
    ids=str,
)
@pytest.mark.parametrize("fit", ["squash", "letterbox", "center crop"])
def test_any_picture(clip, shape, fit):
    mask, heat = CLIPSpatialMaskNode.execute(clip, torch.rand(shape), "a ball", fit=fit).args[:2]
    assert mask.shape == shape[:3]
    assert heat.shape == (*shape[:3], 3)
    assert torch.isfinite(mask).all()


def test_alpha_is_ignored_and_constant_pictures_work(clip):
    image = frames(channels=4)
    torch.testing.assert_close(
        CLIPSpatialMaskNode.execute(clip, image, "a ball").args[0],
        CLIPSpatialMaskNode.execute(clip, image[..., :3], "a ball").args[0],
    )
    assert torch.isfinite(CLIPSpatialMaskNode.execute(clip, torch.zeros(1, 48, 48, 3), "a ball").args[0]).all()


def test_bad_input_is_refused_by_name(clip):
    nan = frames()
    nan[0, 0, 0, 0] = float("nan")
    for settings, message in (
        (dict(text=" \n "), "text: is empty"),
        (dict(image=nan), "image: contains NaN"),
        (dict(image=frames()[:0]), "image: shape"),
        (dict(class_block=5), "class_block 5: this CLIP has 5 blocks. Use 0 to 4"),
        (dict(patch_block=-6), "patch_block -6"),
        (dict(filter=4), "filter 4: must be odd"),
    ):
        with pytest.raises(ValueError, match=message):
            CLIPSpatialMaskNode.execute(**({"clip": clip, "image": frames(), "text": "a ball"} | settings))


def test_parts_of_a_long_phrase_are_joined_by_their_maximum_and_scored_by_their_mean(clip):
    """Naively: each part as a phrase of its own."""
    parts = [f"a {colour} ball and a {colour} box" for colour in ("red", "blue", "green")]
    filler = " ".join(["thing"] * 68)  # with the 7 words before it, one part of 75 tokens
    parts = [f"{part} {filler}" for part in parts]
    assert [len(clip.parts(part)) for part in parts] == [1, 1, 1]
    assert len(clip.parts(" ".join(parts))) == 3
    image = frames(2)
    _, scores = mask_of(clip, image, "\n".join(parts))
    together, score = mask_of(clip, image, " ".join(parts))
    torch.testing.assert_close(score[0], scores.mean(0), rtol=1e-4, atol=1e-5)
    small = [find_small(clip, image, part) for part in parts]
    expected = find_picture(clip, image, torch.stack(small).amax(0))
    torch.testing.assert_close(together[0], expected, rtol=1e-4, atol=1e-4)
    mean = find_picture(clip, image, torch.stack(small).mean(0))
    assert (together[0] - mean).abs().max() > 0.05, "the mean would be another mask"


def find_small(clip, image, phrase):
    """The mask of one part in patches, [frames, rows, columns]."""
    geometry = Geometry(*image.shape[1:3], clip.size)
    features = clip.class_and_patch_features(geometry.square(image), 3, 3, class_terms)[:2]
    raw = [text_map(f, clip.encode_text(phrase)).unflatten(-1, (6, 6)) for f in features]
    return merge(*raw, 5.0, 3)[:, 0]


def find_picture(clip, image, small):
    return Geometry(*image.shape[1:3], clip.size).picture(small, clip.patch)
