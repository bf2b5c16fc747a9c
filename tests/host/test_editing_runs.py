"""The editing layer over a run: intervals, the steps of samplers, and what a run leaves behind."""

import gc
import weakref

import comfy.model_management
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from semantic_video.harness.sampling import Shot, sample
from semantic_video.host.run import RUN
from semantic_video.host.schedule import Interval
from semantic_video.tests.host.edits import doubling, editing, passing


def test_intervals_are_noise_levels(toys):
    """Two halves of a schedule on two samplers (Wan 2.2) act where the whole schedule does."""
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=8)
    seen = []

    def watch(call, proceed):
        seen.append((call.forward.step, round(call.forward.sigma, 4)))
        return proceed(call)

    patched = editing(model, watch, interval=Interval(0.25, 0.75))
    sample(patched, shot)
    whole = sorted({sigma for _, sigma in seen}, reverse=True)
    assert [step for step, _ in sorted(set(seen))] == [2, 3, 4, 5]
    seen.clear()
    sample(patched, shot.but(last_step=4))
    sample(patched, shot.but(start_step=4))
    assert sorted({sigma for _, sigma in seen}, reverse=True) == whole
    assert sample(editing(model, doubling, interval=Interval(0.5, 0.5)), shot).equal(sample(model, shot))


def test_the_schedule_is_that_of_the_model_sampled(toys):
    """A shift node after ours moves the interval with it."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    seen = set()

    def watch(call, proceed):
        seen.add(call.forward.step)
        return proceed(call)

    patched = editing(toys("wan-t2v"), watch, interval=Interval(0.0, 0.5))
    sample(ModelSamplingSD3().patch(patched, shift=1.0)[0], Shot("wan-t2v", steps=8))
    assert seen == {0, 1, 2, 3}


def test_second_order_samplers_and_inactive_steps(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", sampler="heun", steps=4)
    steps = []

    def watch(call, proceed):
        steps.append(call.forward.step)
        return proceed(call)

    sample(editing(model, watch), shot)
    assert steps == sorted(steps)
    assert set(steps) <= {0, 1, 2, 3}
    override_seen = []

    def probe(executor, *args, **kwargs):
        override_seen.append("optimized_attention_override" in args[5])
        return executor(*args, **kwargs)

    late = editing(model, passing, interval=Interval(0.5, 1.0))
    late.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "probe", probe)
    sample(late, Shot("wan-t2v", steps=4))
    assert override_seen == [False, False, True, True], "an inactive step must be the host's own path"


def test_a_cancelled_run_leaves_nothing_behind(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    patched = editing(model, doubling)
    expected = sample(patched, shot)

    def cancel(*args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(patched, shot, callback=cancel)
    assert RUN not in patched.model_options["transformer_options"]
    assert torch.equal(expected, sample(patched, shot))


def test_a_model_goes_with_its_last_user(toys):
    """By the count of its users alone: one in a circle stays until a garbage collection, and the host then warns of a
    memory leak and collects garbage before every model it loads."""
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=1)
    gc.collect()
    gc.disable()
    try:
        patched = editing(model, doubling)
        sample(patched, shot)
        gone = weakref.ref(patched)
        del patched
        assert gone() is None
    finally:
        gc.enable()


def test_nothing_outlives_a_run(toys):
    model, shot = toys("wan-t2v"), Shot("wan-t2v", steps=1)
    runs = weakref.WeakSet()

    def watch(call, proceed):
        runs.add(call.forward)
        return proceed(call)

    def objects_kept(of):
        sample(of, shot)
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(50):
            sample(of, shot)
        gc.collect()
        return len(gc.get_objects()) - before

    patched = editing(model, watch)
    host, ours = objects_kept(model.clone()), objects_kept(patched)  # the host itself keeps a few for any clone
    assert len(runs) == 0
    assert ours <= host + 10, f"{ours} objects kept after 50 runs, {host} without the patch"
    assert set(patched.model_options) == set(model.model_options)


def test_a_model_called_without_a_sampler_is_edited_too(toys):
    model = toys("wan-t2v")
    comfy.model_management.load_models_gpu([model])
    steps = []

    def watch(call, proceed):
        steps.append(call.forward.step)
        return 2 * proceed(call)

    def call(of):
        options = {**of.model_options["transformer_options"], "wrappers": of.wrappers}
        return of.model.diffusion_model(
            torch.ones(1, 16, 3, 4, 4), torch.ones(1), torch.ones(1, 5, 32), transformer_options=options
        )

    plain = call(model)
    assert not torch.allclose(plain, call(editing(model, watch)))
    assert set(steps) == {0}
    rows = []

    def note_rows(call, proceed):
        rows.append(call.forward.rows)
        return proceed(call)

    patched = editing(model, note_rows)
    for order in ([0, 1], [1, 0], [0], [1]):
        options = {
            **patched.model_options["transformer_options"],
            "wrappers": patched.wrappers,
            "cond_or_uncond": order,
        }
        patched.model.diffusion_model(
            torch.ones(4, 16, 3, 4, 4), torch.ones(4), torch.ones(4, 5, 32), transformer_options=options
        )
    assert list(dict.fromkeys(rows)) == [(0, 0, 1, 1), (1, 1, 0, 0), (0,) * 4, (1,) * 4]
    assert torch.equal(plain, call(editing(model, watch, interval=Interval(0.0, 0.5))))
