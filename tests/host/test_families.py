"""What differs between the families: values written out, not computed as the families compute them."""

import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import TOYS
from semantic_video.host.editing import edit_attention
from semantic_video.host.families import family_of, hunyuan
from semantic_video.host.layout import Layout

TRAINED = {"wan-5b": 31, "hunyuan-t2v": 33, "hunyuan-i2v": 33, "hunyuan-1.5": 33}  # the others: 21


@pytest.mark.parametrize("name", TOYS)
def test_trained_frames(toys, name):
    """81 video frames of Wan, 121 of the 5B model, 129 of HunyuanVideo; four to a latent frame, and the first."""
    model = toys(name)
    assert family_of(model).trained_frames(model.model.diffusion_model) == TRAINED.get(name, 21)


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_first_frames(toys, name):
    family = family_of(toys(name))
    assert family.first_frames(1) == [0, 1]
    assert family.first_frames(4) == [0, 1, 5, 9, 13]


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("wan-t2v", Layout(9, 3, 4, text=7, patch=(2, 2))),
        ("wan-i2v-clip", Layout(9, 3, 4, text=7, image=5, patch=(2, 2))),
        ("wan-5b", Layout(9, 3, 4, text=7, patch=(2, 2))),
        ("wan-phantom", Layout(9, 3, 4, after=2 * 3 * 4, text=7, patch=(2, 2))),
        ("wan-in-context", Layout(9, 3, 4, after=1 * 2 + 3 * 4, text=7, patch=(2, 2))),
        ("hunyuan-1.5", Layout(9, 5, 7, image=6, glyphs=3)),
    ],
)
def test_odd_latents(toys, name, layout):
    """5 x 7 cells are padded by the host to 3 x 4 tokens of 2 x 2; 1.5's tokens are single cells."""
    seen = set()

    def watch(call, proceed):
        seen.add(call.forward.layout)
        assert call.site.kind == "text" or call.before + layout.tokens - layout.before == call.q.shape[1]
        return proceed(call)

    shot = Shot(name, height=5, width=7, steps=1)
    watched = edit_attention(toys(name), "watch", watch, sites=("self", "text", "image", "joint"))
    assert torch.equal(sample(watched, shot), sample(toys(name), shot))
    assert seen == {layout}


def test_odd_reference_frames(toys):
    """Wan's reference passes through a plain convolution: what does not fill a token falls off."""
    module = toys("wan-reference").model.diffusion_model
    found = family_of(toys("wan-reference")).layout(
        module,
        {
            "x": torch.zeros(1, 36, 9, 5, 7),
            "context": torch.zeros(1, 7, 32),
            "reference_latent": torch.zeros(1, 16, 5, 7),
        },
    )
    assert found == Layout(9, 3, 4, before=2 * 3, text=7, patch=(2, 2))
    assert module.ref_conv(torch.zeros(1, 16, 5, 7)).shape[2:] == (2, 3)


def test_hunyuan_1_layout_of_odd_latents(toys):
    """The host cannot sample these; the layout counts as it pads."""
    module = toys("hunyuan-t2v").model.diffusion_model
    video = torch.zeros(1, 16, 9, 5, 7)
    assert hunyuan.layout(module, {"x": video}) == Layout(9, 3, 4, patch=(2, 2))
    assert hunyuan.layout(module, {"x": video, "ref_latent": video[:, :, :1]}) == Layout(
        9, 3, 4, before=3 * 4, patch=(2, 2)
    )
    assert module.img_in(torch.zeros(1, 16, 9, 6, 8)).shape[1] == 9 * 3 * 4
