"""What loaders refuse: everything that a file's header gives away, before anything is allocated, by file and tensor."""

import json
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from semantic_video.harness.toy import write_toy_adapter
from semantic_video.host.clip_loading import load_clip
from semantic_video.host.weights import CHUNK, Checkpoint, all_finite
from semantic_video.patches.ssg_adapter_file import load_adapter
from semantic_video.tests.host.clips import CONFIG, hugging_face

WHOLE = "adapter.safetensors"


def with_metadata(path):
    return load_file(path), Checkpoint(path).metadata


def write(path, tensors, metadata=None):
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)
    return path


# ---- any file


@pytest.mark.parametrize("name", ["x-00000-of-00000", "x-00003-of-00002", "x-00000-of-00001"])
def test_part_numbers_that_cannot_be(tmp_path, name):
    path = write(tmp_path / f"{name}.safetensors", {"a": torch.ones(2)})
    with pytest.raises(ValueError, match=rf"{name}\.safetensors: its name says part \d of \d, which cannot be"):
        Checkpoint(path)


def test_folders_null_bytes_and_long_names(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(ValueError, match=r"folder\.safetensors: is a folder, not a file"):
        Checkpoint(tmp_path / "folder.safetensors")
    with pytest.raises(ValueError, match=r"a\\x00b\.safetensors': a file name cannot hold a null byte"):
        Checkpoint(tmp_path / "a\0b.safetensors")
    with pytest.raises(ValueError, match=r"aaa\.safetensors: (no such file|cannot be read)"):
        Checkpoint(tmp_path / f"{'a' * 300}.safetensors")


def test_the_header_tells_shapes_and_dtypes_and_reads_nothing(tmp_path, monkeypatch):
    tensors = {"a": torch.ones(2, 3, dtype=torch.bfloat16), "b": torch.tensor(1.0).to(torch.float8_e5m2)}
    file = Checkpoint(write(tmp_path / WHOLE, tensors | {"n": torch.tensor([1]), "e": torch.ones(0, 10**12)}))
    header = file.header({"a": "x", "b": "y"})
    assert {name: (tuple(t.shape), t.dtype, t.is_meta) for name, t in header.items()} == {
        "x": ((2, 3), torch.bfloat16, True),
        "y": ((), torch.float8_e5m2, True),
    }
    with pytest.raises(
        ValueError, match=r"adapter\.safetensors: tensor 'n' is of I64, expected floating-point numbers"
    ):
        file.header({"n": "n"})
    with pytest.raises(ValueError, match=r"adapter\.safetensors: tensor 'e' is empty, of shape \(0, 1000000000000\)"):
        file.header({"e": "e"})


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_nan_and_infinity_are_found_wherever_they_are(dtype):
    tensor = torch.zeros(2 * CHUNK + 3).to(dtype)
    tensor[5] = torch.finfo(dtype).max
    assert all_finite(tensor)
    assert all_finite(torch.full((300,), torch.finfo(dtype).max, dtype=torch.float64).to(dtype)), (
        "a sum that overflows is no infinity"
    )
    infinities = () if dtype == torch.float8_e4m3fn else (float("inf"), -float("inf"))  # it has none
    for bad in (float("nan"), *infinities):
        for place in (0, CHUNK - 1, CHUNK, 2 * CHUNK + 2):
            broken = tensor.clone()
            broken[place] = bad
            assert not all_finite(broken), (bad, place)
    assert all_finite(torch.tensor([2**40]))


def test_looking_for_nan_makes_no_second_copy():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
            out = function(*arguments, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and not out._is_view():
                self.numbers = max(self.numbers, out.numel())
            return out

    with torch.inference_mode(False), Largest() as seen:
        tensor = torch.zeros(4 * CHUNK, dtype=torch.float16)
        seen.numbers = 0
        assert all_finite(tensor)
    assert 0 < seen.numbers <= CHUNK


# ---- SSG Adapter


@pytest.fixture
def adapter(tmp_path):
    return with_metadata(write_toy_adapter(tmp_path / WHOLE))


def refused(tmp_path, tensors, metadata, message, load=load_adapter):
    path = write(tmp_path / "bad.safetensors", tensors, metadata)
    start = time.monotonic()
    with pytest.raises(ValueError, match=rf"^bad\.safetensors: {message}"):
        load(path)
    assert time.monotonic() - start < 5


def test_every_missing_extra_or_reshaped_tensor_of_an_adapter_is_named(tmp_path, adapter):
    tensors, metadata = adapter
    for key, value in tensors.items():
        less = {k: v for k, v in tensors.items() if k != key}
        refused(tmp_path, less, metadata, rf"1 tensors do not fit, first '{key}': expected \(.*\), found none")
        refused(tmp_path, tensors | {key: value[None]}, metadata, rf"1 tensors do not fit, first '{key}'")
        refused(tmp_path, tensors | {key: value * float("nan")}, metadata, rf"tensor '{key}' holds NaN or infinite")
        refused(tmp_path, tensors | {key: value.int()}, metadata, rf"tensor '{key}' is of I32, expected floating-point")
    refused(tmp_path, tensors | {"more": torch.ones(2)}, metadata, r"1 tensors do not fit, first 'more': expected none")


def test_what_an_adapter_declares_costs_nothing(tmp_path, adapter, monkeypatch):
    """Blocks and sizes in the metadata are compared with the header before a module is built from them."""
    from semantic_video.patches import ssg_adapter_file

    tensors, metadata = adapter
    built = []
    monkeypatch.setattr(ssg_adapter_file, "load_weights", lambda *arguments: built.append(arguments))
    many = ",".join(map(str, range(1000)))
    refused(tmp_path, tensors, metadata | {"blocks": many}, "its tensors do not fit: .* 1000 blocks, its tensors of 2")
    refused(tmp_path, tensors, metadata | {"blocks": many + ",1000"}, "blocks .*1001 in all.* must be from 0 to 999")
    refused(tmp_path, tensors, metadata | {"blocks": "0,1"}, "its tensors do not fit: .* which differ in block '1'")
    refused(tmp_path, tensors, metadata | {"width": "60000", "rank": "1000000"}, "10 tensors do not fit")
    refused(tmp_path, tensors, metadata | {"rank": "100000000"}, "rank 100000000: must be from 1 to 1048576")
    refused(tmp_path, {f"branches.{10**9}.gate": torch.ones(1)}, metadata, "its tensors do not fit")
    assert not built


# ---- CLIP

VOCABULARY = ["<pad>", "red", "ball", "a", "<start>", "<end>"]
CONFIG_HF = {
    "vision_config": {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 5, "hidden_act": "gelu"},
    "text_config": {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "hidden_act": "gelu"},
}


@pytest.fixture(scope="module")
def small_clip(open_clip_weights):
    """(weights, metadata) of a CLIP that knows few words: a small file."""
    text = CONFIG["text_cfg"] | {"vocab_size": len(VOCABULARY)}
    metadata = {"open_clip": json.dumps(CONFIG | {"text_cfg": text}), "vocabulary": json.dumps(VOCABULARY)}
    return open_clip_weights[1] | {"token_embedding.weight": torch.ones(len(VOCABULARY), 64)}, metadata


def test_every_missing_or_reshaped_tensor_of_a_clip_is_refused(tmp_path, small_clip, monkeypatch):
    from semantic_video.host import clip_loading

    built = []
    monkeypatch.setattr(clip_loading, "load_weights", lambda *arguments: built.append(arguments))
    tensors, metadata = small_clip
    for form in (tensors, hugging_face(tensors)):
        keys = [key for key in form if not key.endswith(("logit_scale", "position_ids"))]
        for key in keys:
            less = {k: v for k, v in form.items() if k != key}
            refused(tmp_path, less, metadata, "", load_clip)
        for key in keys[::7]:
            refused(tmp_path, form | {key: form[key][None]}, metadata, "", load_clip)
            refused(tmp_path, form | {key: form[key].int()}, metadata, f"tensor '{key}' is of I32", load_clip)
    assert not built


def test_nan_in_a_clip_is_refused(tmp_path, small_clip):
    tensors, metadata = small_clip
    for key in ("visual.proj", "ln_final.bias", "visual.transformer.resblocks.3.attn.in_proj_weight"):
        broken = tensors | {key: tensors[key].clone()}
        broken[key].flatten()[-1] = float("nan")
        refused(tmp_path, broken, metadata, f"tensor '{key}' holds NaN or infinite values", load_clip)


def test_layers_of_a_clip_are_counted_not_believed(tmp_path, small_clip):
    form = hugging_face(small_clip[0])
    more = {"text_model.encoder.layers.1000.layer_norm1.bias": torch.ones(64)}
    refused(tmp_path, form | more, None, "has 3 layers in its text tower, one of them number 1000; expected", load_clip)
    many = {f"vision_model.encoder.layers.{i}.x": torch.ones(1) for i in range(300)}
    refused(tmp_path, form | many, None, "has 300 layers in its vision tower, one of them number 256", load_clip)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_attention_heads": 0},
            "has a vision tower of 64 channels, which do not divide into the 0 heads of config",
        ),
        ({"num_attention_heads": -1}, "do not divide into the -1 heads of config.json"),
        ({"num_attention_heads": 5}, "do not divide into the 5 heads of config.json"),
        ({"num_attention_heads": True}, "do not divide into the True heads of config.json"),
        ({"num_attention_heads": "4"}, "do not divide into the 4 heads of config.json"),
        ({"num_attention_heads": [4]}, r"do not divide into the \[4\] heads of config.json"),
        ({"hidden_act": "swish"}, "has an activation that is not known, 'swish' in config.json; choose quick_gelu"),
        ({"hidden_act": ["gelu"]}, r"has an activation that is not known, '\['gelu'\]' in config.json"),
    ],
    ids=str,
)
def test_impossible_configs_name_the_file(tmp_path, small_clip, change, message):
    """Of a config that speaks of this very model: width and layers are its own."""
    config = CONFIG_HF | {"vision_config": CONFIG_HF["vision_config"] | change}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    form, vocabulary = hugging_face(small_clip[0]), {"vocabulary": small_clip[1]["vocabulary"]}
    refused(tmp_path, form, vocabulary, f".*{message}", load_clip)
    if "hidden_act" in change:
        assert load_clip(write(tmp_path / "chosen.safetensors", form, vocabulary), "gelu").blocks == 5


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe{}", b"[" * 100000, b"[]", b"null", b'"text"', b"{", b'{"vision_config": 3}', b" " * 2**21],
    ids=["not UTF-8", "nested", "list", "null", "text", "cut", "number", "long"],
)
def test_unreadable_configs_are_named_and_not_used(tmp_path, small_clip, caplog, content):
    (tmp_path / "config.json").write_bytes(content)
    vocabulary = {"vocabulary": small_clip[1]["vocabulary"]}
    path = write(tmp_path / "hf.safetensors", hugging_face(small_clip[0]), vocabulary)
    assert load_clip(path).vision.encoder.layers[0].self_attn.heads == 1, "64 channels a head, without a config"
    assert r"hf.safetensors: the config.json beside it cannot be read and is not used" in caplog.text


@pytest.mark.parametrize("width", [0, 65])
def test_configs_of_another_model_are_passed_over(tmp_path, small_clip, width):
    config = {"vision_cfg": {"width": width, "layers": 5, "head_width": 0}, "text_cfg": {"width": width, "layers": 2}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
    vocabulary = {"vocabulary": small_clip[1]["vocabulary"]}
    path = write(tmp_path / "hf.safetensors", hugging_face(small_clip[0]), vocabulary)
    assert load_clip(path).vision.encoder.layers[0].self_attn.heads == 1


def test_damaged_metadata_of_a_clip_names_the_file(tmp_path, small_clip):
    tensors, metadata = small_clip
    for text in ("{", "[" * 100000, "[]", '{"vision_cfg": {}}', '{"vision_cfg": 3}'):
        refused(tmp_path, tensors, {"open_clip": text}, 'its metadata "open_clip" is damaged', load_clip)
    zero = json.dumps(CONFIG | {"vision_cfg": CONFIG["vision_cfg"] | {"head_width": 0}})
    refused(tmp_path, tensors, {"open_clip": zero}, ".* the 0 heads of bad.safetensors's metadata", load_clip)
    for vocabulary in ("{", '"text"', "[1, 2, 3, 4, 5, 6]", "[" * 100000):
        message = 'its metadata "vocabulary" is no list of words'
        refused(tmp_path, tensors, metadata | {"vocabulary": vocabulary}, message, load_clip)
    message = 'its metadata "vocabulary" has 5 words, its text tower 6; expected as many'
    refused(tmp_path, tensors, metadata | {"vocabulary": json.dumps(VOCABULARY[1:])}, message, load_clip)
    assert load_clip(write(tmp_path / "small.safetensors", tensors, metadata)).parts("A red ball") == [[3, 1, 2]]
