"""Video-As-Prompt, spatial prompting.

(why, file, old text, new text, tests as pytest takes them); the old text stands in the file exactly once. `run.py
mutate list [WORD]` breaks the code so and runs those tests.
"""

VAP = ("tests/host/test_video_prompt_rows.py",)
REFERENCE = ("tests/host/test_video_reference.py",)
ADAPTER = ("tests/host/test_ssg_adapter_rows.py",)
CLIP_MASK = ("tests/kernels/test_clip_mask.py",)
GEOMETRY = ("tests/kernels/test_clip_mask_geometry.py",)
PHRASES = ("tests/host/test_clip_mask_values.py",)
PARALLEL = ("tests/host/test_parallel_training.py",)
PICTURES = ("tests/kernels/test_visual_prompt.py",)

MUTATIONS = [
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
    ("in_negative always", "nodes/video_prompt.py", "if in_negative:", "if True:", REFERENCE),
    ("fps ignored", "kernels/video_prompt.py", 'if selection == "first" and fps > 0:', "if False:", REFERENCE),
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
    ("the adapter writes into the host's result", "patches/ssg_adapter.py", "out = out.clone()", "out = out", ADAPTER),
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
    (
        "processes add gradients instead of taking their mean",
        "training/parallel.py",
        "gradient.div_(group.count)",
        "gradient",
        PARALLEL,
    ),
    (
        "each process learns from the whole batch",
        "training/parallel.py",
        "range(group.rank * rows, (group.rank + 1) * rows)",
        "range(batch)",
        PARALLEL,
    ),
]
