"""A few steps of each training: the loss falls, and the host's own loaders read what is saved. The order matters, as it
does for users."""

import json
from shutil import copy

import comfy.sd
import comfy.utils
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from semantic_video.cli.train_options import main
from semantic_video.host.frozen_model import in_training
from semantic_video.mini import clip as mini_clip
from semantic_video.mini.dit import with_layers
from semantic_video.training.plan import Plan


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """trained(model) -> its file, after a few steps; each model is trained once, those it builds on first."""
    base = tmp_path_factory.mktemp("training")
    needs = {"mini-t2v": ("mini-vae", "mini-clip"), "mini-i2v": ("mini-t2v",), "video-prompt": ("mini-i2v",)}

    def get(name: str, *more: str):
        path = (
            base / "weights" / f"{'mini_vap_expert' if name == 'video-prompt' else name.replace('-', '_')}.safetensors"
        )
        if not path.exists() or more:
            for other in needs.get(name, ()):
                get(other)
            # these two train in two phases
            steps, batch = {"mini-vae": ("70", "2"), "mini-clip": ("50", "8")}.get(name, ("20", "8"))
            main(
                [
                    name,
                    "--steps",
                    steps,
                    "--batch",
                    batch,
                    "--scenes",
                    "64",
                    "--held-out",
                    "1",
                    "--out",
                    str(path.parent),
                    "--cache",
                    str(base / "cache"),
                    *more,
                ]
            )
        return path

    get.cache = base / "cache"
    return get


def metadata(path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_the_vae_learns(trained):
    """Its batches are pictures at first and clips later, so its losses do not compare; what it makes of the same
    held-out clips does."""
    from semantic_video.mini import vae as mini_vae

    fresh = mini_vae.build()
    mini_vae.initialise(fresh, 0)
    before, after = (mini_vae.held_out_scores(vae, 8)["psnr_db"] for vae in (fresh, mini_vae.load(trained("mini-vae"))))
    facts = json.loads(metadata(trained("mini-vae"))["training"])
    assert facts["command"].startswith("python run.py train mini-vae") and facts["steps"] == 70 and facts["held_out"]
    assert after > before + 1


@pytest.mark.parametrize(
    "name, curve", [("mini-clip", "mini-clip-both"), ("mini-t2v", "mini-t2v"), ("mini-i2v", "mini-i2v")]
)
def test_loss_falls_and_file_says_how_it_was_made(trained, name, curve):
    facts = json.loads(metadata(trained(name))["training"])
    assert facts["command"].startswith(f"python run.py train {name}") and facts["steps"] >= 20 and facts["held_out"]
    losses = [
        value for _, value in json.loads(metadata(trained.cache / f"{curve}.safetensors")["state"])["curves"]["loss"]
    ]
    assert losses[-1] < losses[0]
    assert (trained.cache / f"{curve}.png").stat().st_size > 1000


def test_the_host_loads_the_vae(trained):
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(trained("mini-vae"))))
    latents = vae.encode(torch.rand(5, 64, 64, 3))
    assert latents.shape == (1, 16, 2, 8, 8)
    assert vae.decode(latents).reshape(-1, 64, 64, 3).shape[0] == 5


@pytest.mark.parametrize("name, channels", [("mini-t2v", 16), ("mini-i2v", 36)])
def test_the_host_loads_the_video_models(trained, name, channels):
    model = comfy.sd.load_diffusion_model(str(trained(name)))
    assert model.model.diffusion_model.patch_embedding.weight.shape[1] == channels
    assert model.model.diffusion_model.num_heads == 5


def test_the_expert_learns(trained, tmp_path):
    """On one batch over and over: beside a backbone of 20 steps' training, what it may learn is less than batches
    differ."""
    from semantic_video.mini import vae as mini_vae
    from semantic_video.mini.latents import folder_of
    from semantic_video.mini.pairs import Pairs
    from semantic_video.mini.video_prompt import draw_mini
    from semantic_video.training.loop import train
    from semantic_video.training.video_prompt import load_pair, make_loss

    path = trained("video-prompt")
    facts = json.loads(metadata(path)["training"])
    assert (
        facts["command"].startswith("python run.py train video-prompt")
        and facts["steps"] == 20
        and "transfer with" in facts["held_out"]
    )
    assert (trained.cache / "video-prompt.png").stat().st_size > 1000
    vae, clip = (
        mini_vae.load(path.parent / "mini_vae.safetensors"),
        mini_clip.load(path.parent / "mini_clip.safetensors"),
    )
    start = trained.cache / "video-prompt-start.safetensors"
    plan = Plan("one-batch", tmp_path, steps=20, batch=8, rate=8e-3)
    with in_training():
        model, expert = load_pair(path.parent / "mini_i2v.safetensors", start)
        loss_of = make_loss(model, draw_mini(Pairs(folder_of(trained.cache, vae, 0), 0, 64), clip, 8), plan)
        _, state = train(plan, expert, lambda step, done: loss_of(0, done))
    losses = [value for _, value in state.curves["loss"]]
    assert losses[-1] < losses[0]


def test_the_expert_loader_loads_the_expert(trained, monkeypatch):
    import folder_paths

    from semantic_video.mini.video_prompt import LAYERS
    from semantic_video.nodes.video_prompt import VAPApplyNode, VAPExpertLoaderNode
    from semantic_video.patches.video_prompt_expert import layers_of

    path = trained("video-prompt")
    monkeypatch.setattr(folder_paths, "get_full_path_or_raise", lambda folder, name: str(path.parent / name))
    [expert] = VAPExpertLoaderNode.execute(path.name, "default").args
    assert layers_of(expert) == LAYERS
    assert expert.model.diffusion_model.num_heads == 5
    assert path.stat().st_size < 2.2e6
    [model] = VAPApplyNode.execute(
        comfy.sd.load_diffusion_model(str(trained("mini-i2v"))), expert, "whole reference", 1.0, 0.0, 1.0
    ).args
    assert model.get_additional_models_with_key("video_prompt")


def test_an_expert_of_one_s_own(trained, tmp_path):
    """Two pairs of clips on disk, of another size and length than MiniWorld's, beside the mini I2V as the backbone."""
    from semantic_video.cli.media import write_video
    from semantic_video.miniworld.caption import caption
    from semantic_video.miniworld.render import render
    from semantic_video.miniworld.scene import sample_pair
    from semantic_video.patches.video_prompt_expert import layers_of, load_expert

    for seed in (0, 1):
        folder = tmp_path / "pairs" / f"{seed}"
        folder.mkdir(parents=True)
        for name, scene in zip(("reference", "target"), sample_pair(seed)):
            write_video(folder / f"{name}.mp4", render([scene], 12, 48).frames[0])
            (folder / f"{name}.txt").write_text(caption(scene) + "\n")
    weights = trained("mini-i2v").parent
    files = [
        "--backbone",
        str(weights / "mini_i2v.safetensors"),
        "--vae",
        str(weights / "mini_vae.safetensors"),
        "--text-encoder",
        str(weights / "mini_clip.safetensors"),
        "--layers",
        "1,5",
        "--size",
        "64",
        "32",
        "--length",
        "9",
    ]
    command = [
        "video-prompt",
        "--pairs",
        str(tmp_path / "pairs"),
        "--steps",
        "20",
        "--batch",
        "2",
        "--rate",
        "1e-3",
        "--cache",
        str(tmp_path),
    ]
    with pytest.raises(ValueError, match="--pairs: also give --backbone, --vae, --text-encoder"):
        main([*command, "--out", str(tmp_path)])
    main([*command, *files, "--out", str(tmp_path / "mine")])
    path = tmp_path / "mine" / "vap_expert.safetensors"
    assert layers_of(load_expert(path)) == (1, 5)
    losses = [
        value for _, value in json.loads(metadata(tmp_path / "video-prompt-own.safetensors")["state"])["curves"]["loss"]
    ]
    assert len(losses) == 2 and json.loads(metadata(path)["training"])["steps"] == 20
    (tmp_path / "pairs" / "1" / "target.txt").unlink()
    with pytest.raises(ValueError, match=r"pairs.1: target\.txt missing"):
        main([*command, *files, "--out", str(tmp_path / "mine")])


def test_text_is_padded_with_zeros_and_strange_words_are_named(trained):
    clip = mini_clip.load(trained("mini-clip"))
    features = mini_clip.encode_text(clip, ["a small red circle moves left", ""])
    assert features.shape == (2, mini_clip.TEXT_TOKENS, 128)
    assert features[0, :8].abs().sum(-1).min() > 0 and not features[0, 8:].any()
    with pytest.raises(ValueError, match="banana"):
        mini_clip.encode_text(clip, ["a red banana"])


def test_resuming_goes_on_where_it_stopped(trained):
    trained("mini-t2v", "--resume", "--steps", "24")
    assert json.loads(metadata(trained("mini-t2v"))["training"])["steps"] == 24


def test_training_starts_from_six_blocks_and_names_what_it_cannot_start_from(trained, tmp_path):
    six = tmp_path / "six.safetensors"
    save_file(with_layers(load_file(trained("mini-t2v")), 6), six)
    grown = load_file(trained("mini-t2v", "--start", str(six), "--steps", "1"))
    first, added, second = (grown[f"blocks.{i}.ffn.0.weight"].float().flatten() for i in (0, 1, 3))
    assert "blocks.8.ffn.0.weight" in grown and torch.cosine_similarity(
        first, added, 0
    ) > 0.9 > torch.cosine_similarity(first, second, 0)
    with pytest.raises(
        ValueError,
        match=r"mini_i2v\.safetensors: 1 tensors .* 'patch_embedding.weight': .* found \(160, 36, .* Start from a "
        r"mini-t2v",
    ):
        trained("mini-t2v", "--start", str(trained("mini-i2v")))
    with pytest.raises(ValueError, match=r"mini_vae\.safetensors: .* made for another model .* Start from a mini-t2v"):
        trained("mini-t2v", "--start", str(trained("mini-vae")))
    copy(trained.cache / "mini-i2v.safetensors", trained.cache / "mini-t2v.safetensors")
    with pytest.raises(ValueError, match=r"mini-t2v\.safetensors: .* made for another model .* train without resume"):
        trained("mini-t2v", "--resume")
