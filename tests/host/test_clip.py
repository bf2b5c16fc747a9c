"""CLIP from files and from ComfyUI's objects: the same features whatever it comes from."""

import json
from pathlib import Path

import comfy.clip_model
import comfy.clip_vision
import comfy.model_management
import pytest
import torch
from safetensors.torch import load_file

from semantic_video.harness.toy import randomize
from semantic_video.host.clip_from_host import join_clip
from semantic_video.host.clip_loading import load_clip
from semantic_video.kernels.clip_mask import class_terms
from semantic_video.nodes.clip import CLIPFromHostNode, CLIPImageFeaturesNode, CLIPLoaderNode
from semantic_video.nodes.clip_mask import CLIPSpatialMaskNode
from semantic_video.nodes.visual_prompt import VisualPromptNode
from semantic_video.tests.host.clips import CONFIG, frames, host_objects, hugging_face, mask_of, write


def test_embeddings_are_open_clip_s(clip, open_clip_weights):
    import open_clip

    model = open_clip_weights[0]
    words = "a red ball left of the blue box, slowly!"
    text = model.encode_text(open_clip.tokenize([words]), normalize=True)
    torch.testing.assert_close(clip.encode_text(words), text, rtol=1e-4, atol=1e-5)
    square = frames().movedim(-1, 1)
    normal = (square - torch.tensor(clip.mean).view(3, 1, 1)) / torch.tensor(clip.deviation).view(3, 1, 1)
    torch.testing.assert_close(
        clip.class_and_patch_features(square, 3, 3, class_terms)[2],
        model.encode_image(normal, normalize=True),
        rtol=1e-4,
        atol=1e-5,
    )


def test_hugging_face_gives_the_same_mask(clip, tmp_path, open_clip_weights):
    transformers = pytest.importorskip("transformers")
    path = write(tmp_path, hugging_face(open_clip_weights[1]), None, "hf.safetensors")
    towers = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256, "hidden_act": "gelu"}
    config = {
        "vision_config": towers | {"num_hidden_layers": 5, "image_size": 48, "patch_size": 8},
        "text_config": towers | {"num_hidden_layers": 2},
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    same = load_clip(path)
    assert torch.equal(mask_of(same)[0], mask_of(clip)[0])
    with torch.inference_mode(False):
        model = transformers.CLIPModel(transformers.CLIPConfig(**config, projection_dim=64)).eval()
        missing = set(model.state_dict()) ^ {key for key in load_file(path) if not key.endswith("position_ids")}
        assert not missing, "the names are those of transformers"


def test_host_objects_give_the_same_mask_without_a_copy(clip, open_clip_weights):
    joined = join_clip(*host_objects(open_clip_weights[1]))
    for got, expected in zip(
        mask_of(joined, class_block=1, text="a cat\na dog on a mat"),
        mask_of(clip, class_block=1, text="a cat\na dog on a mat"),
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert len(joined.patchers) == 2
    loaded = [entry.model.model for entry in comfy.model_management.current_loaded_models if entry.model is not None]
    assert all(any(patcher.model is model for model in loaded) for patcher in joined.patchers)

    assert torch.equal(
        mask_of(CLIPFromHostNode.execute(*host_objects(open_clip_weights[1])).args[0])[0], mask_of(joined)[0]
    )


def test_image_features_are_clip_vision_encode_s(clip, open_clip_weights):
    eye, _ = host_objects(open_clip_weights[1])
    image = (frames(3) * 255).round() / 255  # the host rounds
    own, host = CLIPImageFeaturesNode.execute(clip, image).args[0], eye.encode_image(image, crop=False)
    for name in ("penultimate_hidden_states", "last_hidden_state", "image_embeds"):
        torch.testing.assert_close(own[name], host[name], rtol=1e-4, atol=1e-4)
    assert own.penultimate_hidden_states.shape == (3, 37, 64)
    assert own.image_sizes == list(map(tuple, host.image_sizes))
    assert own.mm_projected is None


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (17, 30, 20, 4), (1, 30, 20, 1), (1, 7680, 1080, 3)], ids=str)
def test_image_features_of_any_picture(clip, shape):
    image = torch.rand(shape)
    features = CLIPImageFeaturesNode.execute(clip, image).args[0].penultimate_hidden_states
    assert features.shape == (shape[0], 37, 64)
    assert torch.isfinite(features).all()
    if shape[-1] == 4:
        torch.testing.assert_close(
            CLIPImageFeaturesNode.execute(clip, image[..., :3]).args[0].penultimate_hidden_states, features
        )
    sides = torch.cat([torch.zeros(1, 48, 24, 3), torch.ones(1, 48, 48, 3), torch.zeros(1, 48, 24, 3)], dim=2)
    assert not torch.allclose(
        CLIPImageFeaturesNode.execute(clip, sides).args[0].image_embeds,
        CLIPImageFeaturesNode.execute(clip, sides[:, :, 24:72]).args[0].image_embeds,
        atol=1e-2,
    ), "the sides are seen"


def test_image_features_refuse_what_is_no_picture(clip):
    for image, message in (
        (frames()[:0], "image: shape"),
        (frames() / 0, "image: contains NaN"),
        (frames()[0], "image: shape"),
    ):
        with pytest.raises(ValueError, match=message):
            CLIPImageFeaturesNode.execute(clip, image)
    clip.vision.post_layernorm.bias.fill_(float("inf"))
    with pytest.raises(ValueError, match="its image embedding is NaN or infinite"):
        CLIPImageFeaturesNode.execute(clip, frames())


def test_cost_is_one_forward(clip):
    """Counted in multiplications: at most 1.15 of the tower alone, even at toy width, where the extra is largest."""
    from torch.utils.flop_counter import FlopCounterMode

    square = frames(2).movedim(-1, 1)
    with FlopCounterMode(display=False) as alone:
        x = clip.vision(square)[2]
        clip.visual_projection(x)
    with FlopCounterMode(display=False) as open_:
        clip.class_and_patch_features(square, 3, 3, class_terms)
    assert open_.get_total_flops() < 1.15 * alone.get_total_flops()


@pytest.mark.parametrize(
    "node", [CLIPLoaderNode, CLIPFromHostNode, CLIPSpatialMaskNode, VisualPromptNode, CLIPImageFeaturesNode]
)
def test_every_widget_says_what_it_does(node):
    schema = node.GET_SCHEMA()
    assert schema.node_id.startswith("SemVid")
    assert schema.description
    assert all(thing.tooltip for thing in [*schema.inputs, *schema.outputs])
    assert (Path(__file__).resolve().parent.parent.parent / "web" / "docs" / f"{schema.node_id}.md").exists()


def test_overflow_in_fp16_is_named(tmp_path, open_clip_weights):
    weights = {key: value.half() for key, value in open_clip_weights[1].items()}
    half = load_clip(write(tmp_path, weights))
    assert half.visual_projection.weight.dtype == torch.float16, "as stored"
    torch.testing.assert_close(
        mask_of(half)[0],
        mask_of(load_clip(write(tmp_path, open_clip_weights[1], name="full.safetensors")))[0],
        atol=2e-2,
        rtol=0,
    )
    for key in ("visual.transformer.resblocks.4.mlp.c_proj.bias", "ln_final.bias"):
        broken = weights | {key: torch.full_like(weights[key], float("inf"))}
        with pytest.raises(ValueError, match=rf"broken\.safetensors: tensor '{key}' holds NaN or infinite values"):
            load_clip(write(tmp_path, broken, name="broken.safetensors"))
    half.text.final_layer_norm.bias.fill_(float("inf"))
    with pytest.raises(ValueError, match="its text embedding is NaN or infinite. Weights that overflowed in fp16"):
        mask_of(half)


def test_files_that_are_no_whole_clip_are_refused(tmp_path, open_clip_file, open_clip_weights, monkeypatch):
    weights = open_clip_weights[1]
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(open_clip_file.read_bytes()[:-1000])
    files = [(cut, r"cut\.safetensors: damaged or incomplete"), (tmp_path / "clip.pt", r"not a \.safetensors file")]
    vision, text = (
        {key: value for key, value in weights.items() if key.startswith("visual.") == seen} for seen in (True, False)
    )
    cases = {
        "vision": (vision, "its text tower, text projection are missing. Choose a file with both"),
        "text": (text, "its image tower, image projection"),
        "lora": ({"lora.up": torch.zeros(2)}, "not a whole CLIP of open_clip or Hugging Face"),
        "siglip": ({"visual.trunk.blocks.0.norm1.weight": torch.zeros(2)}, "a SigLIP or timm tower"),
        "headless": (
            {k: v for k, v in weights.items() if k != "visual.positional_embedding"},
            "position_embedding.weight' is missing",
        ),
        "extra": (
            weights | {"visual.attn_pool.query": torch.zeros(2)},
            r"extra\.safetensors: 1 tensors do not fit, first 'visual\.attn_pool\.query'",
        ),
        "wide": (weights | {"token_embedding.weight": torch.zeros(250002, 64)}, "its vocabulary has 250002 tokens"),
    }
    files += [
        (write(tmp_path, tensors, name=f"{name}.safetensors"), message) for name, (tensors, message) in cases.items()
    ]
    for path, message in files:
        with pytest.raises(ValueError, match=message):
            load_clip(path)
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "clip_vision", ([str(tmp_path)], {".safetensors"}))
    assert CLIPLoaderNode.execute("clip.safetensors").args[0].blocks == 5


def test_activations_are_recognised(tmp_path, open_clip_weights):
    weights = open_clip_weights[1]

    def activation(path, *choice):
        return load_clip(path, *choice).vision.encoder.layers[0].mlp.activation

    gelu, quick = comfy.clip_model.ACTIVATIONS["gelu"], comfy.clip_model.ACTIVATIONS["quick_gelu"]
    assert activation(write(tmp_path, weights)) is gelu
    assert activation(write(tmp_path, weights), "quick_gelu") is quick
    assert activation(write(tmp_path, weights, CONFIG | {"quick_gelu": True})) is quick
    bare = write(tmp_path, weights, None)
    assert activation(bare) is quick
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}), encoding="utf-8")
    assert activation(bare) is gelu
    (tmp_path / "open_clip_config.json").write_text("{", encoding="utf-8")
    assert activation(bare) is quick


def test_host_objects_that_are_no_pair_are_refused(open_clip_weights):
    eye, text = host_objects(open_clip_weights[1])
    siglip = comfy.clip_vision.ClipVisionModel(eye.config | {"model_type": "siglip_vision_model"})
    t5 = type("CLIP", (), {"cond_stage_model": torch.nn.Identity(), "patcher": None})()
    for pair, message in (
        ((siglip, text), "clip_vision: a siglip_vision_model has no class token"),
        ((eye, t5), "clip: Identity has no CLIP text tower"),
    ):
        with pytest.raises(ValueError, match=message):
            join_clip(*pair)
    other = comfy.clip_vision.ClipVisionModel(eye.config | {"projection_dim": 32})
    randomize(other.model)
    with pytest.raises(
        ValueError, match=r"clip: no text tower fits clip_vision, whose joint space has 32 dimensions \(clip_l 64\)"
    ):
        join_clip(other, text)
    text.cond_stage_model.clip_l.transformer.text_projection.weight.data = torch.eye(64)
    with pytest.raises(ValueError, match="clip: its file holds no projection"):
        join_clip(eye, text)
