"""Windows of a story one after another: the sampler's whole run for each, led in by finished frames, written out."""

import comfy.context_windows
import comfy.sample
import comfy.samplers
import pytest
import torch

from semantic_video.harness.sampling import Shot, conditioning, sample, seeded
from semantic_video.harness.toy import EVERY
from semantic_video.host.schedule import Interval
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host.test_swin_own_windows import CLOSE, levels, reference
from semantic_video.tests.host.test_swin_timeline import told

LED = [((0, 1, 2), 0), ((1, 2, 3, 4, 5, 6), 2), ((5, 6, 7, 8), 2)]  # frames of each window, and how many lead in
IN_TURN = dict(lead_in=2, order="one after another")


def written_out(model, shot, share, hidden=0.0, restarts=0, candidates=1):
    """All of the run for the first window, then for the second: frames before it are given to the model at `share` of
    the noise, and to the sampler as what they are."""
    inside, done, video = model.model.process_latent_in, None, None
    start = seeded(shot.batch, EVERY[shot.toy].channels, shot.frames, shot.height, shot.width, seed=shot.seed)
    random = torch.Generator().manual_seed(shot.seed)
    assert torch.equal(torch.randn(start.shape, generator=random), start), "fresh noise comes after the run's own"
    for frames, lead in LED:
        frames, clean, noises = list(frames), [], [start]
        own = frames[lead:]

        def each(run, args, frames=frames, lead=lead, own=own, done=done, noises=noises):
            x, given = args["input"], args["c"]
            window = comfy.context_windows.IndexListContextWindow(frames, dim=2, total_frames=x.shape[2])
            options = given["transformer_options"] | {"context_window": window}
            cut = {"c_concat": given["c_concat"][:, :, frames]} if "c_concat" in given else {}
            shown, out = x[:, :, frames].clone(), torch.zeros_like(x)
            if done is not None:
                both = [1 + (len(x) > len(done)), 1, 1, 1, 1]
                out = done.repeat(both)
                before = out[:, :, frames[:lead]]
                eps = noises[-1].repeat(both)[:, :, frames[:lead]]
                level = levels(args, share, hidden).unsqueeze(-1)
                shown[:, :, :lead] = (1 - level) * before + level * eps
            part = run(shown, args["timestep"], **given | cut | {"transformer_options": options})
            out[:, :, own] = part[:, :, lead:]
            return out

        alone = model.clone()
        alone.set_model_unet_function_wrapper(each)
        tell = lambda step, denoised, *rest, clean=clean: clean.append(denoised)  # noqa: E731
        if (restarts or candidates > 1) and done is not None:
            judged = (done[:, :, : own[0]], own, candidates)
            found = inside(sample(alone, shot, tell, sampler=euler(restarts, noises, random, judged)))
        else:
            found = inside(sample(alone, shot, tell))
        done = torch.zeros_like(found) if done is None else done.clone()
        video = torch.zeros_like(found) if video is None else video
        done[:, :, own], video[:, :, own] = clean[-1][:, :, own], found[:, :, own]
    return model.model.process_latent_out(video)


def euler(restarts, noises, random, judged):
    """A sampler that goes back to the first level of at most 0.97 when it is at the first of at most 0.85, and is at
    the first of at most 0.8 so often, each time from other noise, before it goes on from the best."""
    before, own, candidates = judged

    def run(model, x, sigmas, extra_args, callback, disable):
        top, bottom, choice = (int((sigmas <= level).nonzero()[0]) for level in (0.97, 0.85, 0.8))
        assert 0 < top < bottom - 1 and bottom <= choice < len(sigmas) - 1

        def step(i, x):
            clean = model(x, sigmas[i] * x.new_ones(len(x)), **extra_args)
            callback({"i": i, "denoised": clean, "x": x})
            return clean, x + (x - clean) / sigmas[i] * (sigmas[i + 1] - sigmas[i])

        tried = []
        for number in range(candidates):
            if number:
                noises.append(torch.randn(x.shape, generator=random))
                x = sigmas[0] * noises[-1]
            i, left = 0, restarts
            while i < (choice if candidates > 1 else len(sigmas) - 1):
                clean, x = step(i, x)
                i += 1
                if i == bottom and left:
                    noises.append(torch.randn(x.shape, generator=random))
                    x, i, left = (1 - sigmas[top]) * clean + sigmas[top] * noises[-1], top, left - 1
            tried.append((x, clean, noises[-1]))
        if candidates == 1:
            return x
        chosen = []
        for row in range(len(x)):
            marks = []
            for _, clean, _ in tried:
                frames = [*before[row, :, -2:].unbind(1), *clean[row, :, own].unbind(1)]
                earlier, border, *steps = [float((b - a).square().mean().sqrt()) for a, b in zip(frames, frames[1:])]
                marks.append(border / (earlier + sorted(steps)[(len(steps) - 1) // 2]))
            chosen.append(marks.index(min(marks)))
        picks.append(chosen)
        x, noise = (torch.stack([tried[n][part][row] for row, n in enumerate(chosen)]) for part in (0, 2))
        noises.append(noise)
        for i in range(choice, len(sigmas) - 1):
            _, x = step(i, x)
        return x

    picks = euler.picks = []
    return comfy.samplers.KSAMPLER(run)


@pytest.mark.parametrize(("name", "restarts"), [("wan-t2v", 0), ("wan-t2v", 1), ("hunyuan-t2v", 0)])
def test_the_candidate_that_goes_on_best_is_finished(toys, name, restarts):
    model, shot = toys(name), Shot(name, steps=12, batch=2, cfg=1.0)
    config, steps = SwinRenderer(**IN_TURN, restarts=restarts, candidates=3), []
    got = sample(apply(told(model, 3, 7), config), shot, lambda step, clean, x, total: steps.append((step, total)))
    torch.testing.assert_close(got, written_out(model, shot, 0.25, restarts=restarts, candidates=3), **CLOSE)
    assert any(number for chosen in euler.picks for number in chosen), "not always the first"
    assert steps == [(i, steps[0][1]) for i in range(steps[0][1])] and len(steps) > 36


def test_the_first_candidate_is_the_run_without_others(toys, monkeypatch):
    """Where it is best, what comes out is the same but for the rounding of a run in two parts."""
    from semantic_video.patches import swin_alone

    model, shot = told(toys("wan-t2v"), 3, 7), Shot("wan-t2v", steps=12)
    rated = []
    monkeypatch.setattr(swin_alone, "unevenness", lambda before, own: rated.append(own) or torch.full((1,), len(rated)))
    got = sample(apply(model, SwinRenderer(**IN_TURN, candidates=2)), shot)
    torch.testing.assert_close(got, sample(apply(model, SwinRenderer(**IN_TURN)), shot), **CLOSE)
    assert len(rated) == 4


@pytest.mark.parametrize(("name", "restarts"), [("wan-t2v", 2)])
def test_restarts_go_back_with_fresh_noise(toys, name, restarts):
    model, shot = toys(name), Shot(name, steps=8, batch=1 + (name == "wan-t2v"))
    plain, again = (SwinRenderer(**IN_TURN, lead_guidance=1.0, restarts=count) for count in (0, restarts))
    steps = []
    got = sample(apply(told(model, 3, 7), again), shot, lambda step, clean, x, total: steps.append((step, total)))
    torch.testing.assert_close(got, written_out(model, shot, 0.25, 1.0, restarts), **CLOSE)
    assert not torch.allclose(got, sample(apply(told(model, 3, 7), plain), shot), rtol=1e-2, atol=1e-2)
    assert steps == [(i, steps[0][1]) for i in range(steps[0][1])] and len(steps) > 24


def test_a_sampler_that_tells_nothing_does_not_restart_or_choose(toys):
    model, shot = told(toys("wan-t2v"), 3, 7), Shot("wan-t2v", steps=8, cfg=1.0)

    def silent(model, x, sigmas, extra_args, callback, disable):
        for here, there in zip(sigmas, sigmas[1:]):
            x = x + (x - model(x, here * x.new_ones(len(x)), **extra_args)) / here * (there - here)
        return x

    got, plain = (
        sample(apply(model, SwinRenderer(**IN_TURN, **more)), shot, sampler=comfy.samplers.KSAMPLER(silent))
        for more in ({"restarts": 2, "candidates": 2}, {})
    )
    assert torch.equal(got, plain)


def rendered(model, noise, latent, mask=None, **how):
    shot = Shot("wan-t2v")
    prompts = (conditioning(shot, 7, 20), conditioning(shot, 7, 21))
    given = ("euler", "simple", *prompts, latent)
    return comfy.sample.sample(model, noise, 12, 1.0, *given, noise_mask=mask, seed=1, disable_pbar=True, **how)


@pytest.mark.parametrize("more", [{"candidates": 3}, {"restarts": 2}], ids=["candidates", "restarts"])
def test_without_noise_of_its_own_a_run_has_no_candidates_and_does_not_go_back(toys, more):
    """As the low-noise expert of Wan 2.2 goes on from what the other left."""
    model, left = told(toys("wan-t2v"), 3, 7), seeded(1, 16, 9, 4, 4, seed=5)
    several, one = (apply(model, SwinRenderer(**IN_TURN, **given)) for given in (more, {}))
    got, plain = (rendered(which, torch.zeros_like(left), left, start_step=4) for which in (several, one))
    assert torch.equal(got, plain)


def test_what_a_mask_keeps_stays(toys):
    model = apply(told(toys("wan-t2v"), 3, 7), SwinRenderer(**IN_TURN, candidates=3))
    latent, mask = seeded(1, 16, 9, 4, 4, seed=6), torch.ones(1, 1, 9, 4, 4)
    mask[..., :2] = 0
    got = rendered(model, seeded(1, 16, 9, 4, 4), latent, mask)
    torch.testing.assert_close(got[..., :2], latent[..., :2], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(got[..., 2:], latent[..., 2:], rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("name", "share", "hidden"),
    [
        ("wan-t2v", 0.25, 0.0),
        ("wan-t2v", 0.25, 1.0),
        ("wan-i2v", 0.0, 0.0),
        ("hunyuan-t2v", 0.5, 0.7),
        ("hunyuan-1.5", 1.0, 0.0),
    ],
)
def test_each_window_is_finished_before_the_next(toys, name, share, hidden):
    model, shot = toys(name), Shot(name, steps=2, batch=1 + (name == "wan-t2v"))
    config = SwinRenderer(**IN_TURN, lead_noise=share, lead_guidance=hidden)
    got = sample(apply(told(model, 3, 7), config), shot)
    torch.testing.assert_close(got, written_out(model, shot, share, hidden), **CLOSE)
    assert torch.equal(got, sample(told(apply(model, config), 3, 7), shot)), "before or after the timeline's node"
    together = sample(apply(told(model, 3, 7), SwinRenderer(lead_in=2, lead_noise=share, lead_guidance=hidden)), shot)
    assert not torch.allclose(got, together, rtol=1e-2, atol=1e-2)


def test_without_a_negative_prompt_nothing_is_hidden(toys):
    model, shot = told(toys("wan-t2v"), 3, 7), Shot("wan-t2v", steps=2, cfg=1.0)
    for turn in (IN_TURN, {"lead_in": 2}):
        plain, guided = (apply(model, SwinRenderer(**turn, lead_guidance=hidden)) for hidden in (0.0, 1.0))
        assert torch.equal(sample(plain, shot), sample(guided, shot))


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
    with pytest.raises(ValueError, match="restarts -1: must not be negative"):
        SwinRenderer(restarts=-1)
    with pytest.raises(ValueError, match="candidates 0: must be at least 1"):
        SwinRenderer(candidates=0)


def test_the_reference_of_windows_together_is_not_this_one(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=2)
    parts = [(frames, [0] * lead + [1] * (len(frames) - lead)) for frames, lead in LED]
    apart = sample(reference(model, parts, lead_noise=0.25), shot)
    assert not torch.allclose(apart, written_out(model, shot, 0.25), rtol=1e-2, atol=1e-2)
