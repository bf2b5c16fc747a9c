"""What the training of an expert computes is what the nodes compute in the sampler, and gradients reach the expert and
nothing else."""

import comfy.latent_formats
import comfy.sample
import comfy.sd
import comfy.utils
import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.harness.toy import TEXT_DIM, write_toy, write_toy_vae
from semantic_video.host.frozen_model import cat_conds, denoised, in_training
from semantic_video.host.reference import encode_reference
from semantic_video.host.start_image import given_mask, padded_start
from semantic_video.nodes.video_prompt import VAPApplyNode, VAPReferenceNode
from semantic_video.patches.video_prompt_expert import layers_of, load_expert
from semantic_video.training.plan import Plan
from semantic_video.training.video_prompt import batch_of, load_pair, make_loss, pair_conds, start_expert

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
    with in_training():
        yield load_pair(*files)


def test_the_expert_starts_as_a_copy_of_its_backbone_twin(files):
    backbone, expert = (comfy.utils.load_torch_file(str(file)) for file in files)
    assert layers_of(load_expert(files[1])) == (0, 1, 3)
    for i, layer in enumerate((0, 1, 3)):
        assert torch.equal(expert[f"blocks.{i}.self_attn.k.weight"], backbone[f"blocks.{layer}.self_attn.k.weight"])
    assert torch.equal(expert["patch_embedding.weight"], backbone["patch_embedding.weight"])
    assert not [key for key in expert if key.startswith(("head.", "blocks.3", "blocks.2.ffn", "blocks.2.self_attn.q"))]


def pair_of(seed, cover=False):
    """As `Draw` gives it."""
    video = (36, 3, 4, 6)
    pair = {
        "target": seeded(*video, seed=seed),
        "reference": seeded(*video, seed=seed + 1),
        "text": seeded(7, TEXT_DIM, seed=seed + 2),
        "reference_text": seeded(9, TEXT_DIM, seed=seed + 3),
    }
    pair["target"][16:20] = given_mask(pair["target"][None])[0]
    if cover:
        pair["cover"] = (seeded(1, *video[1:], seed=seed + 4) > 0).float()
    return pair


def test_a_training_forward_is_what_the_nodes_compute_in_the_sampler(files, trainable, tmp_path):
    """One euler step from pure noise at cfg 1 ends at what the model predicts there."""
    with in_training(False):
        vae = comfy.sd.VAE(comfy.utils.load_torch_file(str(write_toy_vae(tmp_path / "vae.safetensors"))))
        target, reference = torch.rand(2, LENGTH, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))
        text, reference_text = seeded(1, 7, TEXT_DIM, seed=1), seeded(1, 9, TEXT_DIM, seed=2)
        image = vae.encode(padded_start(target))
        start = {"concat_latent_image": image, "concat_mask": 1 - given_mask(image, 1)}
        told = [[reference_text, {}]]
        carried, _ = VAPReferenceNode.execute(
            *([[text, start]], [[text, start]]), vae, reference, told, told, WIDTH, HEIGHT, LENGTH, "even", 0.0, True
        ).args
        backbone, expert = comfy.sd.load_diffusion_model(str(files[0])), load_expert(files[1])
        [model] = VAPApplyNode.execute(backbone, expert, "whole reference", 1.0, 0.0, 1.0).args
        noise = seeded(*image.shape, seed=3)
        latents = comfy.sample.sample(
            *(model, noise, 1, 1.0, "euler", "simple", carried, carried, torch.zeros_like(noise)),
            seed=0,
            disable_pbar=True,
        )
        process_in = comfy.latent_formats.Wan21().process_in
        expected, shown = process_in(latents), process_in(image)
        pair = {
            "target": torch.cat((torch.zeros_like(shown), given_mask(shown), shown), 1)[0],
            "reference": encode_reference(vae, reference, WIDTH, HEIGHT)[0],
            "text": text[0],
            "reference_text": reference_text[0],
        }
    pair = {name: value.clone() for name, value in pair.items()}
    found = []
    for sign in (1, -1):
        conds = pair_conds(trainable[0], pair | {"reference": sign * pair["reference"]})
        out = denoised(trainable[0], noise.clone(), torch.ones(1), cat_conds([conds], noise.device), {})
        assert out.requires_grad
        found.append(float((out.detach() - expected).norm() / expected.norm()))
    assert found[0] < 1e-5 and found[1] > 1e-2, "the reference must matter for this test to mean anything"


def test_gradients_reach_all_of_the_expert_and_nothing_else(trainable, tmp_path):
    model, expert = trainable
    loss_of = make_loss(model, lambda rng: [pair_of(1), pair_of(11)], Plan("toy", tmp_path, steps=1), None)
    loss_of(0, 0.0)["loss"].backward()
    assert not [name for name, p in expert.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(p.grad is None for p in model.model.diffusion_model.parameters())


def test_a_batch_is_its_pairs_one_by_one(trainable):
    model, _ = trainable
    pairs = [pair_of(1, cover=True), pair_of(11, cover=True)]
    batch = batch_of(model, pairs)
    together = denoised(model, batch.latents, torch.tensor([0.9, 0.4]), cat_conds(batch.conds, "cpu"), {})
    for i, pair in enumerate(pairs):
        assert torch.equal(batch.latents[i], pair["target"][:16]) and torch.equal(batch.cover[i], pair["cover"])
        conds = cat_conds([pair_conds(model, pair)], "cpu")
        torch.testing.assert_close(conds["c_concat"][0], pair["target"][16:], atol=1e-5, rtol=1e-5)
        alone = denoised(model, batch.latents[i : i + 1], torch.tensor([[0.9], [0.4]][i]), conds, {})
        torch.testing.assert_close(alone[0], together[i], atol=1e-4, rtol=1e-4)


def test_backbones_and_layers_that_do_not_fit(files, tmp_path):
    for layers in ((), (0, 9), (2, 0), (1, 1)):
        with pytest.raises(ValueError, match=r"name ascending blocks of backbone\.safetensors, which has 0 to 3"):
            start_expert(files[0], layers, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="not an image-to-video model of 36 input channels"):
        start_expert(write_toy("wan-t2v", tmp_path / "t2v.safetensors"), (0, 1), tmp_path / "x.safetensors")
