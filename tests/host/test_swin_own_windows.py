"""Windows of a story that go through the model one by one: the model on each part alone, written out, and their
answers put together by weights."""

import comfy.context_windows
import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.host.families import family_of
from semantic_video.host.schedule import Interval
from semantic_video.host.timeline import SPANS
from semantic_video.patches.prompt_timeline import PromptTimeline
from semantic_video.patches.prompt_timeline import apply as with_texts
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.stacking import windows
from semantic_video.tests.host.test_swin_timeline import told
from semantic_video.tests.host.timelines import columns, timeline

CLOSE = dict(rtol=1e-3, atol=1e-4)
# lead-in 1, blend 1: [0 1 2 | 3], [1 | 2 3 4 5 6 | 7], [5 | 6 7 8]
EXAMPLE = [
    ((0, 1, 2, 3), (1, 1, 2 / 3, 1 / 3)),
    ((1, 2, 3, 4, 5, 6, 7), (0, 1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3)),
    ((5, 6, 7, 8), (0, 1 / 3, 2 / 3, 1)),
]
LED = [((0, 1, 2), (1, 1, 1)), ((1, 2, 3, 4, 5, 6), (0, 0, 1, 1, 1, 1)), ((5, 6, 7, 8), (0, 0, 1, 1))]


def levels(args, lead_noise, hidden):
    """Noise level of a lead-in for each row of a call [rows, 1, 1, 1]; the negative prompt's is noisier."""
    kinds, sigma = args["cond_or_uncond"], float(args["timestep"].max())
    each = torch.tensor([lead_noise * sigma + hidden * kind * (1 - lead_noise * sigma) for kind in kinds])
    return each.repeat_interleave(len(args["input"]) // len(kinds)).view(-1, 1, 1, 1)


def reference(model, parts, active=lambda sigma: True, lead_noise=1.0, hidden=0.0):
    """Through another hook of the host's."""

    def each(run, args):
        x, given = args["input"], args["c"]
        if not active(float(args["timestep"].max())):
            return run(x, args["timestep"], **given)
        out = torch.zeros_like(x)
        for frames, weights in parts:
            window = comfy.context_windows.IndexListContextWindow(list(frames), dim=2, total_frames=x.shape[2])
            options = given["transformer_options"] | {"context_window": window}
            cut = {"c_concat": given["c_concat"][:, :, list(frames)]} if "c_concat" in given else {}
            shown, sigma = x[:, :, list(frames)].clone(), float(args["timestep"].max())
            for i, (frame, weight) in enumerate(zip(frames, weights)):
                if weight == 0 and (lead_noise < 1 or hidden):
                    thought = out[:, :, frame]  # of each prompt its own
                    noise = (x[:, :, frame] - (1 - sigma) * thought) / sigma
                    level = levels(args, lead_noise, hidden)
                    shown[:, :, i] = (1 - level) * thought + level * noise
            part = run(shown, args["timestep"], **given | cut | {"transformer_options": options})
            out[:, :, list(frames)] += part * torch.tensor(weights).view(1, 1, -1, 1, 1)
        return out

    model = model.clone()
    model.set_model_unet_function_wrapper(each)
    return model


@pytest.mark.parametrize(
    ("name", "lead_in", "blend", "parts"),
    [("wan-t2v", 1, 1, EXAMPLE), ("wan-i2v", 2, 0, LED), ("hunyuan-t2v", 2, 0, LED), ("hunyuan-1.5", 1, 1, EXAMPLE)],
)
def test_each_window_is_the_model_on_its_frames_alone(toys, name, lead_in, blend, parts):
    """The node may stand before or after the timeline's."""
    wan = name == "wan-t2v"
    model, shot = toys(name), Shot(name, steps=1 + wan, batch=1 + wan)
    config = SwinRenderer(lead_in=lead_in, blend=blend, lead_noise=1.0)
    got = sample(apply(told(model, 3, 7), config), shot)
    torch.testing.assert_close(got, sample(reference(model, parts), shot), **CLOSE)
    assert torch.equal(got, sample(told(apply(model, config), 3, 7), shot))
    assert not torch.allclose(got, sample(apply(told(model, 3, 7), SwinRenderer()), shot), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_all_of_a_window_hears_its_span(toys, name):
    """The reference shows the model each window as a video of its own, whose one prompt is that of the span."""
    model, shot = toys(name), Shot(name, steps=1, cfg=1.0)
    positive = timeline(shot)  # cuts at 3 and 6
    parts = [((0, 1, 2, 3), (1, 1, 2 / 3, 1 / 3)), ((2, 3, 4, 5, 6), (1 / 3, 2 / 3, 1, 2 / 3, 1 / 3)),
             ((5, 6, 7, 8), (1 / 3, 2 / 3, 1, 1))]  # fmt: skip
    heard = with_texts(model, positive, PromptTimeline())
    got = sample(apply(heard, SwinRenderer(blend=1)), shot, positive=positive)
    inside, expected = model.model.process_latent_in, torch.zeros_like(got)  # Wan's latents have a mean
    for number, (frames, weights) in enumerate(parts):
        [[text, extras]] = positive
        of_span = [one[columns()[number]] for one in text]
        alone = [[torch.stack(of_span), {key: value for key, value in extras.items() if key != SPANS}]]
        only = [(frames, weights) if i == number else (own, [0] * len(own)) for i, (own, _) in enumerate(parts)]
        expected += inside(sample(reference(model, only), shot, positive=alone))
    torch.testing.assert_close(inside(got), expected, **CLOSE)


@pytest.mark.parametrize(
    ("name", "share", "hidden", "cfg"),
    [
        ("wan-t2v", 0.5, 0.0, 3.0),
        ("wan-t2v", 1.0, 0.8, 3.0),
        ("hunyuan-1.5", 0.0, 1.0, 3.0),
        ("hunyuan-1.5", 0.0, 0.0, 1.0),
    ],
)
def test_a_lead_in_is_ahead_of_its_window(toys, name, share, hidden, cfg):
    model, shot = toys(name), Shot(name, steps=1 + (name == "wan-t2v"), cfg=cfg)
    config = SwinRenderer(lead_in=1, blend=1, lead_noise=share, lead_guidance=hidden)
    got = sample(apply(told(model, 3, 7), config), shot)
    expected = sample(reference(model, EXAMPLE, lead_noise=share, hidden=hidden), shot)
    torch.testing.assert_close(got, expected, **CLOSE)
    assert not torch.allclose(got, sample(reference(model, EXAMPLE), shot), rtol=1e-2, atol=1e-2)


def test_a_part_of_the_schedule_and_long_spans(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=4)
    late = apply(told(model, 3, 7), SwinRenderer(lead_in=2, lead_noise=1.0, interval=Interval(0.0, 0.5)))
    end = float(model.get_model_object("model_sampling").percent_to_sigma(0.5))
    expected = sample(reference(model, LED, lambda sigma: sigma > end + 1e-5), shot)
    torch.testing.assert_close(sample(late, shot), expected, **CLOSE)
    pieces = [(tuple(range(max(0, a - 1), b)), (0,) * (a > 0) + (1,) * (b - a)) for a, b in [(0, 3), (3, 6), (6, 9)]]
    short = sample(apply(told(model, 6), SwinRenderer(trained=3, lead_in=1, lead_noise=1.0)), shot)
    torch.testing.assert_close(short, sample(reference(model, pieces), shot), **CLOSE)


def test_without_a_timeline_nothing_changes(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    plain = sample(apply(model, SwinRenderer(window=4)), shot)
    assert torch.equal(plain, sample(apply(model, SwinRenderer(window=4, lead_in=2, blend=1)), shot))


def test_the_host_makes_room_for_one_window(toys, monkeypatch):
    model, shot, seen = apply(told(toys("wan-t2v"), 3, 7), SwinRenderer(lead_in=1, blend=1)), Shot("wan-t2v"), []
    counted = type(model.model).memory_required

    def note(self, shape, *args, **kwargs):
        seen.append(shape[2])
        return counted(self, shape, *args, **kwargs)

    monkeypatch.setattr(type(model.model), "memory_required", note)
    sample(model, shot)
    assert seen and max(seen) == 7


def test_what_spans_windows_is_refused(toys):
    for given, name in (
        ({"anchors": "first frame"}, "anchors"),
        ({"look_back": 2}, "look_back"),
        ({"dense_blocks": "0"}, "dense_blocks"),
        ({"strength": 0.5}, "strength"),
    ):
        with pytest.raises(ValueError, match=f"lead_in 1, blend 0: windows then go through the model .* {name} cannot"):
            SwinRenderer(lead_in=1, **given)
    with pytest.raises(ValueError, match="lead_in -1, blend 0: must not be negative; 0 is none"):
        SwinRenderer(lead_in=-1)
    with pytest.raises(ValueError, match="lead_noise 1.5: must be from 0 .none. to 1"):
        SwinRenderer(lead_noise=1.5)
    with pytest.raises(ValueError, match="lead_guidance -0.5: must be from 0 .off. to 1"):
        SwinRenderer(lead_guidance=-0.5)
    with pytest.raises(ValueError, match="trained -1: must not be negative; 0 takes the model's family's"):
        SwinRenderer(trained=-1)
    with pytest.raises(ValueError, match="ComfyUI's context windows cut the video already"):
        apply(windows(toys("wan-t2v")), SwinRenderer(blend=1))
    model = toys("wan-t2v")
    assert apply(model, SwinRenderer(lead_in=1, strength=0.0)) is model


@pytest.mark.parametrize(("anchors", "window", "budget"), [("none", 6, 6), ("rotating", 6, 12)])
def test_what_is_automatic_follows_the_trained_length(toys, anchors, window, budget):
    """As for the mini model, which was trained on six latent frames."""
    model, shot = toys("wan-t2v"), Shot("wan-t2v", frames=24, height=2, width=2, steps=1)
    said = SwinRenderer(window, anchors=anchors, anchor_budget=budget, time_scale=5 / 23)
    found = SwinRenderer(anchors=anchors, time_scale=0.0, trained=6)
    torch.testing.assert_close(sample(apply(model, found), shot), sample(apply(model, said), shot), **CLOSE)
    assert family_of(model).trained_frames(model.model.diffusion_model) == 21


@pytest.mark.parametrize("order", ["together", "one after another"])
def test_it_says_how_many_windows_there_are_and_that_they_acted(toys, order, caplog):
    config = SwinRenderer(lead_in=2, order=order)
    with caplog.at_level("INFO"):
        sample(apply(told(toys("wan-t2v"), 3, 7), config), Shot("wan-t2v", steps=2))
    assert [m for m in caplog.messages if "Swin" in m and "border" not in m] == [
        "[semantic-video] Swin Renderer: 9 latent frames in 3 windows that go through the model one by one, of at most "
        "6 with lead_in and blend, time_scale 1.",
        "[semantic-video] Swin Renderer: acted in all 2 steps, all 9 latent frames.",
    ]
