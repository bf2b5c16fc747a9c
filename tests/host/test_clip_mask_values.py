"""What `find` makes of CLIP's maps, with a CLIP that says what it is told."""

from types import SimpleNamespace

import pytest
import torch

from semantic_video.kernels.clip_mask import Geometry, merge, smooth_over_time, text_map
from semantic_video.patches.clip_mask import SpatialMask, find, preview

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
