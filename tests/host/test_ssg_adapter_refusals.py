"""What the SSG Adapter refuses, by name, before the first step; and its node's widgets."""

from functools import partial
from pathlib import Path

import pytest
import torch

from semantic_video.harness.sampling import Shot, clip_vision, sample, seeded
from semantic_video.nodes.ssg_adapter import SSGAdapterApplyNode, SSGAdapterLoaderNode
from semantic_video.patches.per_frame import per_latent_frame
from semantic_video.patches.ssg_adapter import apply
from semantic_video.patches.ssg_guide import Guide
from semantic_video.tests.host.ssg_reference import IMAGE, NEAR
from semantic_video.tests.host.stacking import windows


def test_models_that_do_not_fit(toys, adapters, tmp_path, monkeypatch):
    for name, adapter, message in (
        ("hunyuan-t2v", "wan-t2v", "adapter: made for Wan, this model is HunyuanVideo"),
        ("wan-t2v", "hunyuan-t2v", "adapter: made for HunyuanVideo, this model is Wan"),
        ("wan-t2v", partial(adapters, width=96), "of width 96 with 2 heads, this model has 48 with 2"),
        ("wan-t2v", partial(adapters, heads=3), "of width 48 with 3 heads, this model has 48 with 2"),
        ("wan-t2v", partial(adapters, blocks=(0, 4)), "has a branch for block 4, this model has 4 blocks"),
        (
            "hunyuan-t2v",
            partial(adapters, "hunyuan-t2v", blocks=(5,)),
            "has a branch for block 5, this model has 5 blocks",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            apply(toys(name), adapters(adapter) if isinstance(adapter, str) else adapter(), Guide(IMAGE))


def test_inputs_that_do_not_fit(toys, adapters):
    model, adapter = toys("wan-t2v"), adapters()
    bad = IMAGE.clone()
    bad[0, 3, 3] = float("nan")
    for features, message in (
        (
            seeded(1, 13, 24),
            "clip_vision_output: features of shape .* CLIP of width 20. Encode the image with the CLIP",
        ),
        (seeded(1, 17, 20), "clip_vision_output: 17 tokens per image; this adapter was trained with 3 x 4 patches"),
        (bad, "clip_vision_output: features are NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            apply(model, adapter, Guide(features))
    for changes, message in (
        (dict(mask=torch.full((1, 4, 4), float("nan"))), "mask: shape .* NaN"),
        (dict(mask=torch.zeros(0, 4, 4)), "mask: shape"),
        (dict(mask=torch.zeros(4, 4)), "mask: shape"),
        (dict(strength=-1.0), "strength -1.0"),
        (dict(strength=2.5), "strength 2.5"),
        (dict(passes="negative"), "passes 'negative'"),
    ):
        with pytest.raises(ValueError, match=message):
            Guide(IMAGE, **changes)
    stepped = []
    for guide, message in (
        (
            Guide(IMAGE, torch.ones(5, 4, 4)),
            r"mask: 5 for a video of 9 latent frames. Give 1 for all frames, 9 .* or 33",
        ),
        (Guide(IMAGE.repeat(2, 1, 1)), "clip_vision_output: 2 for a video of 9 latent frames"),
    ):
        for of in (model, windows(model)):
            with pytest.raises(ValueError, match=message):
                sample(apply(of, adapter, guide), Shot("wan-t2v"), stepped.append)
    assert not stepped


def test_per_latent_frame():
    for count, clip, expected in ((1, 5, [0]), (5, 5, [0, 1, 2, 3, 4]), (17, 5, [0, 4, 8, 12, 16]), (1, 1, [0])):
        assert per_latent_frame("mask", torch.arange(count), clip).tolist() == expected


@pytest.mark.parametrize("node", [SSGAdapterLoaderNode, SSGAdapterApplyNode])
def test_every_widget_says_what_it_does(node):
    schema = node.GET_SCHEMA()
    assert schema.node_id.startswith("SemVid")
    assert schema.description
    assert all(thing.tooltip for thing in [*schema.inputs, *schema.outputs])
    assert (Path(__file__).resolve().parent.parent.parent / "web" / "docs" / f"{schema.node_id}.md").exists()


def test_the_node_takes_any_mask(toys, adapters):
    model, shot, adapter, image = (
        toys("wan-t2v"),
        Shot("wan-t2v", steps=1),
        adapters(),
        clip_vision(penultimate_hidden_states=IMAGE),
    )
    expected = sample(apply(model, adapter, Guide(IMAGE, 0.5 * torch.ones(1, 16, 16))), shot)
    for shape in ((16, 16), (1, 16, 16), (1, 1, 16, 16), (1, 4320, 7680)):
        result = SSGAdapterApplyNode.execute(model, image, adapter=adapter, mask=0.5 * torch.ones(shape)).args[0]
        torch.testing.assert_close(sample(result, shot), expected, **NEAR)
    assert SSGAdapterApplyNode.execute(model, image, strength=0.0, adapter=adapter).args[0] is model
