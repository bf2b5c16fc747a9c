"""What nodes share: socket types, folders, categories, checks of pictures, and the inputs that every patch node ends
with."""

import json
from collections import Counter
from pathlib import Path

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io

from ..host.target_file import target_file
from ..training.loss_plot import loss_plot
from ..training.validation import PATIENCE
from ..training.video_files import ENDINGS, listing

GUIDANCE = "semantic video/guidance"
LONG_VIDEO = "semantic video/long video"
SPATIAL_PROMPT = "semantic video/spatial prompt"
PLANS = "semantic video/plan"
MODEL_PATCHES = "model_patches"  # ComfyUI's folder of adapters and experts
DTYPES = {"default": None, "fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
Clip = io.Custom("SEMVID_CLIP")
Adapter = io.Custom("SEMVID_SSG_ADAPTER")
Expert = io.Custom("SEMVID_VAP_EXPERT")
Plan = io.Custom("SEMVID_PLAN")
PlanAdapter = io.Custom("SEMVID_PLAN_ADAPTER")
Planner = io.Custom("SEMVID_PLANNER")
Tower = io.Custom("SEMVID_VISION_TOWER")
EXPECTED: set[Path] = set()  # files that nodes have written or found, and not missed since
GONE: Counter[Path] = Counter()  # how often they were missed


def min_sigma_input(default: float, published: str):
    """`published` says what the default is."""
    return io.Float.Input(
        "min_sigma",
        default=default,
        min=0.0,
        max=1.0,
        step=0.001,
        advanced=True,
        tooltip="Acts only at noise levels above this, whatever the schedule: 1 is pure noise. Higher stops earlier, 0 "
        f"leaves it to start and end. {published}",
    )


def strength_start_end(strength: str, maximum: float = 1.0) -> list:
    """`strength` says what a higher value does."""
    return [
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.0,
            max=maximum,
            step=0.05,
            tooltip=f"{strength} 0 leaves the model exactly as it is.",
        ),
        io.Float.Input(
            "start",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="Where in the denoising schedule this begins to act: 0 is the first, noisiest step. Higher starts "
            "later.",
        ),
        io.Float.Input(
            "end",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="Where in the denoising schedule this stops acting: 1 is the last step. Lower stops earlier.",
        ),
    ]


def weight_dtype() -> io.Combo.Input:
    """The widget of loaders that says how weights are kept; its values are the keys of DTYPES."""
    return io.Combo.Input(
        "weight_dtype",
        options=list(DTYPES),
        default="default",
        advanced=True,
        tooltip="How the weights are kept. default is as in the file; fp8 takes less memory and loses a little "
        "precision.",
    )


def number(kind, name: str, default, least, most, tooltip: str, step=1, **options):
    """An input of `kind`, io.Int or io.Float."""
    return kind.Input(name, default=default, min=least, max=most, step=step, tooltip=tooltip, **options)


def folder_input():
    """Of nodes that train: where the videos are."""
    return io.String.Input(
        "folder",
        default="",
        tooltip=f"Full path of a folder with videos ({', '.join(ENDINGS)}), and beside each a .txt of the same name "
        "that says what it shows. More and more different videos teach more.",
    )


def resume_input():
    return io.Boolean.Input(
        "resume",
        default=False,
        tooltip="Go on from the last checkpoint of this filename, with the same settings. Off starts anew, and refuses "
        "to write over a file.",
    )


def validation_inputs() -> list:
    """Of nodes that train on a folder of videos: how it is measured and kept."""
    later = {"optional": True, "advanced": True}
    return [
        number(
            io.Float,
            "validation",
            0.1,
            0.0,
            0.5,
            "Share of the videos held back to measure with. Higher measures better and leaves fewer to learn from; 0: "
            "none.",
            0.05,
            **later,
        ),
        number(
            io.Int,
            "validate_every",
            50,
            1,
            100000,
            "Steps between two validations. Higher costs less time. The file is written when validation is better than "
            "before.",
            **later,
        ),
        number(
            io.Int,
            "patience",
            PATIENCE,
            0,
            1000,
            "Validations without a better one that end the training. Higher waits longer; 0 never ends it early.",
            **later,
        ),
        number(
            io.Float,
            "checkpoint_minutes",
            5.0,
            0.0,
            600.0,
            "Minutes between checkpoints. Cancelling loses no more. Higher writes less often.",
            1.0,
            **later,
        ),
    ]


def described(seed: int, steps: int):
    """What a training node writes into its file: `Describe` of training/plan_videos.py."""

    def describe(state, facts: dict, losses: dict[str, float]) -> dict[str, str]:
        here = {"seed": seed, "planned_steps": steps, "steps": state.step, "minutes": round(state.seconds / 60, 1)}
        return {"training": json.dumps(facts | here | losses)}

    return describe


def plot(state, name: str) -> torch.Tensor:
    """IMAGE of a training's losses."""
    picture = np.asarray(loss_plot(state.curves, f"{name}, {state.step} steps"), dtype=np.float32) / 255
    return torch.from_numpy(picture)[None]


def rgb(name: str, image: torch.Tensor) -> torch.Tensor:
    """[n, height, width, 3] of an IMAGE: alpha is dropped, grey repeated. Raises ValueError for what is no picture."""
    if image.ndim != 4 or 0 in image.shape or image.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{name}: shape {tuple(image.shape)}; an image is [frames, height, width, 1, 3 or 4 channels], with at "
            "least one frame and pixel."
        )
    if not torch.isfinite(image).all():
        raise ValueError(f"{name}: contains NaN or infinite values. Check the node that made it.")
    return image[..., :3].expand(-1, -1, -1, 3).float().clamp(0, 1)


def model_file(folder: str, name: str) -> Path:
    """The path of a file in one of ComfyUI's folders of models. Raises ValueError for names that no file can have."""
    if "\0" in name:
        raise ValueError(f"{name!r}: a file name cannot hold a null byte. Choose a file from the list.")
    return Path(folder_paths.get_full_path_or_raise(folder, name))


def model_stamp(folder: str, name: str | None):
    """For `fingerprint_inputs` of nodes that read a file in one of ComfyUI's folders of models: another value once the
    file has changed. The name itself where there is no such file, or where another node gives it (None)."""
    path = folder_paths.get_full_path(folder, name) if name else None
    return stamp(Path(path)) if path else name


def stamp(path: Path) -> tuple[int, int]:
    """When a file was written, in nanoseconds, and its size in bytes."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def new_model_patch(
    filename: str, may_exist: bool = False, remedy: str = "or delete it first", beside: tuple[str, ...] = ()
) -> Path:
    """models/model_patches/<filename>.safetensors, for a node to write, which also writes <filename><ending> for each
    ending of `beside`. Raises ValueError for names that cannot be written, and, ending in `remedy`, for a file that
    exists already."""
    targets = patch_files(filename, beside)
    if not may_exist:
        for target in targets:
            if target.exists():
                raise ValueError(f"filename '{filename}': {target.name} exists already. Choose another name, {remedy}.")
    EXPECTED.update(targets)
    return targets[0]


def patch_files(filename: str, beside: tuple[str, ...] = ()) -> list[Path]:
    folder = folder_paths.get_folder_paths(MODEL_PATCHES)[0]
    return [target_file(folder, f"{filename}{ending}") for ending in ("", *beside)]


def times_gone(filename: str | None, beside: tuple[str, ...] = ()):
    """For `fingerprint_inputs` of nodes that write what `new_model_patch` names: how often each file was missing after
    it had been there. So a node whose file was deleted runs again; one whose file is there does not, as it would only
    refuse to write over it. The name itself where no file can have it, or where another node gives it (None)."""
    try:
        targets = patch_files(filename, beside) if filename else []
    except ValueError:
        return filename
    for target in targets:
        if target.exists():
            EXPECTED.add(target)
        elif target in EXPECTED:
            EXPECTED.remove(target)
            GONE[target] += 1
    return [GONE[target] for target in targets] or filename


def training_stamp(folder: str | None, filename: str | None, beside: tuple[str, ...] = ()) -> list:
    """For `fingerprint_inputs` of nodes that train on a folder of videos: another value once anything in it has
    changed, or what was trained has gone."""
    return [listing(folder) if folder else folder, times_gone(filename, beside)]


def clip_features(clip_vision_output) -> torch.Tensor:
    """The features that adapters and experts look at, [n, tokens, width]. Raises ValueError where there are none."""
    features = getattr(clip_vision_output, "penultimate_hidden_states", None)
    if not isinstance(features, torch.Tensor):
        raise ValueError(
            "clip_vision_output: holds no penultimate_hidden_states, the features that are looked at. Use CLIP Vision "
            "Encode or CLIP Image Features with a ViT CLIP, such as clip_vision_h."
        )
    return features
