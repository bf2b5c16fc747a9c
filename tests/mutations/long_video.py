"""Long videos: windows, positions, timelines, drafts, drift, stories.

(why, file, old text, new text, tests as pytest takes them); the old text stands in the file exactly once. `run.py
mutate list [WORD]` breaks the code so and runs those tests.
"""

SWIN = "tests/host/test_swin_renderer.py"
SWIN_ANCHORS = "tests/host/test_swin_renderer_anchors.py"
SWIN_STACKING = "tests/host/test_swin_renderer_stacking.py"
POSITIONS = "tests/host/test_swin_positions.py"
TIMELINE = "tests/host/test_swin_timeline.py"
TIMELINES = "tests/host/test_prompt_timeline"
OVERLAP = "tests/kernels/test_overlap.py"
IN_TURN = "tests/host/test_swin_in_turn.py"
OWN_WINDOWS = "tests/host/test_swin_own_windows.py"
IN_RUNS = "tests/host/test_swin_own_windows_in_runs.py"
STORIES = "tests/world/test_story_scores.py"
DRIFT = "tests/host/test_drift.py"

MUTATIONS = [
    (
        "blend by strength reversed",
        "patches/swin_renderer.py",
        "torch.lerp(proceed(call), out, config.strength)",
        "torch.lerp(out, proceed(call), config.strength)",
        (SWIN + "::test_strength_blends_windows_into_full_attention",),
    ),
    (
        "windows are cut from the video's frames",
        "patches/swin_renderer.py",
        "forward, frames = call.forward, call.forward.layout.frames",
        "forward, frames = call.forward, call.forward.run.total_frames",
        (SWIN_STACKING + "::test_context_windows_around_it",),
    ),
    (
        "odd blocks do not shift",
        "patches/swin_renderer.py",
        "block % 2 == 1",
        "False",
        (SWIN + "::test_windows_are_masked_attention",),
    ),
    (
        "anchors stay where they are",
        "patches/swin_renderer.py",
        "windows.anchors(frames, forward.step)",
        "windows.anchors(frames, 0)",
        (SWIN_ANCHORS + "::test_rotating_anchors_move_with_the_step",),
    ),
    (
        "dense blocks are windowed",
        "patches/swin_renderer.py",
        "if block in self.dense_blocks:",
        "if False:",
        (SWIN + "::test_dense_blocks_keep_full_attention",),
    ),
    (
        "start and end dropped",
        "patches/swin_renderer.py",
        'interval=config.interval,\n        splits="windows"',
        'splits="windows"',
        (SWIN + "::test_what_leaves_the_host_s_path_bit_for_bit",),
    ),
    (
        "window 0 is 22 for all",
        "patches/swin_renderer.py",
        "chosen.window or automatic_window(",
        "22 or (",
        (SWIN_ANCHORS + "::test_window_0_suits_the_model_and_the_anchors",),
    ),
    (
        "a compressed budget is the trained length",
        "patches/swin_renderer.py",
        "2 * self.trained if self.config.compressed",
        "self.trained if self.config.compressed",
        (POSITIONS + "::test_what_is_automatic_suits_compressed_time",),
    ),
    (
        "places in time turn the wrong way",
        "kernels/rope.py",
        "(scale - 1.0) * places",
        "(1.0 - scale) * places",
        ("tests/kernels/test_rope.py", POSITIONS + "::test_full_attention_at_scaled_places"),
    ),
    (
        "windows that follow a timeline do not look back",
        "patches/swin_renderer.py",
        "int(bool(timeline)) if",
        "0 if",
        (TIMELINE + "::test_windows_are_the_parts_and_one_frame_before_them",),
    ),
    (
        "a lead-in is as noisy as its window",
        "kernels/overlap.py",
        "(1 - level) * x0 + level * noise",
        "x",
        (OVERLAP, OWN_WINDOWS + "::test_a_lead_in_is_ahead_of_its_window"),
    ),
    (
        "the negative prompt sees the lead-in as well as the positive one",
        "host/own_windows.py",
        "negative(conds[which], options)",
        "False",
        (OWN_WINDOWS + "::test_a_lead_in_is_ahead_of_its_window", IN_TURN),
    ),
    (
        "fresh noise is the run's own",
        "host/in_turn.py",
        "self._fresh()  # what the host has drawn for the run",
        "pass",
        (IN_TURN + "::test_the_candidate_that_goes_on_best_is_finished",),
    ),
    (
        "steps after the last window take its frames for the video's",
        "host/own_windows.py",
        '.pop("context_window", None)',
        '.get("context_window")',
        (IN_RUNS + "::test_steps_after_the_last_window_know_their_frames",),
    ),
    (
        "each window is told that it begins with the start image",
        "host/own_windows.py",
        "if found is None or window.index_list[0] == 0:",
        "if True:",
        (IN_RUNS + "::test_the_start_image_of_hunyuan_v2_is_in_the_first_window_alone",),
    ),
    (
        "a window that restarts goes on from noise alone",
        "host/in_turn.py",
        "self._fresh(), self.denoised)",
        "self._fresh(), torch.zeros_like(noise))",
        (IN_TURN + "::test_restarts_go_back_with_fresh_noise",),
    ),
    (
        "candidates are never handed on",
        "patches/swin_alone.py",
        "if config.candidates > 1 else None",
        "if False else None",
        (IN_TURN + "::test_the_candidate_that_goes_on_best_is_finished",),
    ),
    (
        "of a window's candidates the worst is finished",
        "host/in_turn.py",
        "rating < lowest",
        "rating > lowest",
        (IN_TURN + "::test_the_candidate_that_goes_on_best_is_finished",),
    ),
    (
        "a candidate is finished from other noise",
        "host/in_turn.py",
        "(1 - level) * (found - self.denoised) / level",
        "self.noise",
        (
            IN_TURN + "::test_the_candidate_that_goes_on_best_is_finished",
            IN_TURN + "::test_the_first_candidate_is_the_run_without_others",
        ),
    ),
    (
        "a run without noise of its own has candidates all the same",
        "host/in_turn.py",
        "if not noise.any():",
        "if False:",
        (IN_TURN + "::test_without_noise_of_its_own_a_run_has_no_candidates_and_does_not_go_back",),
    ),
    (
        "windows on their own changed nothing",
        "patches/swin_renderer.py",
        "forward.note(NAME)",
        "pass",
        (OWN_WINDOWS + "::test_it_says_how_many_windows_there_are_and_that_they_acted",),
    ),
    (
        "a lead-in hears the span before",
        "host/own_windows.py",
        "min(max(frame, window.first), window.last - 1)",
        "frame",
        (OWN_WINDOWS + "::test_all_of_a_window_hears_its_span",),
    ),
    (
        "pieces forget their anchors",
        "host/pieces.py",
        "            if seen:",
        "            if False:",
        ("tests/host/test_swin_memory.py::test_pieces_are_windows_of_any_kind",),
    ),
    (
        "a wrapped forward is left behind",
        "host/chunks.py",
        'module.__dict__.pop("forward", None)',
        "pass",
        ("tests/host/test_swin_memory.py::test_a_feed_forward_meets_as_many_tokens_as_the_model_was_trained_on",),
    ),
    (
        "borders that are named do not take the place of windows",
        "nodes/drift.py",
        "if borders.strip() else",
        "if not window else",
        (DRIFT + "::test_borders_take_the_place_of_windows_and_without_either_there_are_no_seams",),
    ),
    (
        "the host's CLIP vision crops the frames",
        "patches/drift.py",
        "crop=False",
        "crop=True",
        (DRIFT + "::test_the_hosts_clip_vision_serves_for_the_subject",),
    ),
    (
        "a cycle at any pace is as said",
        "miniworld/oracle.py",
        "TEMPO = 1.6",
        "TEMPO = 1000.0",
        (STORIES + "::test_a_cycle_at_another_pace_is_not_as_said",),
    ),
    (
        "an object may jump at a border",
        "miniworld/story_scores.py",
        "LEEWAY = 1.5 / 64",
        "LEEWAY = 6 / 64",
        (STORIES + "::test_an_object_that_jumps_at_a_border_has_not_joined",),
    ),
    (
        "colours need not run on from span to span",
        "miniworld/story_scores.py",
        "return one_shape and all(",
        "return one_shape or all(",
        (STORIES + "::test_another_object_midway_is_not_the_same",),
    ),
    (
        "the draft's last frame is not the video's",
        "kernels/draft_plan.py",
        "steps = max(length - 1, 1)",
        "steps = length",
        ("tests/kernels/test_draft_plan.py",),
    ),
    (
        "sigma is squeezed in before the step, not put in its place",
        "kernels/start_sigmas.py",
        "return exact[: step + 1], exact[step:]",
        "return exact[: step + 1], sigmas[step:]",
        ("tests/kernels/test_start_sigmas.py",),
    ),
    (
        "parts of a plan have no lead",
        "host/video_vae.py",
        "max(0, start - LEAD), start",
        "start, start",
        ("tests/host/test_draft_plan.py::test_parts_make_the_whole",),
    ),
    (
        "the draft covers the start image",
        "nodes/draft_plan.py",
        "torch.lerp(samples, plan,",
        "torch.lerp(plan, plan,",
        ("tests/host/test_draft_plan.py::test_the_start_image_stays",),
    ),
    (
        "words of a span see the whole video",
        "patches/prompt_timeline.py",
        "parts.append(Part(merged(columns), without(seen[span], hidden)))",
        "parts.append(Part(merged(columns), seen[span]))",
        (TIMELINES + "_joint.py::test_it_is_attention_with_one_dense_mask",),
    ),
    (
        "all spans' words go through the refiner together",
        "patches/prompt_timeline.py",
        "out[rows, tokens] = alone(rows, tokens)",
        "pass",
        (TIMELINES + "_joint.py::test_the_refiner_sees_one_text_at_a_time",),
    ),
    (
        "frames are counted in the context window",
        "patches/prompt_timeline.py",
        "[times[frame] for frame in frames]",
        "times[: len(frames)]",
        (TIMELINES + "_rows.py::test_context_windows_around_it",),
    ),
    (
        "a part is not put into its window",
        "patches/swin_renderer.py",
        "if call.frames is not None:",
        "if call.frames is not None and not call.frames:",
        (TIMELINES + "_joint.py::test_in_windows_of_swin_renderer_in_either_order",),
    ),
]
