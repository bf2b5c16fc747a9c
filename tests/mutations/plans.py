"""Semantic plans, planner, plan adapter.

(why, file, old text, new text, tests as pytest takes them); the old text stands in the file exactly once. `run.py
mutate list [WORD]` breaks the code so and runs those tests.
"""

VISION = ("tests/host/test_vision.py",)
PLANS = ("tests/host/test_semantic_plan.py",)

MUTATIONS = [
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
        "attentions of the host that add a mask add 1 and 0",
        "kernels/planner.py",
        "additive(sees[:, None], z)",
        "sees[:, None]",
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
]
