"""What knows ComfyUI's insides.

(why, file, old text, new text, tests as pytest takes them); the old text stands in the file exactly once. `run.py
mutate list [WORD]` breaks the code so and runs those tests.
"""

SWIN = "tests/host/test_swin_renderer.py"
SWIN_ANCHORS = "tests/host/test_swin_renderer_anchors.py"
SWIN_STACKING = "tests/host/test_swin_renderer_stacking.py"
POSITIONS = "tests/host/test_swin_positions.py"
TIMELINES = "tests/host/test_prompt_timeline"
FAMILIES = ("tests/host/test_families.py",)
NEWER = ("tests/host/test_newer_families.py",)
VAP = ("tests/host/test_video_prompt_rows.py",)
REFERENCE = ("tests/host/test_video_reference.py",)
ADAPTER = ("tests/host/test_ssg_adapter_rows.py",)
VALUES = ("tests/host/test_values.py",)

MUTATIONS = [
    (
        "a run's frames are the video's, not the context window's",
        "host/run.py",
        "frames = min(frames, windows.context_length",
        "frames = max(frames, windows.context_length",
        (SWIN_STACKING + "::test_context_windows_count_with_the_frame_in_front_of_them",),
    ),
    (
        "a run's frames leave out the frame in front of a context window",
        "host/run.py",
        'int(getattr(windows, "causal_window_fix", False))',
        "0",
        (SWIN_STACKING + "::test_context_windows_count_with_the_frame_in_front_of_them",),
    ),
    (
        "Phantom's frames stay behind",
        "host/families/wan.py",
        "return first_axis(module.rope_embedder, stretch, following)",
        "return first_axis(module.rope_embedder, stretch)",
        (POSITIONS + "::test_reference_frames_keep_their_distance",),
    ),
    (
        "an error in a sampler does not name its node",
        "host/editing.py",
        'str(error) if named else f"{editor.name}: {error}"',
        "str(error)",
        (SWIN_ANCHORS + "::test_anchors_beyond_the_budget_stop_before_the_first_step",),
    ),
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
    ("precision hint of attend", "host/editing.py", ", low_precision_attention=False", "", ADAPTER),
    ("masks of three axes", "host/editing.py", "else mask.unsqueeze(1)", "else mask.unsqueeze(0)", VALUES),
    ("saving is not atomic", "host/weights.py", "path.with_name(PARTIAL.format(path.name))", "path", VALUES),
    (
        "a copy for an area has the timeline of the other prompt",
        "host/run.py",
        'if own := spans.get(id(entry["model_conds"].get("c_crossattn"))):',
        "if own := next(iter(self.timelines.values()), None):",
        (TIMELINES + "_rows.py::test_regions_have_timelines_of_their_own",),
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
    (
        "windows of LTX forget its frame rate",
        "patches/swin_renderer.py",
        "replace(self, frame_rate=run.frame_rate)",
        "self",
        ("tests/host/test_swin_newer.py::test_automatic_windows_of_ltx_are_seconds",),
    ),
]
