"""The SSG Adapter part by part: what a call sees of image and mask, and how many queries look at once."""

from types import SimpleNamespace

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample, seeded
from semantic_video.host.layout import Crop, Layout
from semantic_video.kernels.ssg_adapter import View, crop_mask, token_weights
from semantic_video.patches import ssg_adapter as patch
from semantic_video.patches.ssg_adapter import apply, prompt_and_weights
from semantic_video.patches.ssg_guide import Guide
from semantic_video.tests.host.ssg_reference import IMAGE

WHOLE, PART = Crop((2, 4), 0, 0, 8, 12, (8, 12)), Crop((2, 4), 8, 6, 8, 12, (24, 36))
VIEWS = {WHOLE: None, PART: View(4.0, 2.0, 12.0, 12.0)}  # tokens of 2 x 3 cells


def call_of(crop, total=9, frames=2):
    """Of a family with eight video frames in each latent frame but the first."""
    family = SimpleNamespace(
        first_frames=lambda latents: [0, *range(1, 8 * latents, 8)], clock=lambda module, given: (module, given)
    )
    run = SimpleNamespace(total_frames=total)
    layout = Layout(frames, 4, 4, patch=(2, 3))
    forward = SimpleNamespace(family=family, run=run, layout=layout, module="model", arguments="given")
    return SimpleNamespace(forward=forward, crop=crop, q=torch.zeros(1, dtype=torch.bfloat16))


def asked_of(guide, call):
    asked = []

    def prompt(*given):
        asked.append(given)
        return "prompt"

    made, weight = prompt_and_weights(SimpleNamespace(prompt=prompt), guide, call)
    assert made == "prompt" and weight.dtype == torch.bfloat16
    [(features, height, width, view, clock)] = asked
    assert (height, width, clock) == (4, 4, ("model", "given")) and features.dtype == torch.bfloat16
    return features.float(), view, weight.float()


@pytest.mark.parametrize("crop", VIEWS)
def test_one_image_for_all_frames(crop):
    features, view, weight = asked_of(Guide(IMAGE, strength=0.5), call_of(crop))
    assert torch.equal(features, IMAGE.bfloat16().float()) and view == VIEWS[crop]
    assert weight.tolist() == [[[0.5]]]


@pytest.mark.parametrize("crop", VIEWS)
@pytest.mark.parametrize(("count", "seen"), [(9, [2, 4]), (65, [16, 32])])
def test_images_and_masks_of_the_frames_that_are_seen(crop, count, seen):
    """Per latent frame, or per video frame the last of each."""
    images, masks = seeded(count, 13, 20), torch.rand(count, 16, 24)
    features, view, weight = asked_of(Guide(images, masks, strength=0.5), call_of(crop))
    assert torch.equal(features, images[seen].bfloat16().float()) and view == VIEWS[crop]
    own = masks[seen]
    if crop is PART:
        own = crop_mask(own, (24, 36), 8, 6, 8, 12)
    torch.testing.assert_close(weight, (0.5 * token_weights(own, 4, 4)).bfloat16().float())


def test_outside_a_sampler_the_call_is_the_video():
    images = seeded(2, 13, 20)
    call = call_of(Crop((0, 1), 0, 0, 8, 12, (8, 12)), total=0)
    assert torch.equal(asked_of(Guide(images), call)[0], images.bfloat16().float())


@pytest.mark.parametrize(("chunk", "queries"), [(17, [8, 8, 8, 8, 4]), (16, [8, 8, 8, 8, 4]), (7, [4] * 9), (99, [36])])
def test_as_many_whole_frames_look_at_once_as_a_chunk_has(toys, adapters, monkeypatch, chunk, queries):
    """Nine frames of 4 tokens, both rows of a pass."""
    model, shot, seen = toys("wan-t2v"), Shot("wan-t2v", steps=1), []
    real = patch.branch_attention

    def watch(module, block, q, *rest):
        seen.append(q.shape[1])
        assert len(q) == 2
        return real(module, block, q, *rest)

    monkeypatch.setattr(patch, "CHUNK", chunk)
    monkeypatch.setattr(patch, "branch_attention", watch)
    sample(apply(model, adapters(blocks=(0,)), Guide(IMAGE)), shot)
    assert seen == queries
