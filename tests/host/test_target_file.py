"""Names of files that nodes write: refused before any work starts where they could not be written at its end."""

import folder_paths
import pytest
import torch

from semantic_video.harness.toy import write_toy_expert
from semantic_video.host.target_file import target_file
from semantic_video.host.weights import save_weights
from semantic_video.nodes.common import clip_features, model_file, new_model_patch
from semantic_video.nodes.video_prompt import VAPSaveExpertNode


def test_names_that_can_be_written_are(tmp_path):
    for name in ("expert", "video_as_prompt_wan2.1_expert", "mine/expert", "a b", "x" * 234, "\u00e9" * 117, "console"):
        target = target_file(tmp_path, name)
        assert target == tmp_path / f"{name}.safetensors"
        save_weights({"a": torch.ones(2)}, target, {})
        assert target.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "has an empty part"),
        (" ", "has an empty part"),
        (".", "has an empty part, or one of dots"),
        ("..", "has an empty part, or one of dots"),
        ("a/../../b", "one of dots and spaces only"),
        ("/etc/passwd", "has an empty part"),
        ("a//b", "has an empty part"),
        ("a/", "has an empty part"),
        ("a\\b", "holds '\\\\\\\\', which file names cannot hold"),
        ("a\0b", r"holds '\\x00'"),
        ("a\nb", r"holds '\\n'"),
        ("C:expert", "holds ':'"),
        ("what?", r"holds '\?'"),
        ("a|b", r"holds '\|'"),
        ("CON", "'CON' is a name that Windows reserves"),
        ("nul.v2", "'nul.v2' is a name that Windows reserves"),
        ("mine/Com1", "'Com1' is a name that Windows reserves"),
        ("lpt9", "reserves"),
        ("expert.", "ends with a dot"),
        ("expert ", "begins or ends with a space"),
        (" expert", "begins or ends with a space"),
        ("mine /expert", "begins or ends with a space"),
        ("\ud800", "holds characters that cannot be written"),
        ("x" * 235, "235 bytes long; there is room for 234. Choose a shorter name"),
        ("\u00e9" * 118, "236 bytes long; there is room for 234"),
        ("/".join(["x" * 200] * 30), "bytes long; there is room for 4000"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_names_that_cannot_be_written_are_refused(tmp_path, name, message):
    with pytest.raises(ValueError, match=f"(?s)^filename .*{message}"):
        target_file(tmp_path, name)


def test_a_link_that_leads_out_is_refused(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "out").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="filename 'out/a': leads out of models"):
        target_file(tmp_path / "models", "out/a")


def test_nodes_ask_before_they_work(tmp_path, monkeypatch):
    from semantic_video.nodes import video_prompt

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "model_patches", ([str(tmp_path)], {".safetensors"}))
    write_toy_expert(tmp_path / "expert.safetensors")
    worked = []
    monkeypatch.setattr(video_prompt, "extract_expert", lambda *arguments: worked.append(arguments))
    for name, message in (
        ("x" * 250, "bytes long"),
        ("nul", "reserves"),
        ("expert", "expert.safetensors exists already"),
    ):
        with pytest.raises(ValueError, match=f"filename '{name[:40]}.*{message}"):
            VAPSaveExpertNode.execute("expert.safetensors", name)
    assert not worked
    VAPSaveExpertNode.execute("expert.safetensors", "own")
    assert worked == [(tmp_path / "expert.safetensors", tmp_path / "own.safetensors")]
    assert new_model_patch("expert", may_exist=True) == tmp_path / "expert.safetensors"
    with pytest.raises(ValueError, match="a file name cannot hold a null byte"):
        model_file("model_patches", "expert.safetensors\0")


def test_features_that_are_missing_are_named():
    output = type("Output", (), {"penultimate_hidden_states": None})()
    with pytest.raises(ValueError, match="clip_vision_output: holds no penultimate_hidden_states"):
        clip_features(output)
    output.penultimate_hidden_states = torch.ones(1, 2, 3)
    assert clip_features(output) is output.penultimate_hidden_states
