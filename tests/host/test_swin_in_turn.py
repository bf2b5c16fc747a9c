"""Windows of a story one after another: the sampler's whole run for each, led in by finished frames, written out."""

import comfy.context_windows
import pytest
import torch

from semantic_video.harness.sampling import Shot, sample, seeded
from semantic_video.harness.toy import EVERY
from semantic_video.host.schedule import Interval
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.test_swin_own_windows import CLOSE, reference
from semantic_video.tests.host.test_swin_timeline import told

LED = [((0, 1, 2), 0), ((1, 2, 3, 4, 5, 6), 2), ((5, 6, 7, 8), 2)]  # frames of each window, and how many lead in
IN_TURN = dict(lead_in=2, order="one after another")


def written_out(model, shot, share):
    """All of the run for the first window, then for the second: frames before it are given to the model at `share` of
    the noise, and to the sampler as what they are."""
    inside, done, video = model.model.process_latent_in, None, None
    noise = seeded(shot.batch, EVERY[shot.toy].channels, shot.frames, shot.height, shot.width, seed=shot.seed)
    for frames, lead in LED:
        frames, clean = list(frames), []
        own = frames[lead:]

        def each(run, args, frames=frames, lead=lead, own=own, done=done):
            x, given, sigma = args["input"], args["c"], float(args["timestep"].max())
            window = comfy.context_windows.IndexListContextWindow(frames, dim=2, total_frames=x.shape[2])
            options = given["transformer_options"] | {"context_window": window}
            cut = {"c_concat": given["c_concat"][:, :, frames]} if "c_concat" in given else {}
            shown, out = x[:, :, frames].clone(), torch.zeros_like(x)
            if done is not None:
                both = [1 + (len(x) > len(done)), 1, 1, 1, 1]
                out = done.repeat(both)
                before = out[:, :, frames[:lead]]
                eps = noise.repeat(both)[:, :, frames[:lead]]
                shown[:, :, :lead] = (1 - share * sigma) * before + share * sigma * eps
            part = run(shown, args["timestep"], **given | cut | {"transformer_options": options})
            out[:, :, own] = part[:, :, lead:]
            return out

        alone = model.clone()
        alone.set_model_unet_function_wrapper(each)
        found = inside(sample(alone, shot, callback=lambda step, denoised, *rest, clean=clean: clean.append(denoised)))
        done = torch.zeros_like(found) if done is None else done.clone()
        video = torch.zeros_like(found) if video is None else video
        done[:, :, own], video[:, :, own] = clean[-1][:, :, own], found[:, :, own]
    return model.model.process_latent_out(video)


@pytest.mark.parametrize(
    ("name", "share"), [("wan-t2v", 0.25), ("wan-i2v", 0.0), ("hunyuan-t2v", 0.5), ("hunyuan-1.5", 1.0)]
)
def test_each_window_is_finished_before_the_next(toys, name, share):
    model, shot = toys(name), Shot(name, steps=2, batch=1 + (name == "wan-t2v"))
    config = SwinRenderer(**IN_TURN, lead_noise=share)
    got = sample(apply(told(model, 3, 7), config), shot)
    torch.testing.assert_close(got, written_out(model, shot, share), **CLOSE)
    assert torch.equal(got, sample(told(apply(model, config), 3, 7), shot)), "before or after the timeline's node"
    together = sample(apply(told(model, 3, 7), SwinRenderer(lead_in=2, lead_noise=share)), shot)
    assert not torch.allclose(got, together, rtol=1e-2, atol=1e-2)


def test_a_run_that_ends_in_noise_leads_in_by_what_it_thinks(toys):
    """As the high-noise expert of Wan 2.2 does."""
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=4, last_step=2, cfg=1.0)
    got = sample(apply(told(model, 3, 7), SwinRenderer(**IN_TURN)), shot)
    torch.testing.assert_close(got, written_out(model, shot, 0.25), **CLOSE)


def test_a_window_sees_none_that_come_after(toys):
    """With another noise in the last window's own frames nothing before it changes."""
    model, shot = apply(told(toys("wan-t2v"), 3, 7), SwinRenderer(**IN_TURN)), Shot("wan-t2v", steps=2)
    seen = []
    for change in (0.0, 1.0):
        noisy = told(model, 3, 7)

        def each(run, args, change=change):
            x = args["input"].clone()
            if x.shape[2] == 4:  # the last window
                x[:, :, 2:] += change
            return run(x, args["timestep"], **args["c"])

        noisy.set_model_unet_function_wrapper(each)
        seen.append(sample(noisy, shot))
    assert torch.equal(seen[0][:, :, :7], seen[1][:, :, :7])
    assert not torch.allclose(seen[0][:, :, 7:], seen[1][:, :, 7:], rtol=1e-2, atol=1e-2)


def test_progress_counts_on_over_the_windows(toys):
    steps = []
    model, shot = apply(told(toys("wan-t2v"), 3, 7), SwinRenderer(**IN_TURN)), Shot("wan-t2v", steps=2)
    sample(model, shot, callback=lambda step, denoised, x, total: steps.append((step, total)))
    assert steps == [(i, 6) for i in range(6)]


def test_a_cancelled_run_leaves_nothing_behind(toys):
    model, shot = apply(told(toys("wan-t2v"), 3, 7), SwinRenderer(**IN_TURN)), Shot("wan-t2v", steps=2)
    expected = sample(model, shot)

    def cancel(step, *args):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(model, shot, callback=cancel)
    assert model.model_options["context_handler"].turn is None
    assert torch.equal(expected, sample(model, shot))


def test_without_windows_there_is_no_order(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    plain = sample(apply(model, SwinRenderer(window=4)), shot)
    assert torch.equal(plain, sample(apply(model, SwinRenderer(window=4, **IN_TURN)), shot)), "no timeline"
    one = sample(apply(told(model, 3, 7), SwinRenderer(order="one after another")), shot)
    assert torch.equal(one, sample(apply(told(model, 3, 7), SwinRenderer()), shot)), "no lead-in, no blend"


def test_what_it_cannot_do_is_refused():
    for given in ({"blend": 1}, {"interval": Interval(0.5, 1.0)}, {"interval": Interval(0.0, 0.5)}):
        with pytest.raises(ValueError, match="order 'one after another': a window is finished before the next begins"):
            SwinRenderer(**IN_TURN, **given)
    with pytest.raises(ValueError, match="order 'random': choose one of together, one after another"):
        SwinRenderer(order="random")


def test_the_reference_of_windows_together_is_not_this_one(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=2)
    parts = [(frames, [0] * lead + [1] * (len(frames) - lead)) for frames, lead in LED]
    apart = sample(reference(model, parts, lead_noise=0.25), shot)
    assert not torch.allclose(apart, written_out(model, shot, 0.25), rtol=1e-2, atol=1e-2)
