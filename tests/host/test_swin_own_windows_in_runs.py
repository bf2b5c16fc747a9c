"""Windows that go through the model one by one, beside what else a run holds: other guiders, a start image in the
latent itself, passes outside a sampler, steps outside their part of the schedule; and what they leave behind."""

import comfy.context_windows
import pytest
import torch

from semantic_video.harness.sampling import Shot, conditioning, sample, seeded
from semantic_video.host.editing import edit_attention
from semantic_video.host.levels import visit_levels
from semantic_video.host.own_windows import spoken_for
from semantic_video.host.schedule import Interval
from semantic_video.patches.alg import ALG
from semantic_video.patches.alg import apply as with_alg
from semantic_video.patches.swin_renderer import SwinRenderer, apply
from semantic_video.tests.host import guiders
from semantic_video.tests.host.test_swin_in_turn import IN_TURN
from semantic_video.tests.host.test_swin_timeline import told


def calls(model):
    """A clone of MODEL, and what each call of it was given."""
    model, seen = model.clone(), []

    def note(run, args):
        seen.append(args)
        return run(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(note)
    return model, seen


@pytest.mark.parametrize("how", [{"lead_in": 2}, IN_TURN], ids=["together", "in turn"])
def test_a_run_leaves_neither_videos_nor_the_model_behind(toys, how):
    model, shot = apply(told(toys("wan-t2v"), 3, 7), SwinRenderer(**how)), Shot("wan-t2v", steps=2)
    sample(model, shot)
    windows = model.model_options["context_handler"]
    assert (windows._answers, windows._model, windows.turn) == ([], None, None)


def test_steps_after_the_last_window_know_their_frames(toys):
    """Not those of the window that the host showed last."""
    heard = []

    def note(call, proceed):
        frames = call.forward.frames
        heard.append((len(frames), frames, spoken_for(call.forward.options, frames)))
        return proceed(call)

    config = SwinRenderer(lead_in=2, interval=Interval(0.0, 0.5))
    model = edit_attention(apply(told(toys("wan-t2v"), 3, 7), config), "Note", note, sites=("self",))
    sample(model, Shot("wan-t2v", steps=4))
    whole = [(frames, spoken) for count, frames, spoken in heard if count == 9]
    assert whole and all(frames == spoken == tuple(range(9)) for frames, spoken in whole)


def test_room_is_made_for_the_steps_of_the_whole_video(toys, monkeypatch):
    config = SwinRenderer(lead_in=2, interval=Interval(0.0, 0.5))
    model, seen = apply(told(toys("wan-t2v"), 3, 7), config), []
    counted = type(model.model).memory_required
    note = lambda self, shape, *args, **kwargs: seen.append(shape[2]) or counted(self, shape, *args, **kwargs)  # noqa: E731
    monkeypatch.setattr(type(model.model), "memory_required", note)
    sample(model, Shot("wan-t2v", steps=2))
    assert seen[0] == 9, "the first is the estimate for loading"


@pytest.mark.parametrize("make", [guiders.dual_cfg_guider, guiders.dual_model_guider, guiders.perp_neg_guider])
def test_every_guider_s_negative_prompt_is_shown_a_hidden_lead_in(toys, make):
    plain, hidden = (
        guiders.run(make(apply(told(toys("wan-t2v"), 3, 7), SwinRenderer(lead_in=2, lead_guidance=share)), 7))
        for share in (0.0, 1.0)
    )
    assert not torch.allclose(plain, hidden, rtol=1e-2, atol=1e-2)


def test_the_start_image_of_hunyuan_v2_is_in_the_first_window_alone(toys):
    model, seen = calls(apply(told(toys("hunyuan-i2v"), 3, 7), SwinRenderer(lead_in=1, blend=1)))
    sample(model, Shot("hunyuan-i2v", steps=1))
    starts = [(args["c"]["transformer_options"]["context_window"].index_list[0], args["c"]) for args in seen]
    assert {start for start, _ in starts} == {0, 1, 5}
    assert all(("guiding_frame_index" in given) == (start == 0) for start, given in starts)


def test_passes_outside_a_sampler_take_the_windows_together(toys):
    latent = {"samples": seeded(1, 16, 9, 4, 4, seed=3)}
    prompt, found = conditioning(Shot("wan-t2v"), 7, 20), []
    for how in ({"lead_in": 2}, IN_TURN):
        model, seen = calls(apply(told(toys("wan-t2v"), 3, 7), SwinRenderer(**how)))
        visit_levels(model, {"one": prompt}, latent, [0.5], lambda predict, *_: found.append(predict("one")))
        assert len(seen) == 3
        assert model.model_options["context_handler"].in_turn == (how is IN_TURN), "the user's MODEL"
    assert torch.equal(*found)


def test_comfyui_s_windows_behind_it_are_refused(toys):
    model = apply(told(toys("wan-t2v"), 3, 7), SwinRenderer(lead_in=2))
    model.model_options["context_handler"] = comfy.context_windows.IndexListContextHandler(
        comfy.context_windows.get_matching_context_schedule("standard_static"),
        comfy.context_windows.get_matching_fuse_method("pyramid"),
        context_length=5,
    )
    with pytest.raises(ValueError, match="^Swin Renderer: model: ComfyUI's context windows cut the video already"):
        sample(model, Shot("wan-t2v"))


def test_three_passes_that_windows_do_not_let_be_are_said_to_be_two(toys, caplog):
    caplog.set_level("INFO")
    model = told(toys("wan-i2v"), 3, 7)
    both = with_alg(apply(model, SwinRenderer(lead_in=2)), ALG(guidance="three passes (published)"))
    sample(both, Shot("wan-i2v", steps=1))
    assert sum("ALG: its passes need both prompts at once" in one.message for one in caplog.records) == 1
    caplog.clear()
    alone = with_alg(apply(model, SwinRenderer(lead_in=2, lead_noise=1.0)), ALG(guidance="three passes (published)"))
    sample(alone, Shot("wan-i2v", steps=1))
    assert "its passes need" not in caplog.text
