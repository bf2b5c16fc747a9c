"""Drift Report: numbers, plot and errors of the node, with a real CLIP of the host's."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from semantic_video.nodes.drift import DriftNode
from semantic_video.patches.drift import CLIP_FRAMES, as_text, measure


def video(frames=40, seed=0):
    """A square that walks over noise, and gets darker."""
    clip = torch.rand(1, 32, 48, 3, generator=torch.Generator().manual_seed(seed)).repeat(frames, 1, 1, 1) * 0.5
    for t in range(frames):
        clip[t, 8:24, t % 32 : t % 32 + 16] = 1.0
    return clip * torch.linspace(1, 0.5, frames)[:, None, None, None]


def run(image, **inputs):
    return DriftNode.execute(image, **inputs).result


def test_all_numbers_reach_the_outputs():
    report, plot, drift, values = run(video(), window=5)
    values = json.loads(values)
    assert values["borders"] == [17, 37] and len(values["seams"]) == 2
    assert (values["frames"], values["part"]) == (40, 6)
    first = float(torch.linspace(1, 0.5, 40)[:6].mean())
    last = float(torch.linspace(1, 0.5, 40)[-6:].mean())
    assert values["change"]["luma"] == pytest.approx(last / first - 1, abs=0.01)
    assert drift == pytest.approx(sum(abs(v) for v in values["change"].values()) / 4, abs=1e-6)
    assert values["subject"] is None and values["text"] is None
    assert f"quality drift {100 * drift:.1f} %" in report and "seams, median" in report
    assert plot.shape == (1, 40 + 2 * 210 + 10, 900, 3) and plot.dtype == torch.float32
    assert plot.min() >= 0 and plot.max() <= 1


def test_borders_take_the_place_of_windows_and_without_either_there_are_no_seams():
    assert json.loads(run(video(), window=5, borders="30, 7 30")[3])["borders"] == [7, 30]
    report, *_, values = run(video())
    assert json.loads(values)["seams"] == [] and "seams" not in report
    jumped = torch.cat((video()[:20], 1 - video()[20:]))
    assert json.loads(run(jumped)[3])["largest"][0][0] == 20, "the largest jump is named all the same"


def test_grey_and_transparent_frames_are_read():
    grey = video()[..., :1]
    same = run(grey.expand(-1, -1, -1, 3))[3]
    assert run(grey)[3] == same
    assert run(torch.cat((grey.expand(-1, -1, -1, 3), torch.ones(40, 32, 48, 1)), -1))[3] == same


def test_clip_sees_the_subject_and_the_text(clip):
    """Cosines as computed frame by frame."""
    frames = torch.cat((video(20), video(20, seed=5).flip(1)))
    report, plot, _, values = run(frames, clip=clip, text="a photo of a cat")
    clip.load()
    square = torch.nn.functional.interpolate(
        frames.movedim(-1, 1), (clip.size, clip.size), mode="bicubic", antialias=True
    )
    seen = torch.nn.functional.normalize(clip.encode_image(square.clamp(0, 1))["image_embeds"].float(), dim=-1)
    said = torch.nn.functional.normalize(clip.encode_text("a photo of a cat").mean(0), dim=0)
    values = json.loads(values)
    wanted = torch.nn.functional.cosine_similarity(seen[:6].mean(0), seen[-6:].mean(0), dim=0)
    assert values["subject"] == pytest.approx(float(wanted), abs=1e-3)
    told = seen @ said
    assert values["text"] == pytest.approx([float(told[:6].mean()), float(told[-6:].mean())], abs=1e-3)
    assert "subject" in report and "CLIP cosine with the text" in report
    assert plot.shape[1] == 40 + 3 * 210 + 10
    still = run(video(1).expand(40, -1, -1, -1), clip=clip)
    assert json.loads(still[3])["subject"] == pytest.approx(1.0, abs=1e-5) and json.loads(still[3])["text"] is None


class Vision:
    """As ComfyUI's CLIP_VISION: image_embeds of what it is given."""

    def __init__(self, embeds=True):
        self.asked, self.embeds = [], embeds

    def encode_image(self, image, crop=True):
        self.asked.append((len(image), crop))
        output = type("Output", (), {})()
        output.image_embeds = image[:, :4, :4].flatten(1) if self.embeds else None
        return output


def test_the_hosts_clip_vision_serves_for_the_subject():
    vision, frames = Vision(), video(100)
    _, lines = measure(frames, [], clip_vision=vision)
    values = json.loads(run(frames, clip_vision=vision)[3])
    assert vision.asked[:2] == [(32, False), (32, False)] and len(lines.picks) == CLIP_FRAMES
    near = torch.nn.functional.normalize(frames[lines.picks][:, :4, :4].flatten(1), dim=-1)
    wanted = torch.nn.functional.cosine_similarity(near[:9].mean(0), near[-9:].mean(0), dim=0)
    assert values["subject"] == pytest.approx(float(wanted), abs=1e-5) and values["text"] is None
    with pytest.raises(ValueError, match="clip_vision: gives no image_embeds"):
        run(frames, clip_vision=Vision(embeds=False))


def test_the_report_is_what_was_measured():
    """Line by line; the jumps and curves that stand behind it are the plot's."""
    frames = torch.cat((video()[:20], 1 - video()[20:]))
    drift, lines = measure(frames, [17, 20])
    first, last, change = drift.first, drift.last, drift.change
    assert first["luma"] == pytest.approx(float(lines.curves.luma[:6].mean()))
    assert last["luma"] == pytest.approx(float(lines.curves.luma[-6:].mean()))
    usual = float(lines.jumps.median())
    order = lines.jumps.argsort(descending=True)[:5]
    wanted = [(int(i) + 1, float(lines.jumps[i]) / usual) for i in order]
    assert [frame for frame, _ in drift.largest] == [frame for frame, _ in wanted]
    assert [value for _, value in drift.largest] == pytest.approx([value for _, value in wanted])
    jumped = ", ".join(f"{frame}: {value:.2f}" for frame, value in wanted)
    seams = drift.seams
    assert len(seams) == 2
    told = as_text(drift).split("\n")
    assert told[:3] == [
        "40 frames; first part: 6, last part: 6",
        "                first     last   change",
        f"sharpness    {first['sharpness']:8.4f} {last['sharpness']:8.4f} {100 * change['sharpness']:+7.1f} %",
    ]
    assert told[-2:] == [
        f"seams, median {sum(seams) / 2:.2f} of the usual jump (17: {seams[0]:.2f}, 20: {seams[1]:.2f})",
        f"largest jumps over the usual one, by frame: {jumped}",
    ]
    both = as_text(replace(drift, subject=0.5, text=(0.25, 0.125))).split("\n")
    assert "text 0.250 first, 0.125 last (CLIP cosine with the text)" in both
    values = json.loads(drift.json)
    assert values["largest"] == [[frame, round(value, 6)] for frame, value in drift.largest]


def test_what_clip_saw_is_drawn_over_time():
    """Cosines of each picked frame to the mean of the first part."""
    frames = video(40)
    _, lines = measure(frames, [], clip_vision=Vision())
    near = torch.nn.functional.normalize(frames[lines.picks][:, :4, :4].flatten(1), dim=-1)
    first = torch.nn.functional.normalize(near[:6].mean(0), dim=0)
    torch.testing.assert_close(lines.subject, near @ first)
    assert lines.text is None
    assert measure(frames, [])[1].subject is None


def test_texts_and_their_cosines_over_time(monkeypatch):
    """Of a CLIP that says what it is told: without text, or with a blank one, there are none."""
    from semantic_video.patches import drift as patch

    frames, said = video(40), torch.tensor([[1.0, 0.0, 2.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    monkeypatch.setattr(patch, "encode", lambda clip, some: SimpleNamespace(image_embeds=some[:, 0, :4, 0]))
    clip = SimpleNamespace(encode_text=lambda text: said)
    drift, lines = measure(frames, [], clip, text="two parts")
    near = torch.nn.functional.normalize(frames[:, 0, :4, 0], dim=-1)
    told = near @ torch.tensor([2.0, 0.0, 1.0, 0.0]) / 5**0.5
    torch.testing.assert_close(lines.text, told)
    assert drift.text == pytest.approx((float(told[:6].mean()), float(told[-6:].mean())))
    assert lines.picks == list(range(40))
    for blank in ({}, {"text": " "}):
        drift, lines = measure(frames, [], clip, **blank)
        assert drift.text is None and lines.text is None and drift.subject is not None


def test_a_still_video_has_no_jumps():
    """Its usual jump counts as a millionth, so that nothing is divided by 0."""
    drift, _ = measure(video(1).expand(40, -1, -1, -1).clone(), [])
    assert drift.largest == [(frame, 0.0) for frame, _ in drift.largest] and len(drift.largest) == 5
    tiny = video(1).repeat(4, 1, 1, 1)
    tiny[3] += 1e-3
    drift, lines = measure(tiny, [])
    assert drift.largest[0] == (3, pytest.approx(float(lines.jumps[2]) * 1e6)) and len(drift.largest) == 3
    assert drift.movement == pytest.approx(float(lines.jumps.mean()))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"borders": "12, x"}, "borders: 'x' is no frame of this video"),
        ({"borders": "40"}, "borders: '40' is no frame .* write numbers from 1 to 39"),
        ({"borders": "0"}, "borders: '0' is no frame"),
        ({"borders": "-3"}, "borders: '-3' is no frame"),
        ({"text": "a cat"}, "text: needs clip to be compared with"),
        ({"text": "a cat", "clip_vision": Vision()}, "text: needs clip to be compared with"),
    ],
)
def test_bad_input(inputs, message):
    with pytest.raises(ValueError, match=message):
        run(video(), **inputs)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (video()[:1], "frames: shape .* at least two frames"),
        (video()[:, :2], "frames: shape .* of at least two frames of 3 x 3 pixels"),
        (torch.full((4, 8, 8, 3), float("nan")), "image: contains NaN"),
        (torch.zeros(4, 8, 8, 2), "image: shape"),
    ],
)
def test_what_is_no_video_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        run(image)
