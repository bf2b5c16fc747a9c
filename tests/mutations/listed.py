"""Mutations that tests once did not notice, and the tests that do now: `python run.py mutate list [WORD]`.

(why, file, old text, new text, tests as pytest takes them). The old text stands in the file exactly once.
"""

SWIN = "tests/host/test_swin_renderer.py"
SWIN_ANCHORS = "tests/host/test_swin_renderer_anchors.py"
SWIN_STACKING = "tests/host/test_swin_renderer_stacking.py"
POSITIONS = "tests/host/test_swin_positions.py"
TIMELINE = "tests/host/test_swin_timeline.py"
FAMILIES = ("tests/host/test_families.py",)
VAP = ("tests/host/test_video_prompt_rows.py",)
REFERENCE = ("tests/host/test_video_reference.py",)
ADAPTER = ("tests/host/test_ssg_adapter_rows.py",)
VALUES = ("tests/host/test_values.py",)
CLIP_MASK = ("tests/kernels/test_clip_mask.py",)
GEOMETRY = ("tests/kernels/test_clip_mask_geometry.py",)
PHRASES = ("tests/host/test_clip_mask_values.py",)
PICTURES = ("tests/kernels/test_visual_prompt.py",)
VISION = ("tests/host/test_vision.py",)
PLANS = ("tests/host/test_semantic_plan.py",)
STORIES = "tests/world/test_story_scores.py"
DRIFT = "tests/host/test_drift.py"

MUTATIONS = [
    # ---- Swin Renderer
    (
        "blend by strength reversed",
        "patches/swin_renderer.py",
        "torch.lerp(proceed(call), out, config.strength)",
        "torch.lerp(out, proceed(call), config.strength)",
        (SWIN + "::test_strength_blends_windows_into_full_attention",),
    ),
    (
        "a run's frames are the video's, not the context window's",
        "host/forward.py",
        "frames = min(frames, windows.context_length",
        "frames = max(frames, windows.context_length",
        (SWIN_STACKING + "::test_context_windows_count_with_the_frame_in_front_of_them",),
    ),
    (
        "a run's frames leave out the frame in front of a context window",
        "host/forward.py",
        'int(getattr(windows, "causal_window_fix", False))',
        "0",
        (SWIN_STACKING + "::test_context_windows_count_with_the_frame_in_front_of_them",),
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
        "interval=config.interval",
        "interval=ALWAYS",
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
        "2 * trained if config.compressed",
        "trained if config.compressed",
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
        "Phantom's frames stay behind",
        "host/families/wan.py",
        "return first_axis(module.rope_embedder, stretch, following)",
        "return first_axis(module.rope_embedder, stretch)",
        (POSITIONS + "::test_reference_frames_keep_their_distance",),
    ),
    (
        "windows that follow a timeline do not look back",
        "patches/swin_renderer.py",
        "int(bool(timeline)) if",
        "0 if",
        (TIMELINE + "::test_windows_are_the_parts_and_one_frame_before_them",),
    ),
    (
        "pieces forget their anchors",
        "host/pieces.py",
        "                if seen:",
        "                if False:",
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
        "an error in a sampler does not name its node",
        "host/editing.py",
        'str(error) if named else f"{editor.name}: {error}"',
        "str(error)",
        (SWIN_ANCHORS + "::test_anchors_beyond_the_budget_stop_before_the_first_step",),
    ),
    # ---- families
    ("trained frames of the 5B model", "host/families/wan.py", "return 31 if", "return 21 if", FAMILIES),
    ("trained frames of HunyuanVideo", "host/families/hunyuan.py", "return 33", "return 32", FAMILIES),
    ("odd latents floored", "host/families/wan.py", "tuple(ceil(n / p) for", "tuple(n // p for", FAMILIES),
    (
        "odd latents floored, seen by Swin Renderer",
        "host/families/wan.py",
        "tuple(ceil(n / p) for",
        "tuple(n // p for",
        (SWIN + "::test_odd_latents_are_padded_to_whole_tokens",),
    ),
    (
        "odd reference frames padded",
        "host/families/wan.py",
        "before = prod(n // p for",
        "before = prod(-(-n // p) for",
        FAMILIES,
    ),
    # ---- Video-As-Prompt
    (
        "start and end dropped by the patch",
        "patches/video_prompt.py",
        "interval=config.interval",
        "interval=ALWAYS",
        VAP,
    ),
    (
        "start and end dropped by the node",
        "nodes/video_prompt.py",
        "VideoPrompt(strength, windows, Interval(start, end))",
        "VideoPrompt(strength, windows)",
        VAP,
    ),
    (
        "blend by strength reversed, VAP",
        "patches/video_prompt.py",
        "torch.lerp(proceed(call), out, config.strength)",
        "torch.lerp(out, proceed(call), config.strength)",
        VAP,
    ),
    (
        "in step with mirrored frames",
        "kernels/video_prompt.py",
        "sorted({min(frame * reference_frames // total_frames, last) for frame in frames})",
        "sorted({last - min(frame * reference_frames // total_frames, last) for frame in frames})",
        ("tests/kernels/test_video_prompt.py",),
    ),
    (
        "reference not normalised",
        "host/reference.py",
        "process_in(vae.encode(frames))",
        "vae.encode(frames)",
        REFERENCE,
    ),
    (
        "first frame not normalised",
        "host/reference.py",
        "process_in(vae.encode(padded_start(frames)))",
        "vae.encode(padded_start(frames))",
        REFERENCE,
    ),
    (
        "black instead of grey",
        "host/start_image.py",
        "GREY = 0.5",
        "GREY = 0.0",
        REFERENCE,
    ),
    ("in_negative always", "nodes/video_prompt.py", "if in_negative:", "if True:", REFERENCE),
    ("fps ignored", "kernels/video_prompt.py", 'if selection == "first" and fps > 0:', "if False:", REFERENCE),
    (
        "RoPE scale of the reference ignored",
        "host/wan_stream.py",
        "position * scale",
        "position",
        VAP,
    ),
    (
        "reference not padded",
        "host/wan_stream.py",
        "comfy.ldm.common_dit.pad_to_patch_size(latent, module.patch_size)",
        "latent",
        VAP,
    ),
    (
        "heads of the expert not compared",
        "patches/video_prompt.py",
        "(expert_module.dim, expert_module.num_heads), (backbone.dim, backbone.num_heads)",
        "(expert_module.dim, backbone.num_heads), (backbone.dim, backbone.num_heads)",
        VAP,
    ),
    (
        "the expert computes in its own dtype",
        "patches/video_prompt.py",
        "expert.set_model_compute_dtype(cast or model.model.get_dtype())",
        "pass",
        VAP,
    ),
    # ---- hard to see on a CPU
    ("precision hint of attend", "host/editing.py", ", low_precision_attention=False", "", ADAPTER),
    ("masks of three axes", "host/editing.py", "else mask.unsqueeze(1)", "else mask.unsqueeze(0)", VALUES),
    ("the adapter writes into the host's result", "patches/ssg_adapter.py", "out = out.clone()", "out = out", ADAPTER),
    ("saving is not atomic", "host/weights.py", "path.with_name(PARTIAL.format(path.name))", "path", VALUES),
    # ---- spatial prompting
    ("parts of a long phrase averaged", "patches/clip_mask.py", "mask.amax(1) for", "mask.mean(1) for", PHRASES),
    (
        "temporal smoothing halved by the patch",
        "patches/clip_mask.py",
        "config.smoothing)",
        "config.smoothing / 2)",
        PHRASES,
    ),
    ("temporal smoothing halved", "kernels/clip_mask.py", "- time) / frames)", "- time) / frames * 2)", CLIP_MASK),
    (
        "letterbox drops patches that it fills in part",
        "kernels/clip_mask.py",
        "self.box[axis] // patch, min(-(-self.box[axis + 2] // patch), self.size // patch)",
        "-(-self.box[axis] // patch), self.box[axis + 2] // patch",
        GEOMETRY,
    ),
    (
        "outline ignores strength",
        "kernels/visual_prompt.py",
        "image + strength * line *",
        "image + line *",
        PICTURES,
    ),
    # ---- semantic plans
    (
        "frames from the start of their share",
        "kernels/semantic_plan.py",
        "(j + 0.5) / each",
        "j / each",
        ("tests/kernels/test_semantic_plan.py",),
    ),
    (
        "colours with the signs that the solver left",
        "kernels/plan_colours.py",
        "vectors[largest, torch.arange(count)].sign()",
        "1",
        ("tests/kernels/test_plan_colours.py",),
    ),
    (
        "swap takes the other plan's beginning",
        "kernels/plan_mixing.py",
        "torch.lerp(head, b.tokens[:needed]",
        "torch.lerp(head, b.tokens[-needed:]",
        ("tests/kernels/test_plan_mixing.py",),
    ),
    (
        "the pair of frames of a patch in the wrong order",
        "host/vision.py",
        "x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)",
        "x.flip(1).permute(0, 3, 6, 4, 7, 2, 1, 5, 8)",
        VISION,
    ),
    ("windows of Qwen's tower everywhere", "host/qwen_folder.py", 'said["fullatt_block_indexes"]\n', "[]\n", VISION),
    ("the class token is taken for a patch", "host/vision.py", "tokens[:, extra:]", "tokens[:, : grid * grid]", VISION),
    (
        "a plan's tokens half a token frame late",
        "kernels/plan_rope.py",
        "dtype=torch.float64) + 0.5) * first_frames[-1] / count",
        "dtype=torch.float64) + 1.0) * first_frames[-1] / count",
        ("tests/kernels/test_plan_rope.py",),
    ),
    (
        "plan tokens stay where they are in a window",
        "kernels/plan_adapter.py",
        "grid_positions(times[start:end] + moved, y, x)",
        "grid_positions(times[start:end], y, x)",
        ("tests/kernels/test_plan_adapter.py",),
    ),
    (
        "every token frame reads all spans",
        "patches/planner.py",
        "if len(tokens) > 1 else None",
        "if len(tokens) > 99 else None",
        ("tests/host/test_planner.py",),
    ),
    (
        "the plan acts on VACE's own blocks",
        "patches/plan_adapter.py",
        'call.site.stream != "side" and video',
        "video",
        ("tests/host/test_plan_adapter.py",),
    ),
    (
        "a compressor for any tower",
        "patches/semantic_plan.py",
        "if spec.encoder != tower.name:",
        "if False:",
        PLANS,
    ),
    (
        "the whole video at once",
        "patches/semantic_plan.py",
        "range(0, len(numbers), at_once)",
        "range(0, len(numbers), len(numbers))",
        PLANS,
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
        "a copy for an area has the timeline of the other prompt",
        "host/forward.py",
        'if own := spans.get(id(entry["model_conds"].get("c_crossattn"))):',
        "if own := next(iter(self.timelines.values()), None):",
        (TIMELINE + "_rows.py::test_regions_have_timelines_of_their_own",),
    ),
    (
        "words of a span see the whole video",
        "patches/prompt_timeline.py",
        "parts.append(Part(merged(columns), without(seen[span], hidden)))",
        "parts.append(Part(merged(columns), seen[span]))",
        (TIMELINE + "_joint.py::test_it_is_attention_with_one_dense_mask",),
    ),
    (
        "all spans' words go through the refiner together",
        "patches/prompt_timeline.py",
        "out[rows, tokens] = alone(rows, tokens)",
        "pass",
        (TIMELINE + "_joint.py::test_the_refiner_sees_one_text_at_a_time",),
    ),
    (
        "frames are counted in the context window",
        "patches/prompt_timeline.py",
        "[times[frame] for frame in frames]",
        "times[: len(frames)]",
        (TIMELINE + "_rows.py::test_context_windows_around_it",),
    ),
    (
        "a part is not put into its window",
        "patches/swin_renderer.py",
        "if call.frames is not None:",
        "if call.frames is not None and not call.frames:",
        (TIMELINE + "_joint.py::test_in_windows_of_swin_renderer_in_either_order",),
    ),
]
