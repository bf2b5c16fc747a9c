"""What Focal Guidance refuses, by name: when it is wired, and before the first step of a run."""

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.patches.focal_guidance import apply
from semantic_video.tests.host.focal_reference import ALL, focal, guided


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "wan-t2v",
            {"keywords": ("dog",)},
            "keywords: 'dog' does not stand in the prompt .*a red ball and a blue cube",
        ),
        ("wan-t2v", {"text": "it is on the", "keywords": ()}, "keywords: none given, and none found"),
        ("wan-t2v", {"text": "  "}, "text: empty"),
        ("wan-t2v", {"weight": 0.0}, "keyword_weight 0.0: must be above 0"),
        ("wan-t2v", {"cache": 1.5}, "cache 1.5: must be from -1 to 1"),
        ("wan-t2v", {"cache": 0.5}, "source_blocks: empty. cache carries the maps"),
        ("wan-t2v", {"blocks": "0-2", "source_blocks": "2", "cache": 0.5}, "blocks and source_blocks: both have 2"),
        ("wan-t2v", {"blocks": "0,3", "source_blocks": "1", "cache": 0.5}, "blocks: 0 comes before every source"),
        ("wan-t2v", {"source_blocks": "3", "cache": 0.5}, "source_blocks 3: no block comes after them"),
        ("wan-t2v", {"blocks": "4"}, "blocks: '4' is out of range"),
        ("hunyuan-t2v", {"source_blocks": "x", "cache": 0.5}, "source_blocks: 'x' is not a block"),
        ("wan-t2v", {"anchor": 0.2}, "region: missing. anchor takes image features"),
        ("wan-t2v", {"anchor": 0.2, "region": torch.ones(1, 4, 4)}, "anchor 0.2: this Wan has no image branch"),
        ("wan-i2v", {"anchor": 0.2, "region": torch.ones(1, 4, 4)}, "anchor 0.2: this Wan has no image branch"),
        ("hunyuan-i2v", {"anchor": 0.2, "region": torch.ones(1, 4, 4)}, "anchor 0.2: this HunyuanVideo has no image"),
        ("wan-t2v", {"region": torch.full((1, 4, 4), torch.nan)}, "region: shape .* NaN"),
        ("wan-t2v", {"fit": "stretch"}, "clip_fit 'stretch': choose one of squash, center crop"),
        ("wan-t2v", {"strength": 2.0}, "strength 2.0: must be from 0"),
    ],
)
def test_what_cannot_work_is_said_when_it_is_wired(toys, name, options, message):
    with pytest.raises(ValueError, match=message):
        guided(toys(name), **options)


def test_a_clip_is_needed_for_words_only(toys):
    model = toys("wan-t2v")
    with pytest.raises(ValueError, match="clip: missing"):
        apply(model, None, focal())
    assert apply(model, None, focal(weight=1.0, **ALL)) is not model


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wan-t2v", {"text": "a red ball and a blue cube more"}, "text: 8 tokens in this CLIP, .* has 7. Give exactly"),
        ("wan-t2v", {"region": torch.ones(1, 4, 8)}, "region: 8 x 4, but the video has the proportions 4 : 4"),
        ("wan-t2v", {"region": torch.ones(5, 4, 4)}, "region: 5 for a video of 9 latent frames"),
    ],
)
def test_what_does_not_fit_the_run_is_said_before_its_first_step(toys, name, options, message):
    steps = []
    with pytest.raises(ValueError, match=message):
        sample(guided(toys(name), **options), Shot(name), callback=lambda *a: steps.append(a))
    assert not steps


def test_anchors_need_a_start_image(toys, monkeypatch):
    import semantic_video.harness.sampling as sampling

    plain = sampling.conditioning

    def without(shot, words, seed):
        [[text, extra]] = plain(shot, words, seed)
        return [[text, {key: value for key, value in extra.items() if key != "clip_vision_output"}]]

    model = guided(toys("wan-i2v-clip"), anchor=0.2, region=torch.ones(1, 4, 4))
    monkeypatch.setattr(sampling, "conditioning", without)
    with pytest.raises(ValueError, match="anchor: no conditioning carries CLIP features of a start image"):
        sample(model, Shot("wan-i2v-clip"))


def test_an_empty_region_is_refused_where_features_are_wanted(toys):
    model = guided(toys("wan-i2v-clip"), anchor=0.2, region=torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="region: nothing of it is in what CLIP has seen .* Mark some"):
        sample(model, Shot("wan-i2v-clip"))
