"""A few steps of the mini compressor, Plan Adapter and planner on made-up data: the losses fall, the loaders read the
files and fit each other, resuming goes on; what is missing is named."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open

from semantic_video.cli.train_options import WEIGHTS, main
from semantic_video.host.weights import save_weights
from semantic_video.mini import long_clips
from semantic_video.mini import vae as mini_vae
from semantic_video.mini.long_clips import SHARD, merged, middles, path_of
from semantic_video.mini.plan_adapter import patches
from semantic_video.patches.plan_file import load_compressor
from semantic_video.patches.plan_weights import load_plan_adapter, load_planner

MINI = ("mini_vae", "mini_clip", "mini_t2v")
pytestmark = pytest.mark.skipif(
    not all((WEIGHTS / f"{name}.safetensors").exists() for name in MINI), reason="needs the shipped mini models"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of weights, folder of caches) after a few steps of both."""
    out, cache = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("cache")
    for name in MINI:
        shutil.copy(WEIGHTS / f"{name}.safetensors", out)
    vae = mini_vae.load(out / "mini_vae.safetensors")
    folder = cache / f"long-{long_clips.name_of(out / 'mini_clip.safetensors', vae)}-0"
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(SHARD, 16, 24, 8, 8, generator=generator).half()
    cover = torch.ones(SHARD, 1, 24, 8, 8, dtype=torch.uint8)
    save_weights({"latents": latents, "cover": cover}, path_of(folder, "latents", 0), {})
    features = torch.randn(SHARD, 12, 4, 4, 512, generator=generator).half()
    save_weights({"features": features}, path_of(folder, "features", 0), {})
    run("plan-adapter", out, cache, "--steps", "4", "--batch", "2")
    run("planner", out, cache, "--steps", "30", "--batch", "4")
    return out, cache


def run(name, out, cache, *more):
    main([name, "--scenes", "64", "--rate", "0.01", "--out", str(out), "--cache", str(cache), *more])


def facts_of(path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_the_files_fit_each_other_and_say_how_they_were_made(trained):
    out, _ = trained
    _, encoder = load_compressor(out / "mini_compressor.safetensors")
    adapter = load_plan_adapter(out / "mini_plan_adapter.safetensors").model.spec
    planner = load_planner(out / "mini_planner.safetensors").model.spec
    assert adapter.encoder == planner.encoder == encoder
    assert adapter.dims == planner.dims == 8 and (planner.rows, planner.columns) == (4, 4)
    for name, command, steps in (("plan_adapter", "plan-adapter", 4), ("planner", "planner", 30)):
        training = json.loads(facts_of(out / f"mini_{name}.safetensors")["training"])
        assert training["command"].startswith(f"python run.py train {command}") and training["steps"] == steps


def test_the_planner_s_loss_falls(trained):
    curve = json.loads(facts_of(trained[1] / "planner.safetensors")["state"])["curves"]["loss"]
    assert curve[-1][1] < curve[0][1]
    assert (trained[1] / "planner.png").stat().st_size > 1000


def test_the_compressor_learns_with_the_adapter(trained):
    curves = json.loads(facts_of(trained[1] / "plan-adapter.safetensors")["state"])["curves"]
    assert {"loss", "flow", "kl", "objects"} <= curves.keys()
    weights = load_compressor(trained[0] / "mini_compressor.safetensors")[0].model.state_dict()
    assert (weights["head.weight"][8:] != 0).any(), "logvar starts at one value for all features and moves on"


def test_resuming_goes_on_where_it_stopped(trained):
    run("planner", *trained, "--steps", "32", "--batch", "4", "--resume")
    assert json.loads(facts_of(trained[0] / "mini_planner.safetensors")["training"])["steps"] == 32


def test_the_semantic_encoder_makes_the_plans_that_were_trained_on(trained):
    from semantic_video.host.clip_loading import load_clip
    from semantic_video.host.vision import tower_of
    from semantic_video.kernels.semantic_plan import resize
    from semantic_video.mini.long_clips import FRAMES
    from semantic_video.mini.plan_scores import plans_from_truth
    from semantic_video.miniworld.render import render
    from semantic_video.miniworld.scene import sample_scenes
    from semantic_video.patches.semantic_plan import encode_video

    scenes = sample_scenes(1, 3, "train", (1,))
    with torch.inference_mode():
        tower, compressor = (
            tower_of(load_clip(trained[0] / "mini_clip.safetensors")),
            load_compressor(trained[0] / "mini_compressor.safetensors"),
        )
        plan = encode_video(tower, render(scenes, FRAMES).frames[0], 16.0, 12 * 16 / FRAMES, 0, compressor)
        expected = plans_from_truth(trained[0], scenes)[0]
    assert load_plan_adapter(trained[0] / "mini_plan_adapter.safetensors").model.spec.encoder == plan.encoder
    torch.testing.assert_close(resize(plan, 4, 4).tokens, expected, rtol=1e-2, atol=2e-2)


def test_merged_patches_come_apart_again():
    features = torch.randn(3, 64, 5)
    assert torch.equal(patches(merged(features, 8)), features.view(3, 8, 8, 5))
    assert merged(features, 8)[1, 2, 3, 5:10].tolist() == features[1, 4 * 8 + 7].tolist()  # row 4, column 7
    assert middles(93, 12)[:3] == [3, 11, 19] and middles(4, 4) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plan-adapter", "builds on mini_vae, mini_clip, mini_t2v; train it first: python run.py train mini-vae"),
        ("planner", "builds on mini_vae, mini_clip, mini_compressor; train it first: python run.py train mini-vae"),
    ],
)
def test_what_it_builds_on_is_named(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        run(name, tmp_path, tmp_path, "--steps", "1")
