"""A prompted image without an adapter: through the image branch of Wan 2.1 I2V."""

import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from semantic_video.harness.sampling import Shot, clip_vision, conditioning, sample, seeded
from semantic_video.host.schedule import Interval
from semantic_video.patches.ssg_adapter import apply
from semantic_video.patches.ssg_guide import Guide
from semantic_video.patches.swin_renderer import SwinRenderer
from semantic_video.patches.swin_renderer import apply as swin
from semantic_video.tests.host.ssg_reference import NEAR, outputs_of
from semantic_video.tests.host.stacking import windows

PICTURE = seeded(1, 5, 1280, seed=50)


def with_picture(model, shot, picture):
    """The host alone, with another picture in its conditioning."""
    import comfy.sample

    conds = [conditioning(shot, shot.words, 20), conditioning(shot, shot.negative_words, 21)]
    for cond in conds:
        cond[0][1]["clip_vision_output"] = clip_vision(penultimate_hidden_states=picture)
    noise = seeded(shot.batch, 16, shot.frames, shot.height, shot.width, seed=shot.seed)
    return comfy.sample.sample(
        model,
        noise,
        shot.steps,
        shot.cfg,
        "euler",
        "simple",
        *conds,
        torch.zeros_like(noise),
        seed=1,
        disable_pbar=True,
    )


@pytest.mark.parametrize("name", ["wan-i2v-clip", "wan-camera"])
def test_the_image_branch_sees_the_prompted_image(toys, name):
    model, shot = toys(name), Shot(name)
    plain, own = sample(model, shot), seeded(1, 5, 1280, seed=4)
    assert apply(model, None, Guide(PICTURE, strength=0.0)) is model
    assert torch.equal(with_picture(model, shot, own), plain)
    assert torch.equal(sample(apply(model, None, Guide(PICTURE)), shot), with_picture(model, shot, PICTURE))
    half = sample(apply(model, None, Guide(PICTURE, strength=0.5)), shot)
    torch.testing.assert_close(half, with_picture(model, shot, (own + PICTURE) / 2), **NEAR)
    assert not torch.allclose(plain, half, **NEAR)
    assert torch.equal(plain, sample(model, shot))
    assert torch.equal(plain, sample(apply(model, None, Guide(PICTURE, interval=Interval(0.5, 0.5))), shot))


@pytest.mark.parametrize("split", [True, False])
def test_the_image_branch_in_one_pass(toys, split, monkeypatch):
    model, shot = toys("wan-i2v-clip"), Shot("wan-i2v-clip", steps=1)
    if split:
        monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    plain, only = (outputs_of(m, shot) for m in (model, apply(model, None, Guide(PICTURE, passes="conditional"))))
    assert torch.equal(plain[1], only[1])
    assert not torch.allclose(plain[0], only[0], **NEAR)


def test_the_image_branch_beside_windows_and_an_adapter(toys, adapters):
    model, shot = toys("wan-i2v-clip"), Shot("wan-i2v-clip")
    config = SwinRenderer(window=4)
    result = sample(swin(apply(model, None, Guide(PICTURE)), config), shot)
    assert torch.equal(result, sample(apply(swin(model, config), None, Guide(PICTURE)), shot))
    careless = apply(model, None, Guide(PICTURE, strength=0.5))
    expected = sample(careless, shot)
    careless.add_wrapper_with_key(
        WrappersMP.DIFFUSION_MODEL,
        "a careless copy",
        careless.get_wrappers(WrappersMP.DIFFUSION_MODEL, "semantic_video")[0],
    )
    assert torch.equal(expected, sample(careless, shot)), "blended once"
    long = windows(model)
    assert not torch.equal(sample(long, shot), sample(apply(long, None, Guide(PICTURE)), shot))


def test_models_without_an_image_branch_are_refused(toys):
    for name in ("wan-t2v", "wan-i2v", "wan-5b", "hunyuan-t2v", "hunyuan-1.5"):
        with pytest.raises(
            ValueError,
            match="has no image branch that takes CLIP features .* Load Wan 2.1 I2V, or connect an SSG Adapter",
        ):
            apply(toys(name), None, Guide(PICTURE))
    model, stepped = toys("wan-i2v-clip"), []
    for guide, message in (
        (Guide(PICTURE, torch.ones(1, 4, 4)), "mask: needs an SSG Adapter"),
        (Guide(PICTURE / 0), "NaN or infinite"),
        (Guide(seeded(1, 257, 1024)), "takes those of one image, of width 1280. Use clip_vision_h"),
        (Guide(PICTURE.repeat(2, 1, 1)), "takes those of one image"),
        (Guide(PICTURE[0, :1]), r"features of shape \(1, 1280\); .* takes those of one image"),
    ):
        with pytest.raises(ValueError, match=message):
            apply(model, None, guide)
    with pytest.raises(ValueError, match="clip_vision_output: 7 tokens, the start image has 5"):
        sample(apply(model, None, Guide(seeded(1, 7, 1280))), Shot("wan-i2v-clip"), stepped.append)
    import comfy.sample

    bare, noise = [[seeded(1, 7, 32), {}]], seeded(1, 16, 3, 4, 4)
    with pytest.raises(ValueError, match="no conditioning carries CLIP features of a start image"):
        comfy.sample.sample(
            apply(model, None, Guide(PICTURE)),
            noise,
            1,
            1.0,
            "euler",
            "simple",
            bare,
            bare,
            noise,
            seed=1,
            disable_pbar=True,
        )
    assert not stepped
