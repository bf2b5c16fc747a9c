"""VAP Reference: which frames are taken, how they are encoded, and which prompts carry them."""

import comfy.latent_formats
import comfy.sd
import comfy.utils
import pytest
import torch

from semantic_video.harness.sampling import clip_vision, seeded
from semantic_video.harness.toy import write_toy_vae
from semantic_video.host.reference import encode_reference
from semantic_video.kernels.video_prompt import IMAGE, LATENT, TEXT
from semantic_video.nodes import video_prompt as node
from semantic_video.nodes.video_prompt import VAPApplyNode, VAPExpertLoaderNode, VAPReferenceNode


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    path = write_toy_vae(tmp_path_factory.mktemp("vae") / "vae.safetensors")
    return comfy.sd.VAE(comfy.utils.load_torch_file(str(path)))


def text(seed):
    return [[seeded(1, 5, 8, seed=seed), {"pooled_output": None}]]


def attach(video, vae=None, **changes):
    """(positive, negative) of VAP Reference."""
    inputs = dict(width=48, height=32, length=5, frames="even", fps=0.0, in_negative=True)
    prompts = (text(1), text(2))
    return VAPReferenceNode.execute(*prompts, vae, video, text(3), text(4), **(inputs | changes)).args


@pytest.fixture
def taken(monkeypatch):
    """What is given to the VAE, instead of encoding it."""
    seen = []

    def encode(vae, frames, width, height):
        seen.append(frames)
        return torch.ones(1, 36, 2, 4, 6)

    monkeypatch.setattr(node, "encode_reference", encode)
    return seen


def numbered(frames, channels=3):
    """Frame i is of the value i / 100."""
    return (torch.arange(frames) / 100).view(-1, 1, 1, 1).expand(-1, 4, 6, channels)


def test_latents_are_normalised_and_the_start_image_stands_before_grey(vae):
    frames = seeded(5, 32, 48, 3, seed=6).sigmoid()
    same = comfy.utils.common_upscale(frames.movedim(-1, 1), 48, 32, "lanczos", "disabled").movedim(1, -1)
    grey = torch.full_like(same, 0.5)
    grey[0] = same[0]
    wan = comfy.latent_formats.Wan21()
    mean, deviation = (torch.as_tensor(x).view(1, 16, 1, 1, 1) for x in (wan.latents_mean, wan.latents_std))
    assert (mean.abs().max() > 0.1) and ((deviation - 1).abs().max() > 0.1)
    mask = torch.zeros(1, 4, 2, 4, 6)
    mask[:, :, 0] = 1
    expected = torch.cat(((vae.encode(same) - mean) / deviation, mask, (vae.encode(grey) - mean) / deviation), dim=1)
    torch.testing.assert_close(encode_reference(vae, frames, 48, 32), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("selection", ["even", "first"])
@pytest.mark.parametrize("fps", [0.0, 8.0, 16.0, 24.0, 32.0, 60.0, 110.0])
def test_frames_are_those_of_the_resampled_video(taken, selection, fps):
    """Naively: resample the whole video, then take from it."""
    video = numbered(20)
    whole = video
    if selection == "first" and fps:
        whole = video[[i * 19 // max(round(20 / fps * 16) - 1, 1) for i in range(round(20 / fps * 16))]]
    first = selection == "first" and len(whole) >= 5
    expected = whole[:5] if first else whole[[i * (len(whole) - 1) // 4 for i in range(5)]]
    attach(video, frames=selection, fps=fps)
    assert torch.equal(taken[0], expected)


def test_slow_videos_are_not_built_before_they_are_cut(taken):
    """9 frames at 0.000001 frames per second would be 144 million frames."""
    attach(numbered(9), frames="first", fps=1e-6)
    assert torch.equal(taken[0], numbered(9)[[0] * 5])
    attach(numbered(9), frames="first", fps=1e-320)
    assert len(taken[1]) == 5
    with pytest.raises(ValueError, match=r"reference_video: 1 frame\(s\) left of 9 at fps 240; a reference is a video"):
        attach(numbered(9), frames="first", fps=240.0)
    with pytest.raises(ValueError, match=r"reference_video: 1 frame\(s\); a reference is a video of at least 2"):
        attach(numbered(1))


def test_grey_videos_and_alpha(taken):
    for channels in (1, 4):
        attach(numbered(5, channels))
    assert torch.equal(taken[0], numbered(5))
    assert torch.equal(taken[1], numbered(5))
    with pytest.raises(ValueError, match="reference_video: shape .5, 4, 6, 2.; an image is"):
        attach(numbered(5, 2))
    with pytest.raises(ValueError, match="reference_video: contains NaN"):
        attach(numbered(5) / 0)


def test_both_prompts_carry_the_reference_or_only_the_positive(taken):
    seen = clip_vision(penultimate_hidden_states=seeded(1, 3, 4, seed=9))
    positive, negative = attach(numbered(5), clip_vision_output=seen)
    for prompt, own, reference in ((positive, 1, 3), (negative, 2, 4)):
        ((cond, extra),) = prompt
        conds = extra["model_conds"]
        assert torch.equal(cond, text(own)[0][0])
        assert torch.equal(conds[TEXT].cond, text(reference)[0][0])
        assert torch.equal(conds[LATENT].cond[0], torch.ones(1, 36, 2, 4, 6))
        assert torch.equal(conds[IMAGE].cond, seen.penultimate_hidden_states)
    alone, without = attach(numbered(5), clip_vision_output=seen, in_negative=False)
    assert set(alone[0][1]["model_conds"]) == {TEXT, LATENT, IMAGE}
    assert without[0][1] == text(2)[0][1]
    assert IMAGE not in attach(numbered(5))[0][0][1]["model_conds"]
    empty = clip_vision(penultimate_hidden_states=None)
    with pytest.raises(ValueError, match="clip_vision_output: holds no penultimate_hidden_states"):
        attach(numbered(5), clip_vision_output=empty)


def test_an_expert_does_not_fit_a_sampler_but_old_workflows_fit_apply():
    from comfy_execution.validation import validate_node_input

    (loaded,) = VAPExpertLoaderNode.GET_SCHEMA().outputs
    expert = next(x for x in VAPApplyNode.GET_SCHEMA().inputs if x.id == "expert")
    assert loaded.io_type == "SEMVID_VAP_EXPERT"
    assert validate_node_input(loaded.io_type, expert.get_io_type())
    assert validate_node_input("MODEL", expert.get_io_type()), "GGUF loaders give a MODEL"
    assert not validate_node_input(loaded.io_type, "MODEL"), "a KSampler takes no expert"
