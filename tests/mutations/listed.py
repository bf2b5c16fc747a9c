"""Mutations that tests once did not notice, and the tests that do now: `python run.py mutate list [WORD]`.

(why, file, old text, new text, tests as pytest takes them). The old text stands in the file exactly once.
"""

SWIN = "tests/host/test_swin_renderer.py"
SWIN_ANCHORS = "tests/host/test_swin_renderer_anchors.py"
SWIN_STACKING = "tests/host/test_swin_renderer_stacking.py"
FAMILIES = ("tests/host/test_families.py",)
NEWER = ("tests/host/test_newer_families.py",)
VAP = ("tests/host/test_video_prompt_rows.py",)
REFERENCE = ("tests/host/test_video_reference.py",)
ADAPTER = ("tests/host/test_ssg_adapter_rows.py",)
VALUES = ("tests/host/test_values.py",)
CLIP_MASK = ("tests/kernels/test_clip_mask.py",)
GEOMETRY = ("tests/kernels/test_clip_mask_geometry.py",)
PHRASES = ("tests/host/test_clip_mask_values.py",)
PICTURES = ("tests/kernels/test_visual_prompt.py",)
MUTATIONS = [
    # ---- Swin Renderer
    (
        "blend by strength reversed",
        "patches/swin_renderer.py",
        "torch.lerp(proceed(call), windows, config.strength)",
        "torch.lerp(windows, proceed(call), config.strength)",
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
        "frames = call.forward.layout.frames",
        "frames = call.forward.run.total_frames",
        (SWIN_STACKING + "::test_context_windows_around_it",),
    ),
    (
        "odd blocks do not shift",
        "patches/swin_renderer.py",
        "call.site.block % 2 == 1",
        "False",
        (SWIN + "::test_windows_are_masked_attention",),
    ),
    (
        "anchors stay where they are",
        "patches/swin_renderer.py",
        ", call.forward.step)",
        ", 0)",
        (SWIN_ANCHORS + "::test_rotating_anchors_move_with_the_step",),
    ),
    (
        "dense blocks are windowed",
        "patches/swin_renderer.py",
        " or call.site.block in dense_blocks",
        "",
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
        "config.window or automatic_window(",
        "22 or (",
        (SWIN_ANCHORS + "::test_window_0_suits_the_model_and_the_anchors",),
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
    (
        "chunks of MiniMax H3",
        "host/families/minimax.py",
        "CHUNK = (0, 1, 5, 9, 13)",
        "CHUNK = (0, 4, 8, 12, 16)",
        NEWER,
    ),
    (
        "perturbed blocks of LTX shift the others",
        "host/families/ltx.py",
        '{"self", "audio"} if options.get("stg_skip_self_attn") else set()',
        "set()",
        NEWER,
    ),
    (
        "guide frames counted in calls without them",
        "host/editing.py",
        "after = layout.after if queries >= layout.tokens else 0",
        "after = layout.after",
        NEWER,
    ),
    ("a block keeps its own attention", "host/block_numbers.py", "if name != AROUND", "if name", NEWER),
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
]
