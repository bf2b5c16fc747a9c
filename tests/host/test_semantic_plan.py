"""A video becomes a plan: through the nodes, against the same steps done by hand."""

import re
from fractions import Fraction
from types import SimpleNamespace

import comfy.model_management
import folder_paths
import pytest
import torch

from semantic_video.harness.toy import randomize
from semantic_video.host.vision import BATCH, VisionTower, tower_of
from semantic_video.kernels.compressor import Compressor, CompressorSpec
from semantic_video.kernels.plan_colours import colours_of, paint_plan
from semantic_video.kernels.semantic_plan import SemanticPlan
from semantic_video.nodes.semantic_plan import PlanPreviewNode, SemanticEncoderNode
from semantic_video.patches import semantic_plan as patch
from semantic_video.patches.plan_file import compressed_encoder, save_compressor
from semantic_video.patches.semantic_plan import described, encode_video
from semantic_video.tests.host.clips import frames, host_objects


def mean_tower(each=2, batch=3):
    """A tower whose features are the mean colour of each quarter of what it sees; remembers how much it saw."""
    seen = []

    def encode(video, longest):
        seen.append((len(video), longest))
        small = torch.nn.functional.adaptive_avg_pool2d(video.movedim(-1, 1), 2).movedim(1, -1)
        return small.unflatten(0, (-1, each)).mean(1)

    return VisionTower("means", each, (), encode, lambda height, width, longest: batch), seen


@pytest.fixture
def compressor(tmp_path, monkeypatch):
    """(file name, the Compressor in it) in models/model_patches, for features of `mean_tower`."""
    folder = tmp_path / "model_patches"
    folder.mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "model_patches", ([str(folder)], {".safetensors"}))
    made = Compressor(CompressorSpec(features=3, encoder="means", dims=2, width=5, depth=1))
    randomize(made.requires_grad_(False))
    made.normalise(torch.rand(50, 3, generator=torch.Generator().manual_seed(0)))
    save_compressor(made, folder / "c.safetensors")
    return "c.safetensors", made


def test_frames_of_each_share_are_encoded_in_batches():
    (tower, seen), video = mean_tower(), frames(32, 8, 8)
    plan = encode_video(tower, video, 8.0, 2.0, 112)
    assert (plan.fps, plan.encoder, plan.seconds) == (2.0, "means", 4.0)
    for i in range(8):
        pair = video[[4 * i + 1, 4 * i + 3]]
        quarter = pair[:, 4:, :4].mean((0, 1, 2))
        torch.testing.assert_close(plan.tokens[i, 1, 0], quarter)
    assert seen == [(6, 112), (6, 112), (4, 112)], "three token frames at a time, two frames each"


def test_a_compressor_makes_its_mean(compressor):
    name, made = compressor
    tower, video = mean_tower()[0], frames(32, 8, 8)
    plan, picture = SemanticEncoderNode.execute(tower, video, 8.0, 2.0, name).args
    raw = encode_video(tower, video, 8.0, 2.0).tokens
    torch.testing.assert_close(plan.tokens, made(raw)[0])
    assert plan.encoder == compressed_encoder(made.spec, made.state_dict())
    expected = paint_plan(plan.tokens).repeat_interleave(16, 1).repeat_interleave(16, 2)
    assert torch.equal(picture, expected)
    assert picture.shape == (8, 32, 32, 3)


def test_a_compressor_of_another_tower_is_refused(compressor):
    other = VisionTower("others", 2, (), mean_tower()[0].encode, lambda *_: 1)
    with pytest.raises(ValueError, match="^compressor: trained on features of 'means', but the encoder is 'others'"):
        SemanticEncoderNode.execute(other, frames(8, 8, 8), 8.0, 2.0, compressor[0])


def test_broken_weights_and_pictures_are_refused():
    tower = mean_tower()[0]
    broken = VisionTower("broken", 2, (), lambda video, longest: tower.encode(video, longest) / 0, lambda *_: 1)
    with pytest.raises(ValueError, match=r"^encoder: holds NaN or infinite values"):
        SemanticEncoderNode.execute(broken, frames(8, 8, 8), 8.0, 2.0)
    with pytest.raises(ValueError, match=r"^video: contains NaN or infinite values"):
        SemanticEncoderNode.execute(tower, frames(8, 8, 8) / 0, 8.0, 2.0)
    with pytest.raises(ValueError, match=r"^plan_fps 5: must be above 0 and at most 4"):
        SemanticEncoderNode.execute(tower, frames(8, 8, 8), 8.0, 5.0)


def test_a_video_file_brings_its_own_rate():
    video = frames(12, 8, 8)
    components = SimpleNamespace(images=video, frame_rate=Fraction(24, 2))
    file = SimpleNamespace(get_components=lambda: components)
    plan = SemanticEncoderNode.execute(mean_tower()[0], file, 16.0, 3.0).args[0]
    assert torch.equal(plan.tokens, encode_video(mean_tower()[0], video, 12.0, 3.0).tokens)


def test_clip_vision_as_the_encoder(open_clip_weights):
    eye, video = host_objects(open_clip_weights[1])[0], frames(2 * BATCH + 4, 60, 90)
    plan = SemanticEncoderNode.execute(eye, video, 8.0, 4.0).args[0]
    features = tower_of(eye).encode(video[1::2], 0)
    assert plan.tokens.shape == (BATCH + 2, 6, 6, 64)
    torch.testing.assert_close(plan.tokens, features, rtol=1e-4, atol=1e-5)


def test_room_is_made_and_progress_told(compressor, monkeypatch):
    """16 numbers of float32 for each pixel of the first batch, three token frames of two frames each."""
    asked, told = [], []

    class Bar:
        def __init__(self, total):
            told.append(total)

        def update(self, count):
            told.append(count)

    def load(models, memory_required):
        asked.append((models, memory_required))

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", load)
    monkeypatch.setattr(patch.comfy.utils, "ProgressBar", Bar)
    (tower, seen), patcher = mean_tower(), SimpleNamespace(model=compressor[1], load_device="cpu")
    tower = VisionTower("means", 2, ("tower",), tower.encode, tower.batch)
    encode_video(tower, frames(32, 6, 10), 8.0, 2.0)
    encode_video(tower, frames(8, 6, 10), 8.0, 2.0, compressor=(patcher, "named"))
    assert asked == [(["tower"], 4 * 16 * 6 * 6 * 10), (["tower", patcher], 4 * 16 * 4 * 6 * 10)]
    assert told == [16, 6, 6, 4, 4, 4]
    assert seen == [(6, 0), (6, 0), (4, 0), (4, 0)], "the video's own size is looked at"


def test_batches_by_the_size_of_a_picture():
    asked, tower = [], mean_tower()[0]

    def batch(*given):
        asked.append(given)
        return 1

    encode_video(VisionTower("means", 2, (), tower.encode, batch), frames(8, 6, 10), 8.0, 2.0, 112)
    assert asked == [(6, 10, 112)]


def test_interrupting_stops_between_batches():
    tower, seen = mean_tower()

    def encode(video, longest):
        comfy.model_management.interrupt_current_processing()
        return tower.encode(video, longest)

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        encode_video(VisionTower("means", 2, (), encode, tower.batch), frames(32, 8, 8), 8.0, 2.0)
    assert len(seen) == 1


# ---- what a plan looks like


def plan(seed=0, time=4, rows=2, dims=5, encoder="toy"):
    tokens = torch.randn(time, rows, 3, dims, generator=torch.Generator().manual_seed(seed))
    return SemanticPlan(tokens, 2.0, encoder)


def test_preview_in_the_colours_of_another():
    a, b = plan(), plan(1)
    picture, info = PlanPreviewNode.execute(a, 2, like=b).args
    assert torch.equal(picture[:, ::2, ::2], paint_plan(a.tokens, colours_of(b.tokens)))
    assert torch.equal(picture[:, 1::2, 1::2], picture[:, ::2, ::2])
    assert info.splitlines()[:3] == [
        "2 s: 4 token frames, 2 a second",
        "2 x 3 tokens a frame, 5 dimensions each",
        "encoder: toy",
    ]


def test_likeness_is_the_mean_cosine():
    a, b = plan(), plan(1, time=3)
    middle = b.tokens.reshape(-1, 5).mean(0)
    expected = []
    for i in range(3):
        pairs = zip((a.tokens[i] - middle).reshape(-1, 5), (b.tokens[i] - middle).reshape(-1, 5))
        expected.append(sum(float(x @ y / x.norm() / y.norm()) for x, y in pairs) / 6)
    line = described(a, b).splitlines()[3]
    assert line.endswith("over time " + " ".join(f"{value:.2f}" for value in expected))
    assert line.startswith(f"alike: {sum(expected) / 3:.3f} ")
    assert "alike: 1.000" in described(a, a)
    other = described(a, plan(rows=3)).splitlines()
    assert other == [
        *described(a).splitlines(),
        "alike: not compared, the other plan has another number of tokens a frame",
    ]
    assert "1 token frame, 2 a second" in described(plan(time=1)) and described(plan(time=1)).startswith("0.5 s: ")


def test_what_cannot_be_compared():
    for other, message in (
        (plan(encoder="b"), "like: made by 'b', expected 'toy'"),
        (plan(dims=4), "like: 4 dimensions, expected 5"),
        (SemanticPlan(torch.full((1, 1, 1, 5), float("nan")), 2.0, "toy"), "like: holds NaN"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            PlanPreviewNode.execute(plan(), like=other)
