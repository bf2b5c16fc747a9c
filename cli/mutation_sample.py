"""Which mutations are drawn for a sample, which tests they meet, and how sure its score is."""

import math
import random
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = {"kernels": ["tests/kernels"], "miniworld": ["tests/world"]}  # room -> its tests; the others: tests/host
OTHER_TESTS = {  # of a file of patches, beside tests/host/test_NAME*.py; of another room with its folder
    "alg": ["adherence", "limits"],
    "alignvid": ["adherence", "limits"],
    "dymos": ["adherence", "limits"],
    "text_contrast": ["adherence", "limits"],
    "focal_cache": ["focal_guidance", "focal_guidance_stacking"],
    "focal_columns": ["focal_cache"],
    "focal_guidance": ["focal_cache"],
    "plan_adapter": ["limits", "planner"],
    "plan_weights": ["planner", "plan_adapter"],
    "per_frame": ["ssg_adapter_places", "ssg_adapter_refusals"],
    "timeline_text": ["prompt_timeline", "prompt_timeline_joint", "prompt_timeline_rows"],
    "prompt_words": ["attention_maps"],
    "queries": ["dymos", "text_contrast"],
    "ssg_adapter": ["ssg_image_branch", "ssg_newer"],
    "ssg_adapter_file": ["loaders", "ssg_adapter_rows", "ssg_adapter_weights"],
    "ssg_guide": ["limits", "ssg_adapter", "ssg_adapter_places", "ssg_adapter_refusals", "ssg_adapter_rows"],
    "swin_alone": ["swin_in_turn", "swin_own_windows"],
    "swin_config": ["limits", "swin_renderer_refusals", "swin_own_windows", "swin_renderer"],
    "swin_parts": ["swin_sound", "prompt_timeline_joint"],
    "swin_positions": ["swin_places_newer"],
    "swin_renderer": ["swin_memory", "swin_positions", "swin_timeline", "swin_own_windows"],
    "video_prompt": ["limits"],
    "video_prompt_expert": ["expert_files", "video_prompt_parts", "video_prompt_rows"],
    "video_prompt_keys": ["expert_files", "video_prompt_parts", "kernels/video_prompt"],
}


def room_tests(what: str) -> list[str]:
    return TESTS.get(Path(what).parts[0], ["tests/host"])


def own_tests(file: str) -> list[str]:
    """Those named after a file, and the others that are known to reach it; all of its room where there are none."""
    folder, name = room_tests(file)[0], Path(file).stem
    found = {test.relative_to(ROOT).as_posix() for test in (ROOT / folder).glob(f"test_{name}*.py")}
    if file.startswith("patches/"):
        for other in OTHER_TESTS.get(name, []):
            room, _, test = other.rpartition("/")
            found.add(f"tests/{room or 'host'}/test_{test}.py")
    return sorted(found) or room_tests(file)


def draw(names, size: int, seed: int) -> list[str]:
    """`size` of the names, or all where there are fewer; the same for one seed, whatever their order."""
    if size < 1:
        raise ValueError(f"mutate --sample {size}: must be at least 1")
    ordered = sorted(names)
    return sorted(random.Random(seed).sample(ordered, min(size, len(ordered))))


def wilson(killed: int, size: int) -> tuple[float, float]:
    """95 % interval of a share from a sample (Wilson 1927); the whole range for an empty one."""
    if size == 0:
        return 0.0, 1.0
    share, z = killed / size, 1.959964
    middle = share + z * z / (2 * size)
    half = z * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    scale = 1 + z * z / size
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def interval(killed: int, size: int) -> str:
    low, high = wilson(killed, size)
    return f"95 % interval {low:.1%} to {high:.1%}"
