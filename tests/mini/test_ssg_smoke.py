"""A few steps of the mini SSG Adapter beside the shipped mini models: the loss falls, the loader reads the file,
resuming goes on; bad words are named."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from semantic_video.cli.train_options import WEIGHTS, main
from semantic_video.kernels.ssg_spec import Spec
from semantic_video.mini.prompted import name_of, path_of, prompted_features
from semantic_video.miniworld.scene import sample_scenes
from semantic_video.patches.ssg_adapter_file import load_adapter

MINI = ("mini_vae", "mini_clip", "mini_t2v")
SHIPPED = WEIGHTS / "mini_ssg_adapter.safetensors"
pytestmark = pytest.mark.skipif(
    not all((WEIGHTS / f"{name}.safetensors").exists() for name in MINI), reason="needs the shipped mini models"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of weights, folder of caches) after 20 steps."""
    out, cache = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("cache")
    for name in MINI:
        shutil.copy(WEIGHTS / f"{name}.safetensors", out)
    run(out, cache, "--steps", "20")
    return out, cache


def run(out, cache, *more):
    main(
        [
            "ssg-adapter",
            "--batch",
            "8",
            "--scenes",
            "64",
            "--held-out",
            "1",
            "--rate",
            "0.01",
            "--out",
            str(out),
            "--cache",
            str(cache),
            *more,
        ]
    )


def facts_of(path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_the_loss_falls_and_the_file_says_how_it_was_made(trained):
    out, cache = trained
    facts = facts_of(out / "mini_ssg_adapter.safetensors")
    training = json.loads(facts["training"])
    assert (
        training["command"].startswith("python run.py train ssg-adapter")
        and training["steps"] == 20
        and training["seed"] == 0
    )
    assert {"relation with", "relation without", "object with", "motion with"} <= training["held_out"].keys()
    losses = [
        value for _, value in json.loads(facts_of(cache / "ssg-adapter.safetensors")["state"])["curves"]["objects"]
    ]
    assert losses[-1] < losses[0]
    assert (cache / "ssg-adapter.png").stat().st_size > 1000
    assert (cache / "ssg-adapter-samples.png").exists()
    assert load_adapter(out / "mini_ssg_adapter.safetensors").model.spec == Spec.read(facts)


def test_resuming_goes_on_where_it_stopped(trained):
    run(*trained, "--steps", "22", "--resume")
    assert json.loads(facts_of(trained[0] / "mini_ssg_adapter.safetensors")["training"])["steps"] == 22


def test_prompted_images_are_encoded_once_and_do_not_depend_on_their_neighbours(trained):
    from semantic_video.host.clip_loading import load_clip
    from semantic_video.mini.latents import scene_number

    out, cache = trained
    [folder] = cache.glob("latents-*")
    kept = load_file(path_of(folder, name_of(out / "mini_clip.safetensors"), 0))["features"]
    assert kept.shape == (64, 65, 128) and kept.dtype == torch.float16
    with torch.inference_mode():
        clip = load_clip(out / "mini_clip.safetensors")
        torch.testing.assert_close(
            prompted_features(clip, [scene_number(0, 5)])[0], kept[5].float(), rtol=1e-2, atol=1e-2
        )
        assert not torch.allclose(*prompted_features(clip, sample_scenes(2, 1)), atol=0.1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ssg-adapter", "--rank", "96"], "--rank 96: .* parameters, more than a twentieth of the model's"),
        (["ssg-adapter", "--blocks", "0,9"], "blocks: '9' is out of range: this model has blocks 0 to 8"),
        (["ssg-adapter", "--blocks", "x"], "blocks: 'x' is not a block or a range of blocks"),
        (["mini-t2v", "--rank", "8"], "--rank: is for ssg-adapter, not for mini-t2v"),
    ],
)
def test_words_that_do_not_fit(trained, words, message):
    out, cache = trained
    with pytest.raises(ValueError, match=message):
        main([*words, "--steps", "1", "--scenes", "64", "--out", str(out), "--cache", str(cache)])


def test_what_it_builds_on_is_named(tmp_path):
    with pytest.raises(
        ValueError, match="builds on mini_vae, mini_clip, mini_t2v; train it first: python run.py train mini-vae"
    ):
        main(["ssg-adapter", "--steps", "1", "--out", str(tmp_path), "--cache", str(tmp_path)])


@pytest.mark.skipif(not SHIPPED.exists(), reason="not shipped yet")
def test_the_shipped_adapter_is_small():
    weights, backbone = load_file(SHIPPED), load_file(WEIGHTS / "mini_t2v.safetensors")
    assert sum(x.numel() for x in weights.values()) <= 0.05 * sum(x.numel() for x in backbone.values())
    assert SHIPPED.stat().st_size <= 200_000
