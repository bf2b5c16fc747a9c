"""Video-As-Prompt on a small model: which steps, frames and blocks it acts on, with whose weights, and by how much."""

import comfy.samplers
import pytest
import torch
from comfy.ldm.wan.model import WanModel
from comfy.ops import disable_weight_init
from comfy_extras.nodes_video_model import ConditioningSetAreaPercentageVideo
from safetensors.torch import save_file

from semantic_video.harness.sampling import Shot, conditioning, seeded
from semantic_video.harness.toy import WAN, randomize
from semantic_video.host import wan_stream
from semantic_video.host.editing import edit_attention
from semantic_video.host.reference import carrying
from semantic_video.host.schedule import Interval
from semantic_video.host.wan_stream import WanStream
from semantic_video.kernels.video_prompt import LATENT, TEXT
from semantic_video.nodes.video_prompt import VAPApplyNode
from semantic_video.patches.video_prompt import VideoPrompt, apply
from semantic_video.patches.video_prompt_expert import load_expert
from semantic_video.tests.host.stacking import windows

REFERENCE = seeded(1, 36, 9, 4, 4, seed=40)


@pytest.fixture
def experts(tmp_path):
    """experts(**changes of the config) -> an expert without an image branch, for blocks 0 and 2 of a toy T2V."""

    def load(dtype=torch.float32, seed=1, **changes):
        config = WAN | {"in_dim": 36, "num_layers": 2} | changes
        module = WanModel(**config, device="cpu", dtype=torch.float32, operations=disable_weight_init)
        randomize(module, seed)
        weights = {key: value for key, value in module.state_dict().items() if not key.startswith("head.")}
        heads = config["num_heads"]
        transformer = f'{{"transformer": {{"num_heads": {heads}, "text_dim": {config["text_dim"]}}}}}'
        path = tmp_path / f"expert{seed}{heads}.safetensors"
        save_file({k: v.contiguous() for k, v in weights.items()}, path, {"layers": "0,2", "config": transformer})
        return load_expert(path, {"dtype": dtype})

    return load


def run(model, steps=1, toy="wan-t2v", areas=(), callback=None, reference=REFERENCE):
    def cond(seed):
        cond = conditioning(Shot(toy), 7, seed)
        cond = sum((ConditioningSetAreaPercentageVideo().append(cond, *area, 1.0)[0] for area in areas), []) or cond
        return carrying(cond, {LATENT: reference.clone()}, {TEXT: seeded(1, 6, 32, seed=41)})

    guider, noise = comfy.samplers.CFGGuider(model), seeded(1, 16, 9, 4, 4, seed=1)
    guider.set_conds(cond(20), cond(21))
    guider.set_cfg(3.0)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
    sampler = comfy.samplers.sampler_object("euler")
    return guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, seed=1, callback=callback)


@pytest.mark.parametrize("by_node", [False, True])
def test_start_and_end(toys, experts, by_node):
    model, starts = toys("wan-t2v"), []
    if by_node:
        [late] = VAPApplyNode.execute(model, experts(), "whole reference", 1.0, 0.5, 1.0).args
    else:
        late = apply(model, experts(), VideoPrompt(interval=Interval(0.5, 1.0)))
    for of in (model, late):
        run(of, 8, callback=lambda step, x0, x, total: starts.append(x.clone()))
    same = [torch.equal(a, b) for a, b in zip(starts[:8], starts[8:])]
    assert same == [True] * 5 + [False] * 3, "x is what a step starts from: the fifth step is the first to act"


def first_attention(model):
    seen = []

    def watch(call, proceed):
        seen.append(proceed(call))
        return seen[-1]

    run(edit_attention(model, "watch", watch, sites=("self",)))
    return seen[0]


def test_strength_goes_from_without_to_with(toys, experts):
    model, expert = toys("wan-t2v"), experts()
    without, some, full = (
        first_attention(apply(model, expert, VideoPrompt(strength))) for strength in (0.0, 0.25, 1.0)
    )
    torch.testing.assert_close(some, 0.75 * without + 0.25 * full, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(some, 0.25 * without + 0.75 * full, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("choice", ["in step", "whole reference"])
def test_the_reference_runs_in_step_with_windows_and_areas(toys, experts, choice, monkeypatch):
    """9 frames, a reference of 9: the frames of the reference that are told are those that the model sees."""
    start, seen = WanStream.__init__, []

    def watch(self, module, latent, text, image, position, *rest):
        seen.append((latent.clone(), position))
        start(self, module, latent, text, image, position, *rest)

    monkeypatch.setattr(wan_stream.WanStream, "__init__", watch)
    config = VideoPrompt(windows=choice)
    areas = [(1.0, 1.0, 4 / 9, 0.0, 0.0, 0.0), (1.0, 1.0, 4 / 9, 0.0, 0.0, 5 / 9)]
    for model, expected, where in (
        (windows(toys("wan-t2v")), [range(4), range(2, 7), range(4, 9)], ()),
        (toys("wan-t2v"), [range(4), range(5, 9)], areas),
    ):
        seen.clear()
        result = run(apply(model, experts(), config), areas=where)
        assert torch.isfinite(result).all()
        expected = expected if choice == "in step" else [range(9)]
        told = {next(tuple(f) for f in expected if torch.equal(x[:1], REFERENCE[:, :, list(f)])) for x, _ in seen}
        assert told == set(map(tuple, expected))
        assert all(position == -x.shape[2] for x, position in seen)


def test_odd_sizes_are_padded_and_rope_options_kept(toys, experts):
    """3 frames of 5 x 7 cells are 3 x 3 x 4 tokens; temporal scale 0.5 puts them at -1.5, -1.0, -0.5."""
    module, latent = experts().model.diffusion_model, seeded(1, 36, 3, 5, 7, seed=2)
    options = {"rope_options": {"scale_t": 0.5, "scale_y": 2.0, "shift_x": 1.0}}
    stream = WanStream(module, latent, seeded(1, 6, 32), None, -3, 1.0, options)
    padded = torch.nn.functional.pad(latent, (0, 1, 0, 1, 0, 0), mode="circular")
    tokens = module.patch_embedding(padded).flatten(2).transpose(1, 2)
    torch.testing.assert_close(stream.x, tokens)
    places = [(-1.5 + 0.5 * t, 2.0 * y, 1.0 + x) for t in range(3) for y in range(3) for x in range(4)]
    expected = module.rope_embedder(torch.tensor([places])).movedim(1, 2)
    torch.testing.assert_close(stream.freqs, expected)


def test_experts_of_other_heads_are_refused(toys, experts):
    with pytest.raises(ValueError, match="of width 48 with 4 heads, this model has 48 with 2"):
        apply(toys("wan-t2v"), experts(num_heads=4), VideoPrompt())


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_the_expert_computes_as_the_model_does(toys, experts, stored, monkeypatch):
    real, dtypes = WanStream.keys_values, set()

    def watch(self, block):
        k, v = real(self, block)
        dtypes.update((k.dtype, v.dtype, self.x.dtype))
        return k, v

    monkeypatch.setattr(WanStream, "keys_values", watch)
    full = run(apply(toys("wan-t2v"), experts(), VideoPrompt()))
    dtypes.clear()
    model = toys("wan-t2v", dtype=torch.bfloat16)
    model.set_model_compute_dtype(torch.bfloat16)  # on a CPU the host would choose fp32
    half = run(apply(model, experts(stored), VideoPrompt()))
    assert dtypes == {torch.bfloat16}
    assert (half - full).norm() < 0.1 * full.norm()


def test_side_blocks_of_vace_see_no_reference(toys, experts, monkeypatch):
    real, order = WanStream.keys_values, []
    expert = experts()
    blocks = list(expert.model.diffusion_model.blocks)

    def watch(self, block):
        order.append(blocks.index(block))
        return real(self, block)

    monkeypatch.setattr(WanStream, "keys_values", watch)
    run(apply(toys("wan-vace"), expert, VideoPrompt()), toy="wan-vace")
    assert order in ([0, 1], [0, 1] * 2), "once per block and call"


def test_a_copy_for_another_device_runs_its_own_expert(toys, experts):
    expert = experts()
    patched = apply(toys("wan-t2v"), expert, VideoPrompt())
    expected = run(patched)
    deep = patched.deepclone_multigpu(new_load_device=torch.device("cpu"))
    for parameter in expert.model.diffusion_model.parameters():
        parameter.zero_()
    assert torch.equal(run(deep), expected)
    assert not torch.allclose(run(patched), expected, rtol=1e-2, atol=1e-2)


def test_applied_twice_the_reference_is_counted_once(toys, experts, monkeypatch):
    model, asked = toys("wan-t2v"), []
    kind = type(model.model)
    required = kind.memory_required

    def watch(self, shape, cond_shapes=None):
        asked.append(required(self, shape, cond_shapes=cond_shapes or {}))
        return asked[-1]

    monkeypatch.setattr(kind, "memory_required", watch)
    first, second = experts(seed=1), experts(seed=2)
    once = apply(model, first, VideoPrompt())
    run(once)
    alone, asked[:] = list(asked), []
    twice = apply(once, second, VideoPrompt())
    result = run(twice)
    assert asked == alone
    assert torch.equal(result, run(apply(model, second, VideoPrompt())))
    assert [patcher.model for patcher in twice.get_additional_models()] == [first.model, second.model]
