"""Visual Prompt: batches, masks of any size, and what is refused."""

import pytest
import torch

from semantic_video.nodes.visual_prompt import VisualPromptNode
from semantic_video.tests.host.clips import frames

STYLES = ("darken", "grey", "blur", "outline", "crop")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("channels", [3, 4])
def test_visual_prompt_on_batches(style, channels):
    image, mask = frames(3, 24, 40, channels), torch.zeros(3, 24, 40)
    mask[:, 8:16, 10:30] = 1
    out = VisualPromptNode.execute(image, mask, style).args[0]
    assert out.shape[0] == 3
    assert out.shape[-1] == channels
    assert not torch.equal(out, image)
    if channels == 4 and style != "crop":
        assert torch.equal(out[..., 3], image[..., 3])
    assert VisualPromptNode.execute(image, mask, style, strength=0.0).args[0] is image
    one = VisualPromptNode.execute(image[:1], mask[:1], style).args[0]
    torch.testing.assert_close(out[:1], one)
    torch.testing.assert_close(VisualPromptNode.execute(image, mask[:1], style).args[0], out)


def test_visual_prompt_takes_masks_of_other_sizes_and_any_picture():
    assert VisualPromptNode.execute(frames(2, 24, 40), torch.rand(1, 6, 6), "grey").args[0].shape == (2, 24, 40, 3)
    for style in STYLES:
        for shape in ((1, 1, 1, 3), (1, 3, 7680, 3)):
            out = VisualPromptNode.execute(torch.rand(shape), torch.ones(shape[:3]), style).args[0]
            assert torch.isfinite(out).all()


def test_visual_prompt_refuses_by_name():
    good = {"image": frames(3), "mask": torch.rand(3, 48, 48), "style": "grey"}
    for change, message in (
        (dict(mask=torch.rand(2, 48, 48)), "mask: 2 masks for 3 frames"),
        (dict(image=frames(1)), "mask: 3 masks for 1 frame[.]"),
        (dict(mask=torch.full((1, 4, 4), float("nan"))), "mask: contains NaN"),
        (dict(colour="reddish"), "colour 'reddish': not a colour"),
        (dict(image=frames(3) / 0), "image: contains NaN"),
        (dict(style="crop", mask=torch.zeros(1, 48, 48)), "mask: nothing lies above threshold 0.5 .highest 0.00."),
    ):
        with pytest.raises(ValueError, match=message):
            VisualPromptNode.execute(**(good | change))
