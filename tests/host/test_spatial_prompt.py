"""Spatial prompting on real ComfyUI: one mask whatever file or object CLIP comes from, and whatever is put in."""

import json
from pathlib import Path

import comfy.clip_model
import comfy.clip_vision
import comfy.model_management
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.utils
import pytest
import torch
from safetensors.torch import load_file, save_file

from semantic_video.harness.toy import randomize
from semantic_video.host.clip_loading import clip_words, join_clip, load_clip
from semantic_video.kernels.clip_mask import class_terms, merge, text_map, zscore
from semantic_video.nodes.clip import CLIPFromHostNode, CLIPImageFeaturesNode, CLIPLoaderNode
from semantic_video.nodes.clip_mask import CLIPSpatialMaskNode
from semantic_video.nodes.visual_prompt import VisualPromptNode
from semantic_video.patches.clip_mask import SpatialMask, find
from semantic_video.tests.kernels.test_clip_mask import CASE, SETTINGS, SHAPES, drawn, golden, weight

MINI = Path(__file__).resolve().parent.parent.parent / "mini" / "weights" / "mini_clip.safetensors"
TEXT = {"context_length": 77, "width": 64, "heads": 4, "layers": 2, "vocab_size": 49408}
CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 48, "patch_size": 8, "width": 64, "layers": 5, "head_width": 16},
    "text_cfg": TEXT,
}


def frames(count=2, height=48, width=48, channels=3, seed=0):
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(seed))


def write(folder, weights, config=CONFIG, name="clip.safetensors"):
    save_file(
        {key: value.contiguous() for key, value in weights.items()},
        folder / name,
        {"open_clip": json.dumps(config)} if config else None,
    )
    return folder / name


@pytest.fixture(scope="session")
def open_clip_weights():
    open_clip = pytest.importorskip("open_clip")
    with torch.inference_mode(False):
        model = open_clip.CLIP(**CONFIG).eval()
    randomize(model)
    return model, {key: value for key, value in model.state_dict().items() if key != "attn_mask"}


@pytest.fixture
def open_clip_file(tmp_path, open_clip_weights):
    return write(tmp_path, open_clip_weights[1])


@pytest.fixture
def clip(open_clip_file):
    return load_clip(open_clip_file)


def hugging_face(weights):
    """The same weights under the names, and with the matrices, of transformers' CLIPModel."""
    weights = {key: value.clone() for key, value in weights.items()}
    converted = comfy.utils.clip_text_transformers_convert(
        comfy.clip_vision.convert_to_transformers(weights, "visual."), "", ""
    )
    return converted | {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(37)[None],
    }


def mask_of(clip, image=None, text="a red ball", **settings):
    return find(clip, frames() if image is None else image, text.splitlines(), SpatialMask(**settings))


# ---- it is the published mask, from every source


def test_golden_maps_and_masks(tmp_path, open_clip_weights):
    """The golden tower inside a whole open_clip file, through the loader and ComfyUI's own layers."""
    vision = {f"visual.{name}": weight(name, tuple(shape)) for name, shape in SHAPES.items()}
    text = {
        key: value
        for key, value in open_clip_weights[1].items()
        if not key.startswith("visual.") and key != "text_projection"
    }
    path = write(tmp_path, vision | text | {"text_projection": torch.randn(64, 32)}, CONFIG | {"embed_dim": 32})
    clip = load_clip(path)
    clip.load()
    image = drawn(f"{CASE}.image", (1, 3, 48, 48))
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (clip.mean, clip.deviation))
    evidence, patches, embedding = clip.look(image * deviation + mean, 3, 3, class_terms)
    t = drawn(f"{CASE}.text", (1, 32))
    raw = [text_map(features, t / t.norm()).unflatten(-1, (6, 6)) for features in (evidence, patches)]
    assert (embedding - torch.nn.functional.normalize(golden("embedding"), dim=-1)).abs().max() < 5e-5
    for name, got in zip(("cls", "token"), raw):
        assert (zscore(got[0]) - zscore(golden(name))).abs().max() < 1e-4
    for kernel, contrast in SETTINGS:
        assert (merge(*raw, contrast, kernel)[0] - golden(f"mask_k{kernel}_c{contrast}")).abs().max() < 1e-4


def test_embeddings_are_open_clip_s(clip, open_clip_weights):
    import open_clip

    model = open_clip_weights[0]
    words = "a red ball left of the blue box, slowly!"
    text = model.encode_text(open_clip.tokenize([words]), normalize=True)
    torch.testing.assert_close(clip.encode_text(words), text, rtol=1e-4, atol=1e-5)
    square = frames().movedim(-1, 1)
    normal = (square - torch.tensor(clip.mean).view(3, 1, 1)) / torch.tensor(clip.deviation).view(3, 1, 1)
    torch.testing.assert_close(
        clip.look(square, 3, 3, class_terms)[2], model.encode_image(normal, normalize=True), rtol=1e-4, atol=1e-5
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


def host_objects(weights, **vision):
    """CLIP_VISION and CLIP as ComfyUI's loaders make them, of these weights."""
    weights = hugging_face(weights)
    eye = comfy.clip_vision.ClipVisionModel(
        {
            "hidden_size": 64,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "intermediate_size": 256,
            "hidden_act": "gelu",
            "patch_size": 8,
            "image_size": 48,
            "projection_dim": 64,
            "model_type": "clip_vision_model",
            "num_channels": 3,
        }
        | vision
    )
    eye.model.float()
    eye.load_sd({key: value for key, value in weights.items() if key.startswith("vis")})
    sizes = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "hidden_act": "gelu",
        "max_position_embeddings": 77,
        "eos_token_id": 49407,
    }
    text = comfy.sd.load_text_encoder_state_dicts(
        [{key: value for key, value in weights.items() if key.startswith("text")}],
        model_options={
            "dtype": torch.float32,
            "clip_l_class": lambda **kwargs: comfy.sd1_clip.SDClipModel(textmodel_json_config=sizes, **kwargs),
        },
    )
    return eye, text


# ---- features


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


def test_image_features_refuse_what_is_no_picture(clip, tmp_path, open_clip_weights):
    for image, message in (
        (frames()[:0], "image: shape"),
        (frames() / 0, "image: contains NaN"),
        (frames()[0], "image: shape"),
    ):
        with pytest.raises(ValueError, match=message):
            CLIPImageFeaturesNode.execute(clip, image)
    broken = open_clip_weights[1] | {"visual.ln_post.bias": torch.full((64,), float("inf"))}
    with pytest.raises(ValueError, match="its image embedding is NaN or infinite"):
        CLIPImageFeaturesNode.execute(load_clip(write(tmp_path, broken)), frames())


# ---- settings


@pytest.mark.parametrize(
    "node", [CLIPLoaderNode, CLIPFromHostNode, CLIPSpatialMaskNode, VisualPromptNode, CLIPImageFeaturesNode]
)
def test_every_widget_says_what_it_does(node):
    schema = node.GET_SCHEMA()
    assert schema.node_id.startswith("SemVid")
    assert schema.description
    assert all(thing.tooltip for thing in [*schema.inputs, *schema.outputs])
    assert (Path(__file__).resolve().parent.parent.parent / "web" / "docs" / f"{schema.node_id}.md").exists()


def test_every_line_has_a_mask_and_the_union_covers_all(clip):
    masks, scores = mask_of(clip, text="a red ball\na blue box\na tree", image=frames(3, 40, 64))
    assert masks.shape == (3, 3, 40, 64)
    assert scores.shape == (3, 3)
    alone, _ = mask_of(clip, text="a blue box", image=frames(3, 40, 64))
    torch.testing.assert_close(masks[1:2], alone)
    out = CLIPSpatialMaskNode.execute(clip, frames(3, 40, 64), "a red ball\n\n  a blue box \na tree").args
    torch.testing.assert_close(out[0], masks.amax(0))
    assert [o.shape for o in out[:2]] == [(3, 40, 64), (3, 40, 64, 3)]
    assert [m.shape for m in out[2]] == [(3, 40, 64)] * 3
    assert len(out[3]) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"class_block": 0},
        {"patch_block": -1},
        {"contrast": 10.0},
        {"kernel": 5},
        {"fusion": "product"},
        {"fit": "letterbox"},
        {"fit": "center crop"},
        {"smoothing": 2.0},
    ],
    ids=str,
)
def test_every_setting_acts(clip, settings):
    image = frames(4, 32, 64)
    changed, plain = mask_of(clip, image, **settings)[0], mask_of(clip, image)[0]
    assert changed.shape == plain.shape
    assert torch.isfinite(changed).all()
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not torch.allclose(changed, plain, atol=1e-3)


def test_frames_do_not_see_each_other(clip, monkeypatch):
    from semantic_video.patches import clip_mask as spatial_mask

    whole, _ = mask_of(clip, frames(5))
    monkeypatch.setattr(spatial_mask, "BATCH", 2)
    torch.testing.assert_close(mask_of(clip, frames(5))[0], whole)


def test_cost_is_one_forward(clip):
    """Counted in multiplications: at most 1.15 of the tower alone, even at toy width, where the extra is largest."""
    from torch.utils.flop_counter import FlopCounterMode

    square = frames(2).movedim(-1, 1)
    with FlopCounterMode(display=False) as alone:
        x = clip.vision(square)[2]
        clip.visual_projection(x)
    with FlopCounterMode(display=False) as open_:
        clip.look(square, 3, 3, class_terms)
    assert open_.get_total_flops() < 1.15 * alone.get_total_flops()


@pytest.mark.skipif(not MINI.exists(), reason="MiniWorld's CLIP is not there")
def test_the_mini_clip_finds_where_things_are():
    clip = load_clip(MINI)
    image = torch.ones(1, 64, 64, 3)
    image[:, 8:24, 8:24] = torch.tensor([1.0, 0.0, 0.0])
    image[:, 40:56, 40:56] = torch.tensor([0.0, 0.0, 1.0])
    maps = mask_of(clip, image, "a red square\na blue square", fusion="class map", class_block=-1, kernel=1)[0][:, 0]
    places = [(m[:32, :32].mean() - m[32:, 32:].mean()).item() for m in maps]
    assert places[0] > places[1], "red is further up and to the left than blue"
    with pytest.raises(ValueError, match="this CLIP does not know 'zebra'"):
        clip.encode_text("a zebra")


# ---- what people put in


def test_long_text_is_read_in_parts_and_not_cut(clip, caplog):
    words = " ".join(f"word{i} and a ball," for i in range(40))
    parts = clip.parts(words)
    assert len(parts) > 2
    assert all(len(part) <= 75 for part in parts)
    assert sum(parts, []) == clip_words()(words), "every token is read once, in order"
    assert f"is read in {len(parts)} parts" in caplog.text
    masks, scores = mask_of(clip, text=words)
    assert masks.shape[0] == scores.shape[0] == 1
    ending = mask_of(clip, text=words + " then a purple elephant")[0]
    assert not torch.equal(masks, ending), "the end of the text counts"
    assert len(clip.parts("x" * 400)) > 1, "even one endless word"


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 3), (1, 1, 700, 3), (2, 48, 48, 4), (1, 30, 20, 1), (1, 64, 7680, 3), (1, 7680, 1080, 3)],
    ids=str,
)
@pytest.mark.parametrize("fit", ["squash", "letterbox", "center crop"])
def test_any_picture(clip, shape, fit):
    mask, heat = CLIPSpatialMaskNode.execute(clip, torch.rand(shape), "a ball", fit=fit).args[:2]
    assert mask.shape == shape[:3]
    assert heat.shape == (*shape[:3], 3)
    assert torch.isfinite(mask).all()


def test_alpha_is_ignored_and_constant_pictures_work(clip):
    image = frames(channels=4)
    torch.testing.assert_close(
        CLIPSpatialMaskNode.execute(clip, image, "a ball").args[0],
        CLIPSpatialMaskNode.execute(clip, image[..., :3], "a ball").args[0],
    )
    assert torch.isfinite(CLIPSpatialMaskNode.execute(clip, torch.zeros(1, 48, 48, 3), "a ball").args[0]).all()


def test_bad_input_is_refused_by_name(clip):
    nan = frames()
    nan[0, 0, 0, 0] = float("nan")
    for settings, message in (
        (dict(text=" \n "), "text: is empty"),
        (dict(image=nan), "image: contains NaN"),
        (dict(image=frames()[:0]), "image: shape"),
        (dict(class_block=5), "class_block 5: this CLIP has 5 blocks. Use 0 to 4"),
        (dict(patch_block=-6), "patch_block -6"),
        (dict(filter=4), "filter 4: must be odd"),
    ):
        with pytest.raises(ValueError, match=message):
            CLIPSpatialMaskNode.execute(**({"clip": clip, "image": frames(), "text": "a ball"} | settings))


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
    for key, what in (("visual.transformer.resblocks.4.mlp.c_proj.bias", "image"), ("ln_final.bias", "text")):
        broken = weights | {key: torch.full_like(weights[key], float("inf"))}
        with pytest.raises(
            ValueError, match=f"its {what} embedding is NaN or infinite. Weights that overflowed in fp16"
        ):
            mask_of(load_clip(write(tmp_path, broken, name="broken.safetensors")))


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


# ---- Visual Prompt

STYLES = ("darken", "grey", "blur", "outline", "crop")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("channels", [3, 4])
def test_visual_prompt_on_batches(style, channels):
    image, mask = frames(3, 24, 40, channels), torch.zeros(3, 24, 40)
    mask[:, 8:16, 10:30] = 1
    out = VisualPromptNode.execute(image, mask, style).args[0]
    assert out.shape[0] == 3
    assert out.shape[-1] == channels
    assert not torch.equal(out, image)
    if channels == 4 and style != "crop":
        assert torch.equal(out[..., 3], image[..., 3])
    assert VisualPromptNode.execute(image, mask, style, strength=0.0).args[0] is image
    one = VisualPromptNode.execute(image[:1], mask[:1], style).args[0]
    torch.testing.assert_close(out[:1], one)
    torch.testing.assert_close(VisualPromptNode.execute(image, mask[:1], style).args[0], out)


def test_visual_prompt_takes_masks_of_other_sizes_and_any_picture():
    assert VisualPromptNode.execute(frames(2, 24, 40), torch.rand(1, 6, 6), "grey").args[0].shape == (2, 24, 40, 3)
    for style in STYLES:
        for shape in ((1, 1, 1, 3), (1, 3, 7680, 3)):
            out = VisualPromptNode.execute(torch.rand(shape), torch.ones(shape[:3]), style).args[0]
            assert torch.isfinite(out).all()


def test_visual_prompt_refuses_by_name():
    good = {"image": frames(3), "mask": torch.rand(3, 48, 48), "style": "grey"}
    for change, message in (
        (dict(mask=torch.rand(2, 48, 48)), "mask: 2 masks for 3 frames"),
        (dict(mask=torch.full((1, 4, 4), float("nan"))), "mask: contains NaN"),
        (dict(colour="reddish"), "colour 'reddish': not a colour"),
        (dict(image=frames(3) / 0), "image: contains NaN"),
        (dict(style="crop", mask=torch.zeros(1, 48, 48)), "mask: nothing lies above threshold 0.5 .highest 0.00."),
    ):
        with pytest.raises(ValueError, match=message):
            VisualPromptNode.execute(**(good | change))
