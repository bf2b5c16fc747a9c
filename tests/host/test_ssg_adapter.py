"""The SSG Adapter on real models: it is the formula, and what it leaves alone."""

import pytest
import torch
from safetensors.torch import save_file

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT, write_toy_adapter
from semantic_video.host.weights import Checkpoint
from semantic_video.kernels import rope
from semantic_video.kernels import ssg_adapter as kernel
from semantic_video.kernels.ssg_adapter import SSGAdapter, initialise
from semantic_video.kernels.ssg_spec import Spec
from semantic_video.patches import ssg_adapter
from semantic_video.patches.ssg_adapter import apply
from semantic_video.patches.ssg_adapter_file import load_adapter
from semantic_video.patches.ssg_guide import Guide
from semantic_video.tests.host.ssg_reference import BLOCKS, IMAGE, NEAR, SMALL, reference


def fresh(name, tmp_path, **changes):
    """An adapter as training starts with it."""
    path = write_toy_adapter(tmp_path / "spec.safetensors", name, **SMALL | {"blocks": BLOCKS[name]} | changes)
    spec = Spec.read(Checkpoint(path).metadata)
    adapter = SSGAdapter(spec)
    initialise(adapter)
    save_file(adapter.state_dict(), tmp_path / "fresh.safetensors", spec.metadata)
    return load_adapter(tmp_path / "fresh.safetensors")


@pytest.mark.parametrize("spatial", ["rope", "none"])
@pytest.mark.parametrize("name", STRAIGHT)
def test_it_is_the_formula(toys, adapters, name, spatial):
    model, shot, adapter = toys(name), Shot(name, steps=1), adapters(name, spatial=spatial)
    got = sample(apply(model, adapter, Guide(IMAGE, strength=0.7)), shot)
    torch.testing.assert_close(got, reference(name, model, adapter, shot), **NEAR)
    assert not torch.allclose(got, sample(model, shot), rtol=1e-2, atol=1e-2), (
        "the branch must matter for this test to mean anything"
    )


def louder(real, *args):
    return 1.1 * real(*args)


MUTATIONS = {
    "no places": (kernel, "apply_rope", lambda real, x, turn: x),
    "places off": (rope, "patch_centres", lambda real, n, extent: 1.3 * real(n, extent)),
    "gate off": (SSGAdapter, "branch", louder),
    "class token dropped": (SSGAdapter, "tokens", lambda real, self, x: real(self, x.roll(1, 1))),
    "keys not normed": (kernel.Branch, "forward", lambda real, *args: (lambda k, v: (1.2 * k, v))(*real(*args))),
    "other tokens": (ssg_adapter, "branch_attention", lambda real, m, b, q, *args: real(m, b, q.roll(1, 1), *args)),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mistakes_are_caught(toys, adapters, mutation, monkeypatch):
    name = "wan-t2v"
    model, shot, adapter = toys(name), Shot(name, steps=1), adapters(name)
    expected = reference(name, model, adapter, shot)
    owner, attribute, mutant = MUTATIONS[mutation]
    real = getattr(owner, attribute)
    monkeypatch.setattr(owner, attribute, lambda *args: mutant(real, *args))
    assert not torch.allclose(sample(apply(model, adapter, Guide(IMAGE, strength=0.7)), shot), expected, **NEAR)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", STRAIGHT)
def test_a_new_adapter_is_the_frozen_model_bit_for_bit(toys, tmp_path, name, dtype):
    model, shot = toys(name, dtype=dtype), Shot(name)
    assert torch.equal(
        sample(model, shot), sample(apply(model, fresh(name, tmp_path), Guide(IMAGE, strength=2.0)), shot)
    )


@pytest.mark.parametrize("name", STRAIGHT)
def test_strength_zero_is_the_model_and_the_parent_stays(toys, adapters, name):
    model, shot, adapter = toys(name), Shot(name), adapters(name)
    before = sample(model, shot)
    assert apply(model, adapter, Guide(IMAGE, strength=0.0)) is model
    half, full = (sample(apply(model, adapter, Guide(IMAGE, strength=s)), shot) for s in (0.5, 1.0))
    assert 0 < (half - before).norm() < (full - before).norm()
    assert torch.equal(before, sample(model, shot))
    assert not model.get_additional_models_with_key("ssg_adapter")


@pytest.mark.parametrize(
    "name", ["wan-5b", "wan-vace", "wan-camera", "wan-reference", "wan-phantom", "wan-in-context", "hunyuan-i2v"]
)
def test_every_variant_whose_width_fits(toys, adapters, name, monkeypatch):
    model, shot, adapter, looks = toys(name), Shot(name, steps=1, negative_words=9), adapters(name), []
    plain, real = sample(model, shot), ssg_adapter.branch_attention
    monkeypatch.setattr(
        ssg_adapter,
        "branch_attention",
        lambda module, block, q, *rest: looks.append((block, q.shape[1])) or real(module, block, q, *rest),
    )
    result = sample(apply(model, adapter, Guide(IMAGE)), shot)
    assert torch.isfinite(result).all()
    assert not torch.equal(plain, result)
    assert looks == [(0, 36), (2, 36)] * 2, "video queries only, once per block; not VACE's own blocks"
