"""What `find` makes of CLIP's maps, with a CLIP that says what it is told."""

from types import SimpleNamespace

import pytest
import torch

from semantic_video.kernels.clip_mask import Geometry, merge, smooth_over_time, text_map
from semantic_video.patches import clip_mask as patch
from semantic_video.patches.clip_mask import SpatialMask, encode, find, phrases_of, preview

PARTS = {"a": [[1.0, 0.0, 0.0]], "b and much more": [[0.0, 1.0, 0.0], [0.0, 0.6, 0.8]]}  # a text each, unit length
FRAMES = 18  # more than one batch of 16


@pytest.fixture
def clip():
    generator = torch.Generator().manual_seed(0)
    evidence, patches = (torch.rand(FRAMES, 16, 3, generator=generator) for _ in range(2))
    embedding = torch.nn.functional.normalize(torch.rand(FRAMES, 3, generator=generator), dim=-1)
    taken = []

    def look(square, class_block, patch_block, class_terms):
        assert (class_block, patch_block) == (3, 2) and square.shape[1:] == (3, 32, 32)
        here = slice(sum(taken), sum(taken) + len(square))
        taken.append(len(square))
        return evidence[here], patches[here], embedding[here]

    return SimpleNamespace(
        blocks=5,
        size=32,
        patch=8,
        load=lambda: None,
        encode_text=lambda phrase: torch.tensor(PARTS[phrase]),
        look=look,
        class_and_patch_features=look,  # its name from 0.2 on
        maps=(evidence, patches, embedding),
        taken=taken,
    )


@pytest.mark.parametrize("smoothing", [0.0, 2.0])
@pytest.mark.parametrize("fit", ["squash", "letterbox"])
def test_a_phrase_in_parts_is_their_maximum_and_its_score_their_mean(clip, smoothing, fit):
    config = SpatialMask(
        class_block=-2, patch_block=2, contrast=4.0, kernel=3, fusion="product", fit=fit, smoothing=smoothing
    )
    frames = torch.rand(FRAMES, 20, 32, 3, generator=torch.Generator().manual_seed(1))
    masks, scores = find(clip, frames, list(PARTS), config)
    assert clip.taken == [16, 2]
    evidence, patches, embedding = clip.maps
    geometry = Geometry(20, 32, 32, fit)
    for phrase, mask, score in zip(PARTS, masks, scores):
        text = torch.tensor(PARTS[phrase])
        raw = [geometry.patches(text_map(x, text), 8) for x in (evidence, patches)]
        parts = smooth_over_time(merge(*raw, 4.0, 3, "product"), smoothing)
        expected = torch.stack([parts[:, i] for i in range(len(text))]).max(0).values
        torch.testing.assert_close(mask, geometry.picture(expected, 8))
        torch.testing.assert_close(score, sum(embedding @ row for row in text) / len(text))
    union = preview(frames, masks)
    torch.testing.assert_close(union, preview(frames, masks.max(0, keepdim=True).values))


@pytest.fixture
def progress(monkeypatch):
    """What a user is told: how many frames there are, then how many are done each time."""
    told = []

    class Bar:
        def __init__(self, total):
            told.append(total)

        def update(self, count):
            told.append(count)

    monkeypatch.setattr(patch.comfy.utils, "ProgressBar", Bar)
    return told


def test_frames_are_encoded_in_batches(progress):
    """As CLIP Vision Encode gives them, each frame squashed to CLIP's square."""
    frames, loads = torch.rand(FRAMES, 20, 32, 3, generator=torch.Generator().manual_seed(1)), []

    def look(square):
        return {"image_embeds": square.mean((2, 3)), "last_hidden_state": square.flatten(2)}

    clip = SimpleNamespace(size=16, load=lambda: loads.append(1), encode_image=look)
    output = encode(clip, frames)
    square = Geometry(20, 32, 16).square(frames)
    torch.testing.assert_close(output["image_embeds"], square.mean((2, 3)))
    torch.testing.assert_close(output["last_hidden_state"], square.flatten(2))
    assert output["image_sizes"] == [(3, 16, 16)] * FRAMES and output["mm_projected"] is None
    assert loads == [1] and progress == [18, 16, 2]


def test_progress_of_finding(clip, progress):
    find(clip, torch.rand(FRAMES, 20, 32, 3), ["a"], SpatialMask(class_block=-2, patch_block=-3))
    assert progress == [18, 16, 2]


def test_phrases_are_lines():
    assert phrases_of("a cat\n\n  a dog \n") == ["a cat", "a dog"]
    with pytest.raises(ValueError, match="^text: is empty"):
        phrases_of(" \n ")


def test_the_union_lies_over_the_frames():
    frames, masks = torch.rand(1, 2, 2, 3), torch.rand(3, 1, 2, 2)
    assert torch.equal(preview(frames, masks), patch.heat_map(frames, masks.max(0).values))


@pytest.mark.parametrize(("block", "number"), [(-5, 0), (-1, 4), (0, 0), (4, 4)])
def test_blocks_are_counted_from_either_end(block, number):
    assert SpatialMask(class_block=block, patch_block=2).blocks(5) == (number, 2)
    assert SpatialMask(class_block=2, patch_block=block).blocks(5) == (2, number)


@pytest.mark.parametrize("block", [-6, 5])
@pytest.mark.parametrize("name", ["class_block", "patch_block"])
def test_blocks_that_are_none(name, block):
    with pytest.raises(ValueError, match=f"^{name} {block}: this CLIP has 5 blocks"):
        SpatialMask(**{name: block}).blocks(5)
