"""Numbers of every technique's settings: what stands at a limit is taken, what lies beyond it is refused by name."""

import re

import pytest
import torch

from semantic_video.harness.toy_plans import toy_plan
from semantic_video.patches.alg import ALG
from semantic_video.patches.alignvid import AlignVid
from semantic_video.patches.dymos import DyMoS
from semantic_video.patches.plan_adapter import PlanGuide
from semantic_video.patches.ssg_guide import Guide
from semantic_video.patches.swin_config import SwinRenderer
from semantic_video.patches.text_contrast import TextContrast
from semantic_video.patches.video_prompt import VideoPrompt

FEATURES = {"features": torch.zeros(1, 5, 8)}
PLAN = {"plan": toy_plan()}


@pytest.mark.parametrize(
    ("kind", "name", "least", "most", "others"),
    [
        (ALG, "factor", 0.0, 1.0, {}),
        (ALG, "strength", 0.0, 1.0, {}),
        (AlignVid, "gamma", 0.5, 3.0, {}),
        (AlignVid, "strength", 0.0, 1.0, {}),
        (DyMoS, "gamma", -5.0, 5.0, {}),
        (DyMoS, "strength", 0.0, 1.0, {}),
        (TextContrast, "strength", 0.0, 2.0, {}),
        (VideoPrompt, "strength", 0.0, 1.0, {}),
        (Guide, "strength", 0.0, 2.0, FEATURES),
        (PlanGuide, "strength", 0.0, 2.0, PLAN),
        (PlanGuide, "fps", 0.0, 1000.0, PLAN),
        (SwinRenderer, "strength", 0.0, 1.0, {}),
        (SwinRenderer, "time_scale", 0.0, 1.0, {}),
        (SwinRenderer, "lead_noise", 0.0, 1.0, {}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or (value if isinstance(value, str) else ""),
)
def test_fractions(kind, name, least, most, others):
    for value in (least, most):
        assert getattr(kind(**others | {name: value}), name) == value
    for value in (least - 0.01, most + 0.01, float("nan")):
        with pytest.raises(ValueError, match=f"^{name} {re.escape(str(value))}: must be "):
            kind(**others | {name: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"window": -1}, "window -1: must not be negative"),
        ({"window": 7}, "window 7: must be even, .* Use 8, or turn shift off"),
        ({"anchor_interval": -1}, "anchor_interval -1, anchor_budget 0: must not be negative"),
        ({"anchor_budget": -1}, "anchor_interval 0, anchor_budget -1: must not be negative"),
        ({"look_back": -2}, "look_back -2: must not be negative; -1 chooses"),
        ({"trained": -1}, "trained -1: must not be negative"),
        ({"lead_in": -1}, "lead_in -1, blend 0: must not be negative"),
        ({"blend": -1}, "lead_in 0, blend -1: must not be negative"),
        ({"sound": "some"}, "sound 'some': choose one of whole, windows"),
        (
            {"lead_in": 1, "anchors": "rotating", "look_back": 1, "dense_blocks": "0", "strength": 0.5},
            "lead_in 1, .* so that anchors and look_back and dense_blocks and strength cannot act",
        ),
        ({"blend": 2, "look_back": 1}, "lead_in 0, blend 2: .* so that look_back cannot act"),
        ({"blend": 1, "strength": 0.01}, "lead_in 0, blend 1: .* so that strength cannot act"),
    ],
)
def test_windows_that_cannot_be(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        SwinRenderer(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"window": 0},
        {"window": 7, "shift": False},
        {"anchor_interval": 1, "anchor_budget": 1},
        {"look_back": 0},
        {"trained": 1},
        {"sound": "windows"},
        *({"lead_in": 1, "strength": strength, "dense_blocks": " ", "look_back": 0} for strength in (0, 1)),
    ],
)
def test_windows_that_can(given):
    config = SwinRenderer(**given)
    assert {name: getattr(config, name) for name in given} == given
    assert config.on_their_own == ("lead_in" in given)


def test_choices_and_masks_of_the_ssg_adapter():
    with pytest.raises(ValueError, match="^passes 'negative': choose one of both, conditional"):
        Guide(**FEATURES, passes="negative")
    assert Guide(**FEATURES, mask=torch.zeros(1, 1, 1)).mask.shape == (1, 1, 1)
    for mask in (torch.zeros(4, 4), torch.zeros(1, 1, 4, 4), torch.zeros(1, 0, 4), torch.full((1, 4, 4), torch.nan)):
        shape = re.escape(str(tuple(mask.shape)))
        with pytest.raises(ValueError, match=f"^mask: shape {shape}, empty or with NaN"):
            Guide(**FEATURES, mask=mask)
    with pytest.raises(ValueError, match="^passes 'negative': choose one of both, conditional"):
        PlanGuide(**PLAN, passes="negative")
