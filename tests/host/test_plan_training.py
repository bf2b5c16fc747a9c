"""Training a compressor, a Plan Adapter and a planner: what is trained is what is sampled; only they learn; a folder of
videos becomes files that fit each other."""

from random import Random

import folder_paths
import pytest
import torch
from safetensors.torch import load_file, save_file

from semantic_video.harness.sampling import Shot, conditioning, sample, seeded
from semantic_video.harness.toy import STRAIGHT, TOYS, randomize
from semantic_video.harness.toy_nodes import ToyCLIP
from semantic_video.harness.toy_plans import ENCODER, toy_plan, write_toy_plan_adapter
from semantic_video.host.families import family_of
from semantic_video.host.frozen_model import (
    cat_conds,
    checkpointed,
    copying_norms,
    denoised,
    in_training,
    load_frozen,
    model_conds,
    own_copy,
)
from semantic_video.host.vision import VisionTower
from semantic_video.kernels.compressor import Compressor, CompressorSpec, initialise
from semantic_video.kernels.plan_adapter import PlanAdapter
from semantic_video.kernels.plan_spec import PlannerSpec
from semantic_video.kernels.planner import Planner, euler, sigmas_of
from semantic_video.nodes.plan_train import PlanAdapterTrainNode
from semantic_video.patches.plan_adapter import PlanGuide, apply
from semantic_video.patches.plan_file import load_compressor
from semantic_video.patches.plan_weights import load_plan_adapter
from semantic_video.patches.swin_renderer import SwinRenderer
from semantic_video.patches.swin_renderer import apply as swin
from semantic_video.tests.host.test_video_folder import clips, vae  # noqa: F401  fixtures
from semantic_video.training.plan import Plan
from semantic_video.training.plan_adapter import PLANS, Batch, Settings, losses, pooled, spec_for, with_adapter
from semantic_video.training.plan_folder import PlanFolder, Shape
from semantic_video.training.plan_videos import AdapterShape, PlannerShape, compressor_of, few, train_adapter_on_videos
from semantic_video.training.planner import Batch as PlannerBatch
from semantic_video.training.planner import losses as planner_losses
from semantic_video.training.planner import train_planner

PLAN = toy_plan()


def batch_of(model, shot, count=2):
    x0 = seeded(count, TOYS[shot.toy].channels, shot.frames, shot.height, shot.width, seed=40)
    conds = []
    for i in range(count):
        ((text, extra),) = conditioning(shot, shot.words, 50 + i)
        conds.append(model_conds(model, x0[:1], text, extra))
    return Batch(x0, conds, conds[-1:] * count, seeded(count, 4, 2, 3, 10, seed=41))


@pytest.mark.parametrize("name", STRAIGHT)
def test_a_training_forward_is_what_plan_adapter_apply_gives_in_the_sampler(toys, tmp_path, name):
    """In windows. One euler step from pure noise ends at what the model predicts there."""
    shot, model = Shot(name, frames=9, cfg=1.0, steps=1), swin(toys(name), SwinRenderer(window=4))
    path = write_toy_plan_adapter(tmp_path / "adapter.safetensors", name)
    adapter = load_plan_adapter(path)
    expected = sample(apply(model, adapter, PlanGuide(PLAN)), shot)
    assert not torch.allclose(expected, sample(model, shot), atol=1e-2)
    with in_training():
        mine = own_copy(model)
        load_frozen(mine)
        module = PlanAdapter(adapter.model.spec)
        module.load_state_dict(load_file(path))
        ((text, extra),) = conditioning(shot, shot.words, 20)
        sampling = mine.get_model_object("model_sampling")
        noise, sigma = seeded(1, *expected.shape[1:], seed=shot.seed), sampling.sigma_max.view(1)
        x = sampling.noise_scaling(sigma, noise, torch.zeros_like(noise))
        conds = cat_conds([model_conds(mine, noise, text, extra)], x.device)
        found = denoised(with_adapter(mine, module), x, sigma, conds, {PLANS: PLAN.tokens[None].clone()})
        assert found.requires_grad
    torch.testing.assert_close(mine.model.process_latent_out(found.detach()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", STRAIGHT)
def test_gradients_reach_adapter_and_compressor_alone_with_blocks_run_twice_or_once(toys, name):
    with in_training():
        model = own_copy(toys(name))
        load_frozen(model)
        module = PlanAdapter(spec_for(model, 3, ENCODER, rank=4, token_width=10, seen=2))
        randomize(module)
        compressor = Compressor(CompressorSpec(10, "t", 3, 8, 1))
        initialise(compressor)
        shot, found = Shot(name, frames=5), []
        blocks = family_of(model).block_modules(model.model.diffusion_model)
        for twice in ([], blocks):
            with copying_norms(blocks), checkpointed(twice):
                draw = lambda rng: batch_of(model, shot)  # noqa: E731
                patched = with_adapter(model, module)
                values = losses(patched, compressor, draw, Random(0), Settings(dtype=None), dropout=False)
                values["loss"].backward()
            parts = {**dict(module.named_parameters()), **dict(compressor.named_parameters())}
            found.append({key: value.grad.clone() for key, value in parts.items()})
            module.zero_grad()
            compressor.zero_grad()
        for key, value in found[0].items():
            torch.testing.assert_close(found[1][key], value, rtol=1e-4, atol=1e-6)
            assert value.abs().sum() > 0, key
        assert all(parameter.grad is None for parameter in model.model.parameters())
        torch.testing.assert_close(values["loss"], values["flow"] + 3e-4 * values["kl"])


def test_plans_are_pooled_by_means():
    plans = seeded(2, 3, 4, 6, 5)
    small = pooled(plans, (2, 3))
    assert small.shape == (2, 3, 2, 3, 5)
    torch.testing.assert_close(small[1, 2, 1, 2], plans[1, 2, 2:4, 4:6].mean((0, 1)))


def test_a_planner_learns_which_plan_a_text_asks_for(tmp_path):
    plans = torch.stack([torch.full((2, 1, 1, 2), 3.0), torch.full((2, 1, 1, 2), -1.0)])
    text = seeded(2, 3, 8, seed=1)
    spec = PlannerSpec(2, "e", 8, width=16, heads=1, blocks=1, ffn=16, rows=1, columns=1, fps=1.0)
    made, plan = {}, Plan("toy", tmp_path, steps=200, batch=8, rate=2e-2, warmup=5, ema=0.9)

    def draw(rng):
        picks = [rng.randrange(2) for _ in range(8)]
        return PlannerBatch(plans[picks], text[picks], torch.zeros(1, 3, 8))

    with torch.inference_mode(False):
        weights, state = train_planner(spec, plans, draw, plan, lambda weights, state: made.update(weights))
        planner = Planner(spec)
        planner.load_state_dict(weights)
        assert made.keys() == weights.keys() and state.step == 200
        with torch.no_grad():
            z = euler(
                lambda z, s: planner(z, torch.full((2,), s), text), seeded(2, 2, 1, 1, 2, seed=2), sigmas_of(20, 3.0)
            )
            torch.testing.assert_close(planner.real(z), plans, atol=0.5, rtol=0)


def tower(width=6) -> VisionTower:
    """Means of frames over a grid of 4 x 4, and what is missing to `width`, zeros."""

    def encode(frames, longest):
        small = torch.nn.functional.adaptive_avg_pool2d(frames.movedim(-1, 1), 4).movedim(1, -1)
        return torch.cat([small, small.new_zeros(*small.shape[:-1], width - 3)], -1)

    return VisionTower("toy tower", 1, (), encode, lambda *size: 4)


def test_a_folder_of_videos_is_encoded_once(clips, vae, toys, tmp_path):  # noqa: F811
    shape = Shape(48, 32, 5, 8.0, 3.2)
    folder = PlanFolder(clips, shape, ToyCLIP(), tower(), tmp_path / "cache", vae, model=toys("wan-t2v"))
    folder.fill()
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(files) == 4  # three and the empty text
    folder.fill()
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    entry = folder.entry(folder.videos[0])
    assert entry["features"].shape == (2, 4, 4, 6)  # 5 frames at 8 a second, 3.2 token frames a second
    with in_training():
        model = own_copy(toys("wan-t2v"))
        drawn = folder.for_adapter(model, 2)(Random(0))
    assert drawn.latents.shape == (2, 16, 2, 4, 6) and drawn.features.shape == (2, 2, 4, 4, 6)
    batch = folder.for_planner(2, "cpu")(Random(0))
    assert batch.plans.shape == (2, 2, 4, 4, 6) and batch.text.shape[1] == batch.silent.shape[1]
    with pytest.raises(ValueError, match="length 6: must be 4 n"):
        Shape(48, 32, 6, 8.0, 3.2)
    with pytest.raises(ValueError, match="width 40: must be a multiple of 16"):
        Shape(40, 32, 5, 8.0, 3.2)


@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_a_planner_learns_from_texts_without_their_padding(clips, tmp_path, dropout):  # noqa: F811
    """As it reads them when it draws."""
    for i, caption in enumerate(("square", "red square", "a red square")):
        (clips / f"{i}.txt").write_text(caption)
    folder = PlanFolder(clips, Shape(48, 32, 5, 8.0, 3.2), ToyCLIP(), tower(), tmp_path / "cache")
    folder.fill()
    empty = load_file(folder.path_of(None))  # zeros, as padding
    save_file(empty | {"text.cross_attn": torch.ones_like(empty["text.cross_attn"])}, folder.path_of(None))
    spec = PlannerSpec(6, "e", folder.text_width, width=16, heads=1, blocks=1, ffn=16, rows=4, columns=4, fps=3.2)
    module, asked = Planner(spec), []
    randomize(module)

    class Watched(torch.nn.Module):
        normal, spec = module.normal, module.spec

        def forward(self, z, s, text, sees):
            asked.append((z, s, module(z, s, text, sees)))
            return asked[-1][-1]

    with torch.no_grad():
        planner_losses(Watched(), folder.for_planner(3, "cpu"), Random(0), dropout=dropout)
        [(z, s, got)] = asked
        drawn = folder.drawn(Random(0), 3) if dropout == 0 else [folder.entry(None)] * 3
        assert len({len(entry["text.cross_attn"][0]) for entry in drawn}) == (3 if dropout == 0 else 1)
        for i, entry in enumerate(drawn):
            alone = module(z[i : i + 1], s[i : i + 1], entry["text.cross_attn"].float())
            torch.testing.assert_close(got[i : i + 1], alone, rtol=1e-4, atol=1e-5)
        low = planner_losses(module, folder.for_planner(3, "cpu"), Random(0), torch.bfloat16, dropout)["loss"]
        high = planner_losses(module, folder.for_planner(3, "cpu"), Random(0), None, dropout)["loss"]
        torch.testing.assert_close(low, high, rtol=0.05, atol=0)


def test_a_compressor_is_normalised_by_how_much_features_vary(clips, vae, toys, tmp_path):  # noqa: F811
    assert few(torch.arange(8)).tolist() == [0, 4] and few(torch.arange(5)).tolist() == [0, 3]
    model, target = toys("wan-t2v"), tmp_path / "mine.safetensors"
    folder = PlanFolder(clips, Shape(48, 32, 5, 8.0, 3.2), ToyCLIP(), tower(), tmp_path / "cache", vae, model=model)
    plan, shape = Plan("mine", tmp_path, steps=1, batch=1), AdapterShape(3, 4, 2, (0,))
    train_adapter_on_videos(folder, model, target, plan, lambda *_: {}, shape, 0.0)
    compressor = load_compressor(compressor_of(target))[0].model
    features = torch.stack([folder.entry(video)["features"] for video in folder.videos]).flatten(0, -2)[:, :3]
    torch.testing.assert_close(compressor.feature_mean[:3].float(), features.mean(0), rtol=1e-2, atol=0)
    torch.testing.assert_close(compressor.feature_std[:3].float(), features.std(0, correction=0), rtol=1e-2, atol=0)


def test_a_vae_of_another_model_is_refused_however_much_is_encoded(clips, vae, toys, tmp_path):  # noqa: F811
    def folder(name):
        shape = Shape(48, 32, 5, 8.0, 3.2)
        return PlanFolder(clips, shape, ToyCLIP(), tower(), tmp_path / "cache", vae, model=toys(name))

    folder("wan-t2v").fill()
    with pytest.raises(ValueError, match=r"vae: gives latents of shape \(1, 16, .* this model takes \[1, 48, frames"):
        folder("wan-5b").fill()


@pytest.mark.parametrize("heads", [6, 7, 12, 512, 0])
def test_heads_that_a_planner_cannot_have_are_refused_before_it_has_videos(heads):
    with pytest.raises(ValueError, match=f"channels 512: must divide into {heads} heads of an even number"):
        PlannerShape(512, heads)
    assert PlannerShape(512, 256).heads == 256


def test_the_node_trains_both_and_their_files_fit(clips, vae, toys, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda kind: [str(tmp_path / "patches")])
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path / "out"))

    def run(steps, resume=False):
        size, small = (48, 32, 5, 8.0, 3.2), {"dims": 3, "rank": 4, "seen": 2, "blocks": "0,2", "rows": 2, "columns": 2}
        parts = (toys("wan-t2v"), vae, ToyCLIP(), tower(), str(clips), "mine", *size)
        return PlanAdapterTrainNode.execute(*parts, steps, 2, 1e-2, 0, resume, **small).args

    adapter, picture = run(3)
    _, encoder = load_compressor(tmp_path / "patches" / "mine_compressor.safetensors")
    spec = adapter.model.spec
    assert (spec.encoder, spec.blocks, spec.dims, spec.seen) == (encoder, (0, 2), 3, 2)
    assert picture.shape[0] == 1 and picture.shape[-1] == 3
    with pytest.raises(ValueError, match="mine.safetensors exists already"):
        run(3)
    again, _ = run(5, resume=True)
    assert not torch.equal(again.model.projector[0].weight, adapter.model.projector[0].weight)
    (tmp_path / "patches" / "mine.safetensors").unlink()
    with pytest.raises(ValueError, match="filename 'mine': mine_compressor.safetensors exists already"):
        run(3)
    next((tmp_path / "out").rglob("mine.safetensors")).unlink()
    with pytest.raises(ValueError, match="resume: there is no checkpoint .* write over mine_compressor.safetensors"):
        run(5, resume=True)
