"""Attention Maps as masks and heat maps over a video: values by hand, and through the node."""

import pytest
import torch

from semantic_video.harness.sampling import Shot, conditioning, seeded, sound_shape
from semantic_video.harness.toy import NEWER, TOYS
from semantic_video.harness.toy_nodes import ToyCLIP
from semantic_video.nodes.attention_maps import AttentionMapsNode
from semantic_video.patches.attention_maps import attention_maps, overlay

TEXT = "a red ball and a blue cube"


def bilinear(rows, height, width):
    """[rows][columns] read at the centres of height x width pixels, edges repeated: one pixel at a time."""
    out = torch.zeros(height, width)

    def around(pixel, size, count):
        place = min(max((pixel + 0.5) * count / size - 0.5, 0.0), count - 1.0)
        low = int(place)
        return low, min(low + 1, count - 1), place - low

    for y in range(height):
        for x in range(width):
            top, bottom, down = around(y, height, len(rows))
            left, right, across = around(x, width, len(rows[0]))
            upper = (1 - across) * rows[top][left] + across * rows[top][right]
            lower = (1 - across) * rows[bottom][left] + across * rows[bottom][right]
            out[y, x] = (1 - down) * upper + down * lower
    return out


def masks_of(maps, height, width):
    """One mask per latent frame, 0 to 1 over all of them."""
    low, high = float(maps.min()), float(maps.max())
    return torch.stack([bilinear(((frame - low) / (high - low)).tolist(), height, width) for frame in maps])


def colours(mask):
    """Blue over green to red, a pixel at a time."""
    out = torch.zeros(*mask.shape, 3)
    for place in torch.cartesian_prod(*map(torch.arange, mask.shape)).tolist():
        for channel, centre in enumerate((0.75, 0.5, 0.25)):
            distance = 4 * abs(float(mask[tuple(place)]) - centre)
            out[(*place, channel)] = min(max(1.5 - distance, 0.0), 1.0)
    return out


def test_a_mask_per_latent_frame_over_grey():
    maps = 3 + 2 * seeded(2, 2, 3, seed=1)
    mask, heat = overlay(maps, None, (5, 8))
    torch.testing.assert_close(mask, masks_of(maps, 5, 8))
    assert mask.shape == (2, 5, 8)
    torch.testing.assert_close(heat, 0.25 + 0.5 * colours(mask))


@pytest.mark.parametrize(("count", "latents"), [(5, [0, 1, 1, 1, 1]), (2, [0, 1])])
def test_a_latent_frame_covers_its_video_frames(count, latents):
    """The first latent frame is one video frame, the next is the rest; the size is the picture's."""
    maps = seeded(2, 2, 3, seed=2)
    frames = torch.rand(count, 4, 6, 3, generator=torch.Generator().manual_seed(0))
    mask, heat = overlay(maps, frames, (99, 99))
    torch.testing.assert_close(mask, masks_of(maps, 4, 6)[latents])
    torch.testing.assert_close(heat, 0.5 * frames + 0.5 * colours(mask))


def test_frames_of_another_video_are_refused():
    with pytest.raises(ValueError, match="image: 6 video frames for 3 latent frames; .* Connect the frames decoded"):
        overlay(seeded(3, 2, 2), torch.zeros(6, 4, 4, 3), (4, 4))


@pytest.mark.parametrize(("name", "pixel"), [("wan-t2v", 8), ("wan-5b", 16), ("hunyuan-1.5", 16)])
def test_the_node_gives_each_word_its_masks_and_pictures(toys, name, pixel):
    """At the size that the model's VAE decodes a latent of 4 x 4 to, or that of the frames."""
    model, positive = toys(name), conditioning(Shot(name, frames=2), 7, 20)
    latent = {"samples": seeded(1, TOYS[name].channels, 2, 4, 4, seed=5)}
    maps = attention_maps(model, ToyCLIP(), positive, TEXT, ["ball", "blue"], latent)
    masks, pictures = AttentionMapsNode.execute(model, ToyCLIP(), positive, TEXT, "ball, blue", latent).args
    assert len(masks) == len(pictures) == 2
    for word, mask, picture in zip(maps, masks, pictures):
        assert mask.dtype == torch.float32
        torch.testing.assert_close(mask, masks_of(word, 4 * pixel, 4 * pixel), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(picture[:, ::7, ::5], 0.25 + 0.5 * colours(mask[:, ::7, ::5]))
    frames = torch.rand(5, 6, 10, 4, generator=torch.Generator().manual_seed(0))  # with alpha
    masks, pictures = AttentionMapsNode.execute(model, ToyCLIP(), positive, TEXT, "blue", latent, frames).args
    torch.testing.assert_close(masks[0], masks_of(maps[1], 6, 10)[[0, 1, 1, 1, 1]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pictures[0], 0.5 * frames[..., :3] + 0.5 * colours(masks[0]))


RHYTHMS = {"h3": (1, 4, 4, 4, 4, 1, 4), "ltxv": (1, 8, 8)}


@pytest.mark.parametrize("name", [name for name in RHYTHMS if name in NEWER])
def test_frames_of_a_family_with_another_rhythm(toys, name):
    """MiniMax H3's VAE makes 17 video frames of five latent ones, again and again; Wan's would make 25 of seven."""
    import comfy.nested_tensor

    each, model = RHYTHMS[name], toys(name)
    shot = Shot(name, frames=len(each))
    positive, samples = conditioning(shot, 7, 20), seeded(1, NEWER[name].channels, len(each), 4, 4, seed=5)
    if NEWER[name].sound:
        samples = comfy.nested_tensor.NestedTensor((samples, seeded(*sound_shape(shot), seed=6)))
    latent = {"samples": samples}
    frames = torch.rand(sum(each), 4, 4, 3, generator=torch.Generator().manual_seed(0))
    [maps] = attention_maps(model, ToyCLIP(), positive, TEXT, ["ball"], latent)
    [mask], _ = AttentionMapsNode.execute(model, ToyCLIP(), positive, TEXT, "ball", latent, frames).args
    shown = [latent_frame for latent_frame, count in enumerate(each) for _ in range(count)]
    torch.testing.assert_close(mask, masks_of(maps, 4, 4)[shown], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=f"{sum(each) - 1} video frames for {len(each)} .* make {sum(each)}"):
        AttentionMapsNode.execute(model, ToyCLIP(), positive, TEXT, "ball", latent, frames[1:])
