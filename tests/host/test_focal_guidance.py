"""Focal Guidance on real models: keywords, regions and anchors against maps written out, and what it leaves alone."""

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT, TOYS
from semantic_video.host.schedule import Interval
from semantic_video.tests.host.focal_reference import ALL, FAR, NEAR, guided, reference


@pytest.mark.parametrize("name", TOYS)
def test_nothing_to_do_is_the_host_bit_for_bit(toys, name):
    model, shot = toys(name), Shot(name)
    plain = sample(model, shot)
    for options in ({"strength": 0.0}, {"weight": 1.0}, {"strength": 0.0, "cache": 0.5, "source_blocks": "0"}):
        assert guided(model, **options) is model
    assert torch.equal(plain, sample(guided(model, interval=Interval(0.99, 1.0)), shot))
    assert not torch.allclose(plain, sample(guided(model), shot), **FAR)
    assert torch.equal(plain, sample(model, shot)), "the parent stays"


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("weight", [3.0, 2.5])
def test_keywords_are_louder_by_log_weight(toys, name, weight):
    model, shot = toys(name), Shot(name)
    torch.testing.assert_close(
        sample(guided(model, weight=weight), shot), sample(reference(model, weight=weight), shot), **NEAR
    )


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_strength_is_the_exponent_and_blocks_choose(toys, name):
    model, shot = toys(name), Shot(name)
    got = sample(guided(model, weight=9.0, strength=0.5, blocks="1-2"), shot)
    torch.testing.assert_close(got, sample(reference(model, weight=3.0, weak={1, 2}), shot), **NEAR)
    assert not torch.allclose(got, sample(guided(model, weight=3.0), shot), **FAR)


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_cfg_does_not_multiply_it(toys, name):
    """What is added to the positive prompt's answer counts CFG times: 2 here."""
    model, shot = toys(name), Shot(name, steps=1, cfg=2.0)
    options = {"weight": 4.0, "cache": 0.5, "source_blocks": "0"}
    shared = sample(guided(model, **options, per_cfg=True), shot)
    assert torch.equal(shared, sample(guided(model, **options, strength=0.5), shot))
    assert not torch.allclose(shared, sample(guided(model, **options), shot), **FAR)
    for cfg in (1.0, 0.5):  # below 1 nothing is made stronger
        alone = shot.but(cfg=cfg)
        one, other = (sample(guided(model, **options, per_cfg=choice), alone) for choice in (True, False))
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["wan-t2v", "wan-in-context", "hunyuan-i2v", "hunyuan-1.5"])
@pytest.mark.parametrize("cache", [0.0, 0.5])
def test_regions_bound_it_to_tokens_of_the_video(toys, name, cache):
    """A mask of 8 x 8 on tokens: means over each; outside, and on text, reference and in-context tokens, nothing
    happens.
    """
    model, shot = toys(name), Shot(name)
    mask = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(3))
    side = 4 if name == "hunyuan-1.5" else 2
    tokens = torch.nn.functional.adaptive_avg_pool2d(mask, side).expand(shot.frames, -1, -1)
    options = {"cache": cache, "source_blocks": "0"} if cache else {}
    got = sample(guided(model, region=mask, **options), shot)
    sources = {"cache": cache, "sources": (0,)} if cache else {}
    torch.testing.assert_close(got, sample(reference(model, weight=3.0, region=tokens, **sources), shot), **NEAR)
    assert not torch.allclose(got, sample(guided(model, **options), shot), **FAR)


@pytest.mark.parametrize("count", [9, 33])
def test_regions_per_latent_or_video_frame(toys, count):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    mask = torch.rand(count, 4, 4, generator=torch.Generator().manual_seed(4))
    tokens = torch.nn.functional.adaptive_avg_pool2d(mask, 2)[:: 1 if count == 9 else 4]
    got = sample(guided(model, region=mask), shot)
    torch.testing.assert_close(got, sample(reference(model, weight=3.0, region=tokens), shot), **NEAR)


def test_anchors_add_the_region_s_image_features(toys):
    """Image features pass through the image branch's own value projection, in every weak block."""
    model, shot = toys("wan-i2v-clip"), Shot("wan-i2v-clip")
    mask = torch.tensor([[0.0, 1.0], [0.5, 0.0]])[None].repeat_interleave(4, 1).repeat_interleave(4, 2)
    anchor = {"strength": 0.3, "region": torch.tensor([[0.0, 1.0], [0.5, 0.0]])}
    got = sample(guided(model, weight=3.0, anchor=0.3, region=mask), shot)
    tokens = torch.nn.functional.adaptive_avg_pool2d(mask, 2).expand(shot.frames, -1, -1)
    torch.testing.assert_close(got, sample(reference(model, weight=3.0, anchor=anchor, region=tokens), shot), **NEAR)
    assert not torch.allclose(got, sample(guided(model, weight=3.0, region=mask), shot), **FAR)
    alone = sample(guided(model, weight=1.0, anchor=0.3, region=mask), shot)
    torch.testing.assert_close(alone, sample(reference(model, anchor=anchor, region=tokens), shot), **NEAR)


def test_anchors_come_from_what_clip_s_crop_has_seen(toys):
    """A video twice as wide as high: of its mask CLIP has seen the middle."""
    model, shot = toys("wan-i2v-clip"), Shot("wan-i2v-clip", width=8)
    mask = torch.zeros(1, 8, 16)
    mask[0, :4, 8:], mask[0, 4:, 4:8] = 1.0, 0.5
    tokens = torch.nn.functional.adaptive_avg_pool2d(mask, (2, 4)).expand(shot.frames, -1, -1)
    for fit, seen in (("center crop", [[0.0, 1.0], [0.5, 0.0]]), ("squash", [[0.0, 1.0], [0.25, 0.0]])):
        anchor = {"strength": 0.3, "region": torch.tensor(seen)}
        got = sample(guided(model, weight=3.0, anchor=0.3, region=mask, fit=fit), shot)
        expected = sample(reference(model, weight=3.0, anchor=anchor, region=tokens), shot)
        torch.testing.assert_close(got, expected, **NEAR)


@pytest.mark.parametrize("name", STRAIGHT)
def test_the_negative_pass_hears_nothing_of_it(toys, name):
    """With the positive pass out of the way: CFG 0 keeps the negative alone."""
    model, shot = toys(name), Shot(name, cfg=0.0)
    torch.testing.assert_close(sample(guided(model, **ALL), shot), sample(model, shot), **NEAR)


def test_parallel_prompts_and_runs_share_nothing(toys):
    """Two runs of one patched model, in between another with other words: the same as alone."""
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    one, other = guided(model, **ALL), guided(model, weight=5.0, keywords=("cube",), **ALL)
    first, second = sample(one, shot), sample(other, shot)
    assert torch.equal(first, sample(one, shot))
    assert torch.equal(second, sample(other, shot))
    assert not torch.allclose(first, second, **FAR)
