"""What the training of an expert computes is what the nodes compute in the sampler, and gradients reach the expert and
nothing else."""

import comfy.latent_formats
import comfy.model_management
import comfy.sample
import comfy.sd
import comfy.utils
import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.harness.toy import TEXT_DIM, write_toy, write_toy_vae
from semantic_video.host.reference import encode_reference
from semantic_video.mini.dit import image_channels
from semantic_video.nodes.video_prompt import VAPApplyNode, VAPReferenceNode
from semantic_video.patches.video_prompt_expert import layers_of, load_expert
from semantic_video.training.video_prompt import load_pair, start_expert, velocity

LENGTH, WIDTH, HEIGHT = 9, 48, 32


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(backbone, expert that training starts from)"""
    folder = tmp_path_factory.mktemp("expert")
    backbone = write_toy("wan-i2v", folder / "backbone.safetensors")
    start_expert(backbone, (0, 1, 3), folder / "start.safetensors")
    return backbone, folder / "start.safetensors"


@pytest.fixture
def trainable(files):
    """(MODEL, expert module) as training has them: made, and to be used, outside of inference mode."""
    comfy.model_management.in_training = True
    with torch.inference_mode(False):
        yield load_pair(*files)
    comfy.model_management.in_training = False


def test_the_expert_starts_as_a_copy_of_its_backbone_twin(files):
    backbone, expert = (comfy.utils.load_torch_file(str(file)) for file in files)
    assert layers_of(load_expert(files[1])) == (0, 1, 3)
    for i, layer in enumerate((0, 1, 3)):
        assert torch.equal(expert[f"blocks.{i}.self_attn.k.weight"], backbone[f"blocks.{layer}.self_attn.k.weight"])
    assert torch.equal(expert["patch_embedding.weight"], backbone["patch_embedding.weight"])
    assert not [key for key in expert if key.startswith(("head.", "blocks.3", "blocks.2.ffn", "blocks.2.self_attn.q"))]


def test_a_training_forward_is_what_the_nodes_compute_in_the_sampler(files, trainable, tmp_path):
    """One euler step from pure noise at cfg 1 ends at noise - velocity."""
    vae = comfy.sd.VAE(comfy.utils.load_torch_file(str(write_toy_vae(tmp_path / "vae.safetensors"))))
    target, reference = torch.rand(2, LENGTH, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))
    text, reference_text = seeded(1, 7, TEXT_DIM, seed=1), seeded(1, 9, TEXT_DIM, seed=2)
    padded = torch.full_like(target, 0.5)
    padded[:1] = target[:1]
    image = vae.encode(padded)
    mask = torch.ones(1, 1, *image.shape[2:])
    mask[:, :, 0] = 0
    positive = [[text, {"concat_latent_image": image, "concat_mask": mask}]]
    carried, _ = VAPReferenceNode.execute(
        positive,
        positive,
        vae,
        reference,
        [[reference_text, {}]],
        [[reference_text, {}]],
        WIDTH,
        HEIGHT,
        LENGTH,
        "even",
        0.0,
        True,
    ).args
    comfy.model_management.in_training = False
    [model] = VAPApplyNode.execute(
        comfy.sd.load_diffusion_model(str(files[0])), load_expert(files[1]), "whole reference", 1.0, 0.0, 1.0
    ).args
    noise = seeded(*image.shape, seed=3)
    latents = comfy.sample.sample(
        model, noise, 1, 1.0, "euler", "simple", carried, carried, torch.zeros_like(noise), seed=0, disable_pbar=True
    )
    expected = noise - comfy.latent_formats.Wan21().process_in(latents)

    comfy.model_management.in_training = True
    given = image_channels(comfy.latent_formats.Wan21().process_in(image))
    shown = encode_reference(vae, reference, WIDTH, HEIGHT)
    with torch.inference_mode(False):
        x, shown, texts = torch.cat((noise, given), 1).clone(), shown.clone(), (text.clone(), reference_text.clone())
        got = velocity(trainable[0], x, torch.tensor([1000.0]), texts[0], shown, texts[1])
        assert got.requires_grad
        got, mistaken = (
            got.detach(),
            velocity(trainable[0], x, torch.tensor([1000.0]), texts[0], -shown, texts[1]).detach(),
        )
    assert float((got - expected).norm() / expected.norm()) < 1e-5
    assert float((mistaken - expected).norm() / expected.norm()) > 1e-2, (
        "the reference must matter for this test to mean anything"
    )


def test_gradients_reach_all_of_the_expert_and_nothing_else(trainable):
    model, expert = trainable
    frames = (1, 36, 3, 4, 6)
    velocity(
        model,
        seeded(*frames, seed=1),
        torch.tensor([500.0]),
        seeded(1, 7, TEXT_DIM, seed=2),
        seeded(*frames, seed=3),
        seeded(1, 9, TEXT_DIM, seed=4),
    ).square().mean().backward()
    assert not [name for name, p in expert.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(p.grad is None for p in model.model.diffusion_model.parameters())


def test_backbones_and_layers_that_do_not_fit(files, tmp_path):
    for layers in ((), (0, 9), (2, 0), (1, 1)):
        with pytest.raises(ValueError, match=r"name ascending blocks of backbone\.safetensors, which has 0 to 3"):
            start_expert(files[0], layers, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="not an image-to-video model of 36 input channels"):
        start_expert(write_toy("wan-t2v", tmp_path / "t2v.safetensors"), (0, 1), tmp_path / "x.safetensors")
