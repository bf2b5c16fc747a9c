"""An SSG Adapter from one's own clips on the command line: what it writes, how it goes on, and what is said of flags
that do not fit."""

import json
from pathlib import Path

import comfy.model_management
import comfy.sd
import pytest
import torch
from safetensors import safe_open

from semantic_video.cli import own_files, train_options
from semantic_video.cli.media import write_video
from semantic_video.cli.train_options import main
from semantic_video.harness.sampling import Shot, sample, seeded
from semantic_video.harness.toy import write_toy, write_toy_vae
from semantic_video.harness.toy_nodes import ToyCLIP
from semantic_video.patches.ssg_adapter import apply
from semantic_video.patches.ssg_adapter_file import load_adapter
from semantic_video.patches.ssg_guide import Guide

WEIGHTS = Path(__file__).resolve().parent.parent.parent / "mini" / "weights"
WORDS = {
    "size": ["48", "32"],
    "length": ["5"],
    "fps": ["0"],
    "rank": ["4"],
    "token-width": ["16"],
    "steps": ["6"],
    "batch": ["2"],
}


@pytest.fixture
def flags(tmp_path, monkeypatch):
    """Flags of a run beside the toy Wan, as {flag: words}; its text encoder, whose real ones are large, is a
    stand-in."""
    asked = []
    monkeypatch.setattr(
        comfy.sd, "load_clip", lambda ckpt_paths, clip_type: asked.append((ckpt_paths, clip_type)) or ToyCLIP()
    )
    (tmp_path / "clips").mkdir()
    for i, caption in enumerate(("a red square", "a blue circle", "a large green cross")):
        frames = torch.full((6, 32, 48, 3), 0.1)
        frames[:, 8:24, 8 * i + 4 : 8 * i + 20, i] = 0.9
        write_video(tmp_path / "clips" / f"{i}.mp4", frames)
        (tmp_path / "clips" / f"{i}.txt").write_text(caption)
    vae = text_encoder = write_toy_vae(tmp_path / "vae.safetensors")
    flags = {
        "clips": [tmp_path / "clips"],
        "backbone": [write_toy("wan-t2v", tmp_path / "toy_wan.safetensors")],
        "vae": [vae],
        "text-encoder": [text_encoder],
        "clip": [WEIGHTS / "mini_clip.safetensors"],
        "out": [tmp_path / "mine"],
        "cache": [tmp_path / "cache"],
    } | WORDS
    yield flags
    assert not comfy.model_management.in_training and torch.is_inference_mode_enabled()
    assert all(of == ([str(text_encoder)], comfy.sd.CLIPType.WAN) for of in asked)


def run(flags, **changes):
    """A change of None leaves the flag out."""
    flags = flags | {name.replace("_", "-"): words for name, words in changes.items()}
    return main(
        [
            "ssg-adapter",
            *(str(word) for name, words in flags.items() if words is not None for word in (f"--{name}", *words)),
        ]
    )


def facts_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["training"])


def test_it_writes_an_adapter_that_the_model_follows_and_goes_on_from_there(flags, toys, capsys):
    run(flags, blocks=["1-2"])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])["ssg-adapter"]
    path = flags["out"][0] / "ssg_adapter.safetensors"
    adapter, facts = load_adapter(path), facts_of(path)
    assert adapter.model.spec.blocks == (1, 2) and adapter.model.spec.rank == 4 and adapter.model.spec.clip_width == 128
    assert facts["backbone"] == "toy_wan.safetensors" and facts["steps"] == 6 and facts["clips"] == said["clips"] == 3
    assert facts["size"] == [48, 32, 5] and facts["command"].startswith("python run.py train ssg-adapter --clips")
    assert "/" not in facts["command"] and "\\" not in facts["command"]  # files are shared, folders are their owner's
    assert len(list((flags["cache"][0] / "clips").iterdir())) == 4, "three clips and the empty text"
    with torch.inference_mode():
        model = toys("wan-t2v")
        plain = sample(model, Shot("wan-t2v"))
        assert not torch.equal(sample(apply(model, adapter, Guide(seeded(1, 65, 128))), Shot("wan-t2v")), plain)
    with pytest.raises(
        ValueError,
        match=r"--out .*mine: holds ssg_adapter.safetensors already. Name another folder, delete the file, or give "
        r"--resume",
    ):
        run(flags, blocks=["1-2"])
    run(flags, blocks=["1-2"], steps=["9"], resume=[])
    assert facts_of(path)["steps"] == 9
    next(flags["cache"][0].glob("*.safetensors")).unlink()
    with pytest.raises(ValueError, match="resume: there is no checkpoint .*would write over ssg_adapter.safetensors"):
        run(flags, blocks=["1-2"], steps=["4"], resume=[])
    assert facts_of(path)["steps"] == 9


def test_validation_is_on_as_many_clips_as_asked(flags, monkeypatch):
    from semantic_video.training.video_folder import VideoFolder

    drawn, draw = [], VideoFolder.draw
    monkeypatch.setattr(
        VideoFolder, "draw", lambda self, clips, count: drawn.append(len(clips)) or draw(self, clips, count)
    )
    run(flags, held_out=["2"], steps=["50"], batch=["1"])
    facts = facts_of(flags["out"][0] / "ssg_adapter.safetensors")
    assert sorted(drawn) == [1, 2] and facts["held_out"]["validation"] > 0 and facts["steps"] == 50
    with pytest.raises(
        ValueError, match=r"--held-out 3: .*clips has 3 videos, and one at least must be learnt from. Give 0 to 2"
    ):
        run(flags, held_out=["3"])


@pytest.mark.skipif(not (WEIGHTS / "mini_t2v.safetensors").exists(), reason="needs the shipped mini models")
def test_the_mini_clip_will_do_as_a_text_encoder(flags):
    run(
        flags,
        backbone=[WEIGHTS / "mini_t2v.safetensors"],
        vae=[WEIGHTS / "mini_vae.safetensors"],
        text_encoder=flags["clip"],
        steps=["2"],
    )
    assert facts_of(flags["out"][0] / "ssg_adapter.safetensors")["backbone"] == "mini_t2v.safetensors"


def test_an_image_branch_needs_its_clip_vision(flags, tmp_path):
    with pytest.raises(ValueError, match="--clip-vision: missing. This backbone has a CLIP image branch"):
        run(flags, backbone=[write_toy("wan-i2v-clip", tmp_path / "i2v.safetensors")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vae": None, "text_encoder": None}, "--clips: also give --vae, --text-encoder"),
        ({"clip": None}, "--clips: also give --clip"),
        ({"out": None}, "--clips: also give --out, the folder for your adapter"),
        (
            {"clips": None},
            "--backbone: is for videos of your own; also give --pairs .video-prompt. or --clips .ssg-adapter, plan",
        ),
        ({"clips": ["/nowhere"]}, "--clips: folder '/nowhere': no such folder. Give the full path"),
        ({"vae": ["/nowhere.safetensors"]}, r"--vae /nowhere.safetensors: no such file. Correct its path"),
        ({"pairs": ["/nowhere"]}, "--pairs: is for video-prompt, not for ssg-adapter"),
        ({"size": ["50", "32"]}, "--size, --length: width 50: must be a multiple of 16"),
        ({"blocks": ["0-9"]}, "blocks: '0-9' is out of range: this model has blocks 0 to 3"),
    ],
)
def test_flags_that_do_not_fit(flags, tmp_path, monkeypatch, changes, message):
    for module in (train_options, own_files):
        monkeypatch.setattr(module, "WEIGHTS", tmp_path / "weights")
    with pytest.raises(ValueError, match=message):
        run(flags, **changes)
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("wan-t2v", "WAN"), ("wan-5b", "WAN"), ("hunyuan-t2v", "HUNYUAN_VIDEO"), ("hunyuan-1.5", "HUNYUAN_VIDEO_15")],
)
def test_the_text_encoder_is_loaded_as_the_backbone_s(toys, name, kind):
    from semantic_video.cli.own_adapter import kind_of

    assert kind_of(toys(name)) == comfy.sd.CLIPType[kind]


def test_a_folder_without_clips(flags, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="--clips: folder '.*empty': no videos in it. Put videos there"):
        run(flags, clips=[tmp_path / "empty"])


def test_other_models_take_no_clips():
    with pytest.raises(ValueError, match="--clips: is for ssg-adapter, plan-adapter, planner, not for video-prompt"):
        main(["video-prompt", "--clips", "x"])
