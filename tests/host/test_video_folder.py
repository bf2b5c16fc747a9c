"""A folder of clips: what is read of it, what is kept, and what is said of clips that cannot be used."""

import os
from fractions import Fraction

import av
import comfy.sd
import comfy.utils
import numpy as np
import pytest
import torch
from PIL import Image

from semantic_video.harness.toy import write_toy_vae
from semantic_video.harness.toy_nodes import ToyCLIP, ToyCLIPVision
from semantic_video.host.vision import VisionTower
from semantic_video.training import plan_folder, video_folder
from semantic_video.training.plan import Plan
from semantic_video.training.ssg_adapter import train_on_videos
from semantic_video.training.video_encoding import Encoders, Shape
from semantic_video.training.video_files import at_rate, captioned_videos, read_start, read_video
from semantic_video.training.video_folder import VideoFolder

SHAPE = Shape(48, 32, 5, 0.0)


def write(path, frames=8, rate=8, caption="a red square"):
    """Frames that grow brighter one by one, left half twice as bright."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(rate), options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(frames):
            picture = np.full((64, 96, 3), 10 + 10 * i, dtype=np.uint8)
            picture[:, :48] *= 2
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for i, ending in enumerate((".mp4", ".mkv", ".mov")):
        write(folder / f"{i}{ending}", caption=f"a red square {i}")
    return folder


@pytest.fixture
def vae(tmp_path):
    return comfy.sd.VAE(comfy.utils.load_torch_file(str(write_toy_vae(tmp_path / "vae.safetensors"))))


def folder_of(clips, toys, vae, tmp_path, name="wan-t2v", shape=SHAPE):
    return VideoFolder(clips, shape, Encoders(vae, ToyCLIP(), ToyCLIPVision()), toys(name), tmp_path / "cache")


def test_frames_are_taken_cropped_and_resampled(clips):
    path = clips / "0.mp4"
    frames = read_start(path, 5, 32, 32)
    assert frames.shape == (5, 32, 32, 3) and frames.min() >= 0 and frames.max() <= 1
    levels = frames[:, 16, 28, 0] * 255
    torch.testing.assert_close(levels, torch.arange(5) * 10.0 + 10, atol=4, rtol=0)
    assert frames[0, 16, 4, 0] > frames[0, 16, 28, 0]
    half = read_start(path, 4, 32, 32, fps=4.0)[:, 16, 28, 0] * 255
    torch.testing.assert_close(half, torch.arange(4) * 20.0 + 10, atol=4, rtol=0)
    double = read_start(path, 5, 32, 32, fps=16.0)[:, 16, 28, 0] * 255
    torch.testing.assert_close(double, torch.tensor([10.0, 10, 20, 20, 30]), atol=4, rtol=0)


def test_a_frame_stands_until_the_next_one_and_the_last_as_long_as_the_file_says(tmp_path):
    path, pictures = tmp_path / "uneven.gif", [Image.new("RGB", (32, 32), (level,) * 3) for level in (10, 80, 150, 220)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[1000, 250, 60, 190])
    found = (read_start(path, 24, 32, 32, fps=16.0)[:, 16, 16, 0] * 255).round().tolist()
    assert found == [10] * 16 + [80] * 4 + [150] + [220] * 3
    assert (read_start(path, 2, 32, 32, fps=1.0)[:, 16, 16, 0] * 255).round().tolist() == [10, 80]
    with pytest.raises(ValueError, match="uneven.gif: has 24 frames at 16 fps, length asks for 25"):
        read_start(path, 25, 32, 32, fps=16.0)


def test_times_rounded_to_milliseconds_repeat_no_frame(tmp_path):
    write(tmp_path / "clip.mkv", frames=12, rate=24)
    levels = read_start(tmp_path / "clip.mkv", 12, 32, 32, fps=24.0)[:, 16, 28, 0] * 255
    torch.testing.assert_close(levels, torch.arange(12) * 10.0 + 10, atol=4, rtol=0)


def test_a_file_without_times_is_taken_frame_by_frame():
    untimed = [(None, None, picture) for picture in "abc"]
    assert list(at_rate(untimed, 16.0)) == ["a", "b", "c"]
    assert list(at_rate([*untimed[:1], (5.0, 0.125, "b"), *untimed[2:]], 16.0)) == ["a", "b", "b", "c"]


def test_whole_videos_and_evenly_taken_frames(clips, tmp_path):
    levels = read_video(clips / "0.mp4")[:, 32, 90, 0] * 255
    torch.testing.assert_close(levels, torch.arange(8) * 10.0 + 10, atol=4, rtol=0)
    even = read_video(clips / "0.mp4", 3)[:, 32, 90, 0] * 255
    torch.testing.assert_close(even, torch.tensor([10.0, 40, 80]), atol=4, rtol=0)
    pictures = [Image.new("RGB", (16, 8), (40 * i, 0, 255)) for i in range(3)]
    pictures[0].save(tmp_path / "x.webp", save_all=True, append_images=pictures[1:], lossless=True)
    found = read_video(tmp_path / "x.webp") * 255
    assert found.shape == (3, 8, 16, 3) and found[:, 0, 0, 0].tolist() == [0, 40, 80] and (found[..., 2] == 255).all()
    (tmp_path / "y.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="y.mp4: cannot be read as a video"):
        read_video(tmp_path / "y.mp4")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: [p.unlink() for p in list(f.iterdir())], "no videos in it. Put videos there"),
        (lambda f: (f / "1.txt").unlink(), r"1.mkv: no 1.txt beside it. Write what the video shows into"),
        (lambda f: (f / "1.txt").write_text(" \n"), "1.txt: is empty"),
        (lambda f: (f / "1.mkv").write_bytes(b"no video"), "1.mkv: cannot be read as a video"),
        (lambda f: (f / "1.mkv").write_bytes((f / "1.mkv").read_bytes()[:900]), "1.mkv: "),
        (
            lambda f: write(f / "1.mkv", frames=4),
            "1.mkv: has 4 frames, length asks for 5. Lower length, or remove the video",
        ),
    ],
)
def test_clips_that_cannot_be_used_are_named(clips, toys, vae, tmp_path, spoil, message):
    spoil(clips)
    with pytest.raises(ValueError, match=message):
        folder_of(clips, toys, vae, tmp_path).fill()


def test_a_missing_folder():
    with pytest.raises(ValueError, match="folder '/nowhere': no such folder"):
        captioned_videos("/nowhere")


def test_latents_that_are_not_finite(clips, toys, vae, tmp_path):
    next(vae.first_stage_model.parameters()).data.fill_(float("nan"))
    with pytest.raises(ValueError, match="0.mp4: its latents are NaN or infinite"):
        folder_of(clips, toys, vae, tmp_path).fill()


def test_a_vae_of_another_model(clips, toys, vae, tmp_path):
    for filled in (False, True):  # by another model, whose VAE it is
        with pytest.raises(ValueError, match=r"vae: gives latents of shape .* this model takes \[1, 48"):
            folder_of(clips, toys, vae, tmp_path, "wan-5b").fill()
        if not filled:
            folder_of(clips, toys, vae, tmp_path).fill()


class Convolutional(ToyCLIPVision):
    """It has no class token."""

    def encode_image(self, image, crop=True):
        output = super().encode_image(image)
        output["penultimate_hidden_states"] = output.penultimate_hidden_states[:, 1:]
        return output


@pytest.mark.parametrize(
    ("name", "vision", "message"),
    [
        ("wan-vace", ToyCLIPVision(), "model: VACE cannot be trained on"),
        ("wan-t2v", Convolutional(), "clip: 256 tokens per image are no class token and a square of patches"),
    ],
)
def test_what_no_adapter_can_be_made_for_is_refused_before_videos_are_encoded(
    clips, toys, vae, tmp_path, name, vision, message
):
    folder = VideoFolder(clips, SHAPE, Encoders(vae, ToyCLIP(), vision), toys(name), tmp_path / "cache")
    with pytest.raises(ValueError, match=message):
        train_on_videos(folder, tmp_path / "a.safetensors", Plan("a", tmp_path, steps=1), None, rank=4)
    assert not (tmp_path / "cache").exists()


def test_clips_are_encoded_once_and_again_where_anything_differs(clips, toys, vae, tmp_path):
    folder = folder_of(clips, toys, vae, tmp_path)
    folder.fill()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(made) == 4, "three clips and the empty text"
    again = folder_of(clips, toys, vae, tmp_path)
    again.fill()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == made
    os.rename(clips / "0.mp4", clips / "renamed.mp4")
    (clips / "renamed.txt").write_text("a blue square")
    folder_of(clips, toys, vae, tmp_path).fill()
    assert len(list((tmp_path / "cache").iterdir())) == 5
    folder_of(clips, toys, vae, tmp_path, shape=Shape(32, 32, 5, 0.0)).fill()
    assert len(list((tmp_path / "cache").iterdir())) == 9


@pytest.mark.parametrize("room", [video_folder, plan_folder])
def test_what_was_encoded_of_frames_chosen_otherwise_is_not_used(clips, toys, vae, tmp_path, monkeypatch, room):
    def path():
        if room is video_folder:
            folder = folder_of(clips, toys, vae, tmp_path)
        else:
            shape, tower = plan_folder.Shape(48, 32, 5, 8.0, 3.2), VisionTower("toy", 1, (), None, None)
            folder = plan_folder.PlanFolder(clips, shape, ToyCLIP(), tower, tmp_path)
        return folder.path_of(folder.videos[0])

    before = path()
    assert path() == before
    monkeypatch.setattr(room, "READ", 3)
    assert path() != before


@pytest.mark.parametrize("name", ["wan-t2v", "wan-i2v-clip", "hunyuan-t2v"])
def test_a_batch_is_what_the_model_takes(clips, toys, vae, tmp_path, name):
    from random import Random

    from semantic_video.host.frozen_model import in_training, load_frozen, own_copy
    from semantic_video.training.ssg_loss import losses
    from semantic_video.training.ssg_model import spec_for, with_adapter

    folder = folder_of(clips, toys, vae, tmp_path, name)
    folder.fill()
    learnt, kept = folder.split(0.3, 0)
    assert len(learnt) == 2 and len(kept) == 1 and folder.split(0.0, 0)[1] == []
    with in_training():
        model = own_copy(toys(name))
        load_frozen(model)
        from semantic_video.kernels.ssg_adapter import SSGAdapter, initialise

        adapter = SSGAdapter(spec_for(model, folder.blank_features(), 4, None, 16))
        initialise(adapter)
        batch = folder.draw(learnt, 3)(Random(0))
        assert batch.latents.shape == (3, 16, 2, 4, 6) and batch.features.shape == (3, 257, 1280)
        assert ("c_concat" in batch.conds[0]) == (name == "wan-i2v-clip") == ("clip_fea" in batch.conds[0])
        assert losses(with_adapter(model, adapter), folder.draw(learnt, 3), Random(0))["loss"].requires_grad


def test_shapes_that_cannot_be():
    with pytest.raises(ValueError, match="width 50: must be a multiple of 16"):
        Shape(50, 32, 5)


def test_lengths_that_the_vae_would_not_make(clips, toys, vae, tmp_path):
    with pytest.raises(ValueError, match=r"length 6: must be 4 n \+ 1, as this VAE makes videos. Try 5."):
        folder_of(clips, toys, vae, tmp_path, shape=Shape(48, 32, 6))
