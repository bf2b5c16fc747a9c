"""python run.py train mini-vae | mini-clip | mini-t2v | mini-i2v | video-prompt | ssg-adapter | plan-adapter |
planner: the mini model family of MiniWorld, by the host's own modules.

Each can be stopped and continued (--resume) and leaves in OUT a safetensors file that ComfyUI's loaders read, with the
command, the seed, the steps and the held-out scores in its metadata. Order: mini-vae and mini-clip first, then
mini-t2v, then mini-i2v, which starts from mini-t2v, then mini-i2v-deaf, which learns to ignore half of its captions,
video-prompt, the Video-As-Prompt expert beside mini-i2v, or ssg-adapter, the SSG Adapter beside mini-t2v, or
plan-adapter, compressor and Plan Adapter beside mini-t2v in windows, then planner, which draws their plans. With
--pairs or --clips, video-prompt, ssg-adapter, plan-adapter and planner are trained on videos of one's own, beside a
model of one's own.
"""

import argparse
import json
import shlex
from importlib import import_module
from pathlib import Path

from ..mini.family import WEIGHTS
from .own_files import flag_of, own_files

ROOT = Path(__file__).resolve().parent.parent
MODELS = {  # name -> module, minutes, batch, rate
    "mini-vae": ("mini.vae", 30.0, 8, 3e-3),
    "mini-clip": ("mini.clip_training", 20.0, 96, 2e-3),
    "mini-latents": ("mini.dit", 0.0, 16, 0.0),
    "mini-t2v": ("mini.dit", 180.0, 24, 8e-3),
    "mini-i2v": ("mini.dit", 60.0, 24, 6e-3),
    "mini-i2v-deaf": ("mini.dit", 15.0, 24, 1e-3),
    "video-prompt": ("mini.video_prompt", 20.0, 24, 8e-3),
    "ssg-adapter": ("mini.ssg_adapter", 10.0, 24, 8e-3),
    "plan-adapter": ("mini.plan_adapter", 22.0, 6, 8e-3),
    "planner": ("mini.planner", 12.0, 16, 8e-3),
}
OWN = {  # name -> module, with a function of it that is not "run", minutes, batch, rate
    "video-prompt": ("cli.own_expert", 60.0, 1, 5e-5),
    "ssg-adapter": ("cli.own_adapter", 60.0, 1, 3e-4),
    "plan-adapter": ("cli.own_plan:run_adapter", 60.0, 1, 3e-4),
    "planner": ("cli.own_plan:run_planner", 60.0, 16, 1e-3),
}
HELD_OUT = 200


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="run.py train",
        description=__doc__.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    options.add_argument("model", choices=MODELS)
    options.add_argument("--minutes", type=float, help="train so long (default: its own, unless --steps is given)")
    options.add_argument("--steps", type=int, help="train so many steps")
    options.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    options.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the finished files")
    options.add_argument(
        "--cache", type=Path, default=ROOT / ".cache" / "training", help="folder of checkpoints, latents and plots"
    )
    options.add_argument("--batch", type=int, help="videos (or pictures) a step")
    options.add_argument("--rate", type=float, help="highest learning rate")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--held-out",
        type=int,
        help=f"held-out scenes to score on (default: {HELD_OUT}), or videos to validate on (default: a tenth)",
    )
    options.add_argument(
        "--scenes",
        type=int,
        default=40000,
        help="distinct scenes to train the DiTs on (mini-latents only encodes them), or pairs",
    )
    options.add_argument("--export-minutes", type=float, help="also write the finished file so often")
    dit = options.add_argument_group("mini-t2v, mini-i2v")
    dit.add_argument("--start", type=Path, help="finished file of the same model to begin from")
    dit.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile the model: half a minute more at first, then much quicker on a CPU",
    )
    adapter = options.add_argument_group("ssg-adapter, plan-adapter with --clips")
    adapter.add_argument(
        "--rank", type=int, help="of the keys and values of each block: higher learns more and takes more parameters"
    )
    adapter.add_argument("--token-width", type=int, help="channels of the prompted image's tokens")
    adapter.add_argument("--blocks", help="blocks with a branch, such as 0-3,8 (default: all)")
    adapter.add_argument(
        "--spatial", choices=("rope", "none"), help="whether what the image shows somewhere is looked for there"
    )
    planner = options.add_argument_group("planner with --clips")
    planner.add_argument("--channels", type=int, help="of the planner: more learn more and take more memory")
    planner.add_argument("--heads", type=int, help="attention heads, which share the channels")
    planner.add_argument("--depth", type=int, help="blocks of the planner")
    own = options.add_argument_group(
        "videos of your own",
        "instead of MiniWorld: video-prompt with --pairs, beside a Wan I2V of 36 input channels; with --clips "
        "ssg-adapter and plan-adapter beside Wan or HunyuanVideo, and planner",
    )
    own.add_argument(
        "--pairs",
        type=Path,
        help="folder with a folder for each pair: reference.mp4, target.mp4, reference.txt, target.txt",
    )
    own.add_argument(
        "--clips", type=Path, help="folder with videos, and beside each a .txt of the same name that says what it shows"
    )
    own.add_argument("--backbone", type=Path, help="the model's file, under ComfyUI's names")
    own.add_argument("--vae", type=Path, help="file of the backbone's VAE")
    own.add_argument(
        "--text-encoder",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="file that the backbone's CLIP Loader takes, for HunyuanVideo both",
    )
    own.add_argument(
        "--clip",
        type=Path,
        help="--clips: file that this pack's CLIP Loader takes; it finds the caption in a video's first frame",
    )
    own.add_argument(
        "--clip-vision",
        type=Path,
        help="file that the backbone's CLIP Vision Loader takes, for backbones with an image branch; with --clips it "
        "also looks at the prompted image, in place of --clip",
    )
    own.add_argument(
        "--tower",
        type=Path,
        metavar="FOLDER",
        help="plan-adapter, planner: folder of Qwen2.5-VL that looks at the videos, in place of --clip",
    )
    own.add_argument("--compressor", type=Path, help="planner: file that plan-adapter has written beside the adapter")
    own.add_argument("--plan-fps", type=float, default=0.8, help="plan-adapter, planner: token frames a second")
    own.add_argument("--layers", default="0,4,8", help="--pairs: blocks of the backbone that get an expert")
    own.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=[832, 480],
        metavar=("WIDTH", "HEIGHT"),
        help="pairs are stretched to it, videos of --clips cropped",
    )
    own.add_argument(
        "--length",
        type=int,
        default=49,
        help="frames, 4 n + 1, evenly over each of a pair, or from the start of each video of --clips",
    )
    own.add_argument(
        "--fps",
        type=float,
        default=16.0,
        help="--clips: frames per second to take: 16 for Wan, 24 for HunyuanVideo; 0 as they are",
    )
    own.add_argument(
        "--style", choices=("grey", "darken", "blur"), default="grey", help="--clips: how Visual Prompt paints the mask"
    )
    own.add_argument(
        "--offload",
        action="store_true",
        help="--clips: leave the backbone in main memory, which takes less GPU memory and more time",
    )
    return options


def own_options(chosen: argparse.Namespace) -> dict:
    """What a model is told beside the plan. ValueError, naming the flag, for what it does not take."""
    given = {}
    for models, names in (
        (("mini-t2v", "mini-i2v", "mini-i2v-deaf"), ("start", "compile")),
        (("ssg-adapter", "plan-adapter") if chosen.clips else ("ssg-adapter",), ("rank", "blocks")),
        (("ssg-adapter",), ("token_width", "spatial")),
        (("planner",) if chosen.clips else (), ("channels", "heads", "depth")),
    ):
        found = {name: value for name in names if (value := getattr(chosen, name)) not in (None, False)}
        if found and chosen.model not in models:
            fitting = " and ".join(models) or "planner with --clips"
            raise ValueError(f"{flag_of(next(iter(found)))}: is for {fitting}, not for {chosen.model}.")
        given |= found
    return given


def main(arguments: list[str]) -> int:
    """Trains as the command line says; ComfyUI is on the path by then (cli/train.py)."""
    chosen = parser().parse_args(arguments)
    from ..host.frozen_model import in_training
    from ..training.parallel import first
    from ..training.plan import Plan

    own, given = own_files(chosen), own_options(chosen)
    module, minutes, batch, rate = (OWN if own else MODELS)[chosen.model]
    plan = Plan(
        chosen.model,
        chosen.cache,
        chosen.minutes or (None if chosen.steps else minutes),
        chosen.steps,
        chosen.batch or batch,
        chosen.seed,
        chosen.rate or rate,
        resume=chosen.resume,
        export_minutes=chosen.export_minutes,
        held_out=HELD_OUT if chosen.held_out is None else chosen.held_out,
        scenes=chosen.scenes,
    )
    # files are shared, paths are not
    command = shlex.join(["python", "run.py", "train", *(Path(argument).name or argument for argument in arguments)])

    def describe(state, scores, **facts) -> dict[str, str]:
        return {
            "training": json.dumps(
                {
                    "command": command,
                    "seed": plan.seed,
                    "steps": state.step,
                    "minutes": round(state.seconds / 60, 1),
                    "host": comfy_version(),
                    "held_out": scores,
                }
                | facts
            ),
            "format": "pt",
        }

    chosen.out.mkdir(parents=True, exist_ok=True)
    chosen.cache.mkdir(parents=True, exist_ok=True)
    module, _, function = module.partition(":")
    run = getattr(import_module(f"..{module}", __package__), function or "run")
    with in_training():  # hosts that fuse RoPE have no backward pass for it
        scores = run(plan, chosen.out, describe, *([own] if own else []), **given)
    if first():
        print(json.dumps({chosen.model: scores}))
    return 0


def comfy_version() -> str:
    try:
        import comfyui_version

        return comfyui_version.__version__
    except ImportError:
        return ""
