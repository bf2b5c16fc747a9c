"""Video-As-Prompt's expert: loaded, offloaded, counted and trimmed, extracted, in shards; and what is refused."""

import pytest
import torch
from safetensors.torch import save_file

from semantic_video.kernels.video_prompt import IMAGE
from semantic_video.patches.video_prompt import VideoPrompt, apply
from semantic_video.patches.video_prompt_expert import extract_expert, layers_of, load_expert
from semantic_video.tests.host.vap_golden import FP32, conditioning, load_backbone, sample


def test_the_expert_is_loaded_counted_and_trimmed(backbone, expert):
    import comfy.model_management

    patched = apply(backbone, expert, VideoPrompt())
    sample(patched)
    assert any(
        loaded.model is not None and loaded.model.model is expert.model
        for loaded in comfy.model_management.current_loaded_models
    )
    assert expert.model_size() == sum(t.numel() * t.element_size() for t in expert.model.state_dict().values())
    assert not [key for key in expert.model.state_dict() if ".blocks.2.cross_attn" in key or ".head." in key]


def test_an_offloaded_run_keeps_to_its_budget_and_changes_nothing(checkpoint, monkeypatch):
    """The host loads both models for a third of their size, as on a card that is too small: the rest is cast in as it
    is used, with the same result."""
    import comfy.model_management

    model, expert = load_backbone(), load_expert(checkpoint, FP32)
    patched = apply(model, expert, VideoPrompt())
    whole = sample(patched, steps=1)
    comfy.model_management.unload_all_models()
    load, loaded = comfy.model_management.LoadedModel.model_load, []

    def on_a_small_card(self, lowvram_model_memory=0, force_patch_weights=False):
        result = load(self, self.model_memory() // 3, force_patch_weights)
        loaded.append((self.model.model, self.model_loaded_memory(), self.model_memory()))
        return result

    monkeypatch.setattr(comfy.model_management.LoadedModel, "model_load", on_a_small_card)
    try:
        part = sample(patched, steps=1)
    finally:
        comfy.model_management.unload_all_models()
    assert {id(module) for module, _, _ in loaded} >= {id(model.model), id(expert.model)}
    assert all(0 < held <= size / 3 for _, held, size in loaded), [(held, size) for _, held, size in loaded]
    assert torch.equal(part, whole)


def test_the_host_s_estimates_count_the_reference(backbone, expert, monkeypatch):
    """A reference as long as the clip doubles both the estimate for loading and the one for batching."""
    asked = []
    patched = apply(backbone, expert, VideoPrompt())
    required = type(backbone.model).memory_required

    def watch(self, shape, cond_shapes=None):
        asked.append(required(self, shape, cond_shapes=cond_shapes or {}))
        return asked[-1]

    monkeypatch.setattr(type(backbone.model), "memory_required", watch)
    sample(backbone, steps=1)
    alone, asked[:] = list(asked), []
    sample(patched, steps=1)
    assert len(asked) == len(alone)
    assert [round(b / a, 2) for a, b in zip(alone, asked)] == [2.0] * len(alone)


def test_an_extracted_expert_is_the_same_and_smaller(checkpoint, expert, tmp_path, backbone):
    extract_expert(checkpoint, tmp_path / "expert.safetensors")
    assert (tmp_path / "expert.safetensors").stat().st_size < 0.5 * checkpoint.stat().st_size
    assert [p.name for p in tmp_path.iterdir()] == ["expert.safetensors"], "no partial file stays"
    again = load_expert(tmp_path / "expert.safetensors", FP32)
    assert layers_of(again) == (0, 2, 4)
    same_expert(backbone, again, expert)


def same_expert(backbone, one, other):
    """Every weight bit for bit, and what follows from them: from other files they lie elsewhere in memory, and matrix
    products round with the place."""
    tensors = [expert.model.diffusion_model.state_dict() for expert in (one, other)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(value, tensors[1][key]) for key, value in tensors[0].items())
    results = [sample(apply(backbone, expert, VideoPrompt())) for expert in (one, other)]
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_a_sharded_checkpoint_reads_only_the_expert(checkpoint, tmp_path, backbone, expert):
    from safetensors.torch import load_file

    tensors = load_file(checkpoint)
    names = sorted(tensors)
    parts = [tmp_path / f"diffusion_pytorch_model-{i:05d}-of-00002.safetensors" for i in (1, 2)]
    save_file({k: tensors[k] for k in names[::2]}, parts[0])
    with pytest.raises(ValueError, match=r"1 of the checkpoint's 2 files are missing \(diffusion_pytorch_model-00002"):
        load_expert(parts[0])
    save_file({k: tensors[k] for k in names[1::2]}, parts[1])
    same_expert(backbone, load_expert(parts[1], FP32), expert)


def test_wrong_models_and_missing_parts_are_refused(backbone, expert, toys, tmp_path, checkpoint):
    for name, message in (
        ("hunyuan-t2v", "HunyuanVideo cannot carry this expert"),
        ("ltxv", "LTX cannot carry this expert"),
        ("wan-i2v-clip", "made for a Wan of width 256 with .* heads, this model has 48 with 2"),
    ):
        with pytest.raises(ValueError, match=message):
            apply(toys(name), expert, VideoPrompt())
    text_only = load_backbone(without=("_mot_ref", "image_embedder", "add_", "added"))
    with pytest.raises(ValueError, match="no CLIP image branch"):
        apply(text_only, expert, VideoPrompt())
    stepped = []
    patched = apply(backbone, expert, VideoPrompt())
    with pytest.raises(ValueError, match="no conditioning carries a reference video. Put a VAP Reference node"):
        sample(
            patched, conditioning(7, 20, reference=False), conditioning(7, 21, reference=False), callback=stepped.append
        )
    blind = conditioning(7, 20)
    del blind[0][1]["model_conds"][IMAGE]
    with pytest.raises(ValueError, match="clip_vision_output: missing on VAP Reference"):
        sample(patched, blind, blind, callback=stepped.append)
    assert not stepped
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cut\.safetensors: damaged or incomplete"):
        load_expert(cut)
    save_file({"lora.up": torch.zeros(2)}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=r"lora\.safetensors: holds no Video-As-Prompt expert"):
        load_expert(tmp_path / "lora.safetensors")
