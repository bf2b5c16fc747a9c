"""benchmarks/plan_features.py: components by hand, and readouts of plans that are drawn token by token."""

from dataclasses import replace

import pytest
import torch

from semantic_video.benchmarks.plan_features import Readout, components, goes, straight
from semantic_video.miniworld.scene import BACKGROUNDS, COLOURS, sample_scenes


def test_components_are_the_directions_in_which_tokens_vary():
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(9, 12, 4, 4, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.1]) + 7
    plans, true, kept = components(train, train[:2] + 1, 2)
    assert plans.shape == (9, 12, 4, 4, 2) and kept == pytest.approx(26 / 26.01, abs=1e-3)
    assert plans.std((0, 1, 2, 3)).tolist() == pytest.approx([5, 1], rel=0.1)
    shift = (true - plans[:2]).flatten(0, -2)
    torch.testing.assert_close(shift, shift[:1].expand_as(shift), rtol=0, atol=1e-4)


def there(*columns: int) -> torch.Tensor:
    """An object two tokens wide that begins in these columns, a frame each."""
    seen = torch.zeros(len(columns), 4, 4, dtype=torch.bool)
    for frame, column in zip(seen, columns):
        frame[1:3, column : column + 2] = True
    return seen


@pytest.mark.parametrize(
    ("columns", "said", "right"),
    [
        ((0, 0, 1, 2, 2), "right", True),
        ((2, 2, 1, 0, 0), "left", True),
        ((0, 0, 1, 2, 2), "left", False),
        ((0, 0, 1, 2, 2), "up right", False),
        ((0, 0, 0, 1, 0), "right", False),  # half a token
        ((0, 1, 2), "right", False),  # too short to tell
    ],
)
def test_where_it_goes(columns, said, right):
    assert goes(there(*columns), said) is right
    assert goes(there(*columns).transpose(1, 2), {"right": "down", "left": "up"}.get(said, said)) is right


def test_a_readout_finds_what_tokens_show():
    """Tokens are a colour's own numbers and noise; the object goes right through the middle rows."""
    generator = torch.Generator().manual_seed(1)
    words = [*COLOURS, *BACKGROUNDS]
    codes = torch.randn(len(words), 6, generator=generator)
    scenes = [one for one in sample_scenes(300, 3, "train", (1,)) if straight(one.things[0])]
    scenes = [replace(one, things=(replace(one.things[0], motion="right", heading=""),)) for one in scenes]
    labels = torch.zeros(len(scenes), 12, 4, 4, dtype=torch.long)
    for scene, label in zip(scenes, labels):
        label[:] = words.index(scene.background)
        label[there(*[0] * 4, *[1] * 4, *[2] * 4)] = list(COLOURS).index(scene.things[0].colour)
    plans = codes[labels] + 0.1 * torch.randn(*labels.shape, 6, generator=generator)
    half = len(scenes) // 2
    readout = Readout(plans[:half], labels[:half])
    found = readout.shares(plans[half:], scenes[half:])
    assert {name: sum(values) / len(values) for name, values in found.items()} == {
        "colour": 1.0,
        "background": 1.0,
        "motion": 1.0,
    }
    noise = readout.shares(torch.randn(plans[half:].shape, generator=generator), scenes[half:])
    assert sum(noise["colour"]) < 0.5 * len(noise["colour"])
